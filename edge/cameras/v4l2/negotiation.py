"""Chooses one of the modes that a camera offers, and checks what the driver set."""

from __future__ import annotations

from collections.abc import Sequence

from sefa_edge.edge.cameras.v4l2.modes import Mode, printable
from sefa_edge.profiles.camera_profile import CameraProfile
from sefa_edge.profiles.errors import InputError

COMPRESSED = ("MJPG", "JPEG")
RAW = ("YUYV", "UYVY")
DECODED = (*COMPRESSED, *RAW)
"""The formats that pictures.py can decode."""
USUAL_SIZE = (640, 480)
"""Requested without a profile: a policy's input is smaller, and larger images only take longer to decode."""
USB_2_MBIT_S = 480
RATE_TOLERANCE = 0.01


def choose_mode(offered: Sequence[Mode], wanted_hz: float, usb_mbit_s: int | None) -> Mode:
    """The mode to request without a profile: nearest to 640x480, then fast enough, then the better format.

    Raw images have no JPEG artefacts and need no decoding, but two such streams do not fit on a USB 2 bus: there MJPG
    is preferred. `usb_mbit_s` None: not on USB.

    Raises:
        InputError: the camera has no format that can be decoded; lists its formats.
    """
    known = [mode for mode in offered if mode.fourcc in DECODED]
    narrow = usb_mbit_s is not None and usb_mbit_s <= USB_2_MBIT_S
    formats = (*COMPRESSED, *RAW) if narrow else (*RAW, *COMPRESSED)
    if not known:
        return _unlisted(offered, formats[0], wanted_hz)

    def distance(mode: Mode) -> tuple[float, float, int]:
        too_slow = max(0.0, wanted_hz - mode.rate_hz) if mode.rate_hz else 0.0
        return _size_distance(mode), too_slow, formats.index(mode.fourcc)

    best = min(known, key=distance)
    return Mode(best.fourcc, best.width, best.height, wanted_hz)


def profile_mode(offered: Sequence[Mode], profile: CameraProfile) -> Mode:
    """The mode of a camera profile.

    Raises:
        InputError: the camera lists its formats, and the profile's is not among them.
    """
    wanted = Mode(profile.fourcc, profile.width, profile.height, profile.rate_hz)
    if offered and wanted.fourcc not in {mode.fourcc for mode in offered}:
        has = _formats(offered)
        raise InputError(f"the camera has no {wanted.fourcc}, which profile {profile.name} requests", f"it has {has}")
    return wanted


def check_given(wanted: Mode, given: Mode, profile: CameraProfile | None) -> str | None:
    """A message about what the driver changed; None when it set what was requested.

    Raises:
        InputError: the format cannot be decoded, or differs from the profile's.
    """
    if given.fourcc not in DECODED:
        raise InputError(
            f"the camera delivers {printable(given.fourcc)}, which is not supported", f"supported: {', '.join(DECODED)}"
        )
    if given.fourcc in RAW and given.width % 2:
        raise InputError(f"the camera delivers {given}", "raw pictures need an even width: choose another size")
    same_pictures = (wanted.fourcc, wanted.width, wanted.height) == (given.fourcc, given.width, given.height)
    if profile is not None and not same_pictures:
        raise InputError(
            f"{wanted} was requested, but the camera delivers {given}",
            f"change profile {profile.name} to a mode that the camera has",
        )
    slow = given.rate_hz != 0 and abs(given.rate_hz / wanted.rate_hz - 1) > RATE_TOLERANCE
    return f"{wanted} was requested, but the camera delivers {given}" if slow or not same_pictures else None


def describe(offered: Sequence[Mode]) -> list[str]:
    """One line per format and size, with its rates, as the camera lists them."""
    rates: dict[str, list[float]] = {}
    for mode in offered:
        rates.setdefault(f"{printable(mode.fourcc)} {mode.width}x{mode.height}", []).append(mode.rate_hz)
    return [f"{size}: {', '.join(f'{rate:g}' for rate in rates[size])} Hz" for size in rates]


def _unlisted(offered: Sequence[Mode], fourcc: str, wanted_hz: float) -> Mode:
    if offered:
        has = _formats(offered)
        raise InputError(f"the camera delivers {has}, none of which is supported", f"supported: {', '.join(DECODED)}")
    return Mode(fourcc, *USUAL_SIZE, wanted_hz)


def _formats(offered: Sequence[Mode]) -> str:
    return ", ".join(sorted({printable(mode.fourcc) for mode in offered}))


def _size_distance(mode: Mode) -> float:
    """Too small is worse than too large: missing detail cannot be restored."""
    width, height = USUAL_SIZE
    missing = max(0, width - mode.width) / width + max(0, height - mode.height) / height
    spare = max(0, mode.width - width) / width + max(0, mode.height - height) / height
    return 4 * missing + spare
