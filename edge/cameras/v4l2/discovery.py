"""Finds the device that a camera address names: a path, an index, or part of a udev name.

A `root` other than `/` is a captured file tree of another machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.profiles.errors import MissingError

BY_ID = "dev/v4l/by-id"
BY_PATH = "dev/v4l/by-path"
MAX_NUMBER_LETTERS = 32


@dataclass(frozen=True, slots=True)
class CameraWord:
    """The part of an address after `v4l2:`: DEVICE or DEVICE@PROFILE."""

    device: str
    profile: str | None


def parse_word(word: str, root: Path = Path("/")) -> CameraWord:
    """A udev name may itself contain an @: if the whole text exists as a path, there is no profile."""
    device, at, profile = word.rpartition("@")
    if not at or not profile or not device or (root / word.lstrip("/")).exists():
        return CameraWord(word, None)
    return CameraWord(device, profile)


def find_device(device: str, root: Path = Path("/")) -> str:
    """The path to open, for `/dev/video0`, `0`, `by-id/NAME`, `by-path/NAME`, or a part of such a name.

    A path is returned unchanged, so that a camera which reconnects under the same name is found again.

    Raises:
        MissingError: no device has that name, or several have; lists the candidates.
    """
    if device.startswith("/"):
        return device
    if re.fullmatch(r"[0-9]{1,4}", device):
        return str(root / f"dev/video{int(device)}")
    folder, part = _folder(device)
    if "/" not in part and (root / folder / part).exists():
        return str(root / folder / part)
    names = capture_names(root / folder)
    matches = [name for name in names if part in name]
    if len(matches) == 1:
        return str(root / folder / matches[0])
    if matches:
        raise MissingError(f"'{device}' matches {len(matches)} cameras: {', '.join(matches)}", "write more of the name")
    raise MissingError(f"no camera is named '{device}'", _candidates(root, folder, names))


def capture_names(folder: Path) -> list[str]:
    """The names in a udev folder that belong to capture nodes.

    A UVC camera has a second node, for metadata; udev numbers them, and the capture node has index 0.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
    return [name for name in names if "-video-index" not in name or name.endswith("-video-index0")]


def names_of(path: str, root: Path = Path("/")) -> list[str]:
    """The names in /dev/v4l/by-id that link to a device, in the form used in a camera address."""
    names = capture_names(root / BY_ID)
    return [f"by-id/{name}" for name in names if os.path.realpath(root / BY_ID / name) == os.path.realpath(path)]


def video_nodes(root: Path = Path("/")) -> list[str]:
    """Every `/dev/videoN`, in numerical order."""
    nodes = [path for path in (root / "dev").glob("video*") if path.name[5:].isdecimal()]
    return [str(path) for path in sorted(nodes, key=lambda path: int(path.name[5:]))]


@dataclass(frozen=True, slots=True)
class UsbPort:
    """The USB port of a camera."""

    device: str
    """As in /sys/bus/usb/devices: `1-2.3` is port 3 of a hub on port 2 of bus 1."""
    mbit_s: int


def usb_port_of(path: str, root: Path = Path("/")) -> UsbPort | None:
    """The USB port of the device `/dev/videoN`, or of a link to it; None when it is not on USB."""
    node = os.path.basename(os.path.realpath(path))
    folder = (root / "sys/class/video4linux" / node / "device").resolve()
    for place in (folder, *folder.parents):
        if (place / "busnum").is_file() and (place / "speed").is_file():
            return UsbPort(place.name, int(_number(place / "speed")))
    return None


def _number(path: Path) -> float:
    """`speed` may be 1.5; anything that is not a number counts as 0."""
    try:
        with path.open("rb") as file:
            return float(file.read(MAX_NUMBER_LETTERS))
    except (OSError, ValueError):
        return 0.0


def _folder(device: str) -> tuple[str, str]:
    if device.startswith("by-path/"):
        return BY_PATH, device.removeprefix("by-path/")
    return BY_ID, device.removeprefix("by-id/")


def _candidates(root: Path, folder: str, names: list[str]) -> str:
    if names:
        return f"in /{folder}: {', '.join(names)}"
    nodes = video_nodes(root)
    return f"devices: {', '.join(nodes)}" if nodes else "no camera is plugged in"
