"""Which Jetson this is: module, board support package, power mode. Read from files, without root permissions.

A `root` other than `/` is the copy of another unit's files. Formats: NVIDIA Jetson Linux Developer Guide, releases 36.4
and 39.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 1_000_000
_PART_NUMBER = re.compile(r"nvidia,(?:p\d{4}-\d{4}\+)?(p\d{4}-\d{4})")
"""In the device tree: `nvidia,p3768-0000+p3767-0005-super` (carrier + module) or `nvidia,p3767-0005`."""
_RELEASE = re.compile(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
_MODE_IN_USE = re.compile(r"pmode:(\d+)")
_MODE_NAME = re.compile(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Jetson:
    """A Jetson as described by its files; None where they say nothing."""

    model: str
    """Name in the device tree."""
    part_number: str | None
    """Part number of the module, e.g. `p3767-0003`."""
    l4t: str | None
    """Board support package, e.g. `36.4.3`."""
    release_line: str | None
    """The first line of etc/nv_tegra_release, without its `# `."""
    power_mode: str | None
    """By name (`MAXN_SUPER`), because numbers differ between modules; `pmode:0002` if it has no name."""


def find_jetson(root: Path = Path("/")) -> Jetson | None:
    """The Jetson whose files are under `root`; None on any other machine. Never raises."""
    compatible = read_text(root / "proc/device-tree/compatible")
    release = first_line(root / "etc/nv_tegra_release").lstrip("# ")
    if "nvidia,tegra" not in compatible and not release:
        return None
    module = _PART_NUMBER.search(compatible)
    revision = _RELEASE.search(release)
    return Jetson(
        model=first_line(root / "proc/device-tree/model") or "Jetson",
        part_number=module[1] if module else None,
        l4t=f"{revision[1]}.{revision[2]}" if revision else None,
        release_line=release or None,
        power_mode=_power_mode(root),
    )


def first_line(path: Path) -> str:
    """First line of a small system file; empty if it does not exist."""
    return read_text(path).split("\n", 1)[0].strip("\0 ")


def read_text(path: Path) -> str:
    """Text of a small system file, at most 1 MB of it; empty if it does not exist."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _power_mode(root: Path) -> str | None:
    in_use = _MODE_IN_USE.search(first_line(root / "var/lib/nvpmodel/status"))
    if not in_use:
        return None
    names = {int(number): name for number, name in _MODE_NAME.findall(read_text(root / "etc/nvpmodel.conf"))}
    return names.get(int(in_use[1]), in_use[0])
