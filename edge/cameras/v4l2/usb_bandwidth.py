"""Whether the cameras of a run fit on their USB buses, from /sys and the modes that they were given.

A USB 2 camera reserves time in every microframe (125 us) before it sends anything, in one of the sizes that its
descriptors list; the kernel refuses the stream when less than that is left of 100 us (USB 2.0 5.5.4: at most 80 %).
The reckoning is the kernel's `usb_calc_bus_time`. Another `root` than `/` describes a captured machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.edge.cameras.v4l2.device import Mode
from sefa_edge.edge.cameras.v4l2.negotiation import RAW, USB_2_MBIT_S
from sefa_edge.profiles.errors import InputError

MICROFRAMES_PER_S = 8000
BUDGET_US = 100.0
PAYLOAD_HEADER_BYTES = 12
"""UVC 1.5, 2.4.3.3: before every packet."""
RAW_BYTES_PER_PIXEL = 2.0
COMPRESSED_BYTES_PER_PIXEL = 0.5
"""A quarter of raw: an estimate on the safe side. Some cameras reserve the most that they can, whatever they send."""
TRANSACTION_BYTES = 1024
PACKET_BYTES = (128, 512, 1024, 1536, 2048, 3072)
"""Where the descriptors cannot be read."""
MAX_DESCRIPTOR_BYTES = 65536
INTERFACE, ENDPOINT = 4, 5
ENDPOINT_BYTES = 7
CLASS_VIDEO = 0x0E
ISOCHRONOUS, DIRECTION_IN = 1, 0x80


@dataclass(frozen=True, slots=True)
class UsbPlace:
    """Where a camera is plugged in, and the packet sizes that it can reserve."""

    bus: int
    device: str
    """As in /sys/bus/usb/devices: `1-2.3` is port 3 of a hub on port 2 of bus 1."""
    product: str
    mbit_s: int
    packet_bytes: tuple[int, ...] | None
    """Empty: a camera of bulk transfers, which reserve nothing. None: the descriptors cannot be read."""


@dataclass(frozen=True, slots=True)
class UsbCamera:
    """A camera of the run, where it is plugged in and what it will send."""

    name: str
    place: UsbPlace
    mode: Mode

    @property
    def certain(self) -> bool:
        """Raw pictures have one size; compressed ones are estimated."""
        return self.mode.fourcc in RAW

    @property
    def bytes_s(self) -> float:
        per_pixel = RAW_BYTES_PER_PIXEL if self.certain else COMPRESSED_BYTES_PER_PIXEL
        return self.mode.width * self.mode.height * self.mode.rate_hz * per_pixel

    @property
    def bus_us(self) -> float:
        """The time that it reserves in every microframe; more than the budget when no packet is large enough."""
        sizes = PACKET_BYTES if self.place.packet_bytes is None else self.place.packet_bytes
        if not sizes:
            return 0.0
        wanted = self.bytes_s / MICROFRAMES_PER_S
        for size in sizes:
            if size - PAYLOAD_HEADER_BYTES * -(-size // TRANSACTION_BYTES) >= wanted:
                return bus_time_us(size)
        return bus_time_us(round(wanted))

    def __str__(self) -> str:
        return f"{self.name} {self.mode} {self.bytes_s / 1e6:.1f} MB/s"


def bus_time_us(size: int) -> float:
    """Time of an isochronous high-speed packet, stuffed bits and turn-around included (kernel: HS_NSECS_ISO + 5 ns)."""
    stuffed_bits = 7 * 8 * size // 6
    return ((38 * 8 * 2083 + 2083 * (3 + stuffed_bits)) // 1000 + 5) / 1000


def place_of(video_path: str, root: Path = Path("/")) -> UsbPlace | None:
    """Where the device behind `/dev/videoN`, or a link to it, is plugged in; None when it is not on USB."""
    node = os.path.basename(os.path.realpath(video_path))
    folder = (root / "sys/class/video4linux" / node / "device").resolve()
    for place in (folder, *folder.parents):
        if (place / "busnum").is_file() and (place / "speed").is_file():
            descriptors = _bytes(place / "descriptors")
            return UsbPlace(
                bus=int(_number(place / "busnum")),
                device=place.name,
                product=_text(place / "product") or place.name,
                mbit_s=int(_number(place / "speed")),
                packet_bytes=packet_sizes(descriptors) if descriptors else None,
            )
    return None


def check_bandwidth(cameras: Sequence[UsbCamera]) -> list[str]:
    """What to tell before the run.

    Raises:
        InputError: raw pictures do not fit, which is certain; with numbers and what to do.
    """
    notes = [_slow_port(camera) for camera in cameras if camera.place.mbit_s < USB_2_MBIT_S]
    buses = sorted({camera.place.bus for camera in cameras if camera.place.mbit_s == USB_2_MBIT_S})
    for bus in buses:
        sharing = [camera for camera in cameras if camera.place.bus == bus and camera.place.mbit_s == USB_2_MBIT_S]
        notes += _check_bus(bus, sharing)
    return notes


def packet_sizes(descriptors: bytes) -> tuple[int, ...]:
    """Bytes per microframe of every isochronous video endpoint towards the host, ascending (USB 2.0, 9.6.5, 9.6.6)."""
    sizes: set[int] = set()
    interface_class = 0
    for entry in _entries(descriptors):
        if entry[1] == INTERFACE and len(entry) >= 9:
            interface_class = entry[5]
        elif entry[1] == ENDPOINT and len(entry) >= ENDPOINT_BYTES and interface_class == CLASS_VIDEO:
            packet = entry[4] | entry[5] << 8
            if entry[2] & DIRECTION_IN and entry[3] & 3 == ISOCHRONOUS:
                sizes.add((packet & 0x7FF) * (1 + (packet >> 11 & 3)))
    return tuple(sorted(sizes - {0}))


def _entries(descriptors: bytes) -> Iterator[bytes]:
    """One descriptor after the other: each begins with its length and its kind."""
    at = 0
    while at + 2 <= len(descriptors) and descriptors[at] >= 2:
        yield descriptors[at : at + descriptors[at]]
        at += descriptors[at]


def _check_bus(bus: int, cameras: Sequence[UsbCamera]) -> list[str]:
    taken_us = sum(camera.bus_us for camera in cameras)
    if taken_us <= BUDGET_US:
        return []
    count = "camera does" if len(cameras) == 1 else "cameras do"
    what = "; ".join(f"{camera} takes {camera.bus_us:.0f} us" for camera in cameras)
    message = f"{len(cameras)} {count} not fit on USB bus {bus}: {what}; a microframe has {BUDGET_US:.0f} us"
    hint = "use MJPG, a smaller size or a lower rate in a camera profile, or a port of another bus (`lsusb -t`)"
    if all(camera.certain for camera in cameras) or _certain_us(cameras) > BUDGET_US:
        raise InputError(message, hint)
    return [f"{message}; {hint} (MJPG is estimated)"]


def _certain_us(cameras: Sequence[UsbCamera]) -> float:
    return sum(camera.bus_us for camera in cameras if camera.certain)


def _slow_port(camera: UsbCamera) -> str:
    return (
        f"camera {camera.name} ({camera.place.product}) runs at {camera.place.mbit_s} Mbit/s, slower than USB 2: "
        "another cable, hub or port"
    )


def _text(path: Path) -> str:
    return _bytes(path).decode(errors="replace").strip()


def _number(path: Path) -> float:
    """`speed` may be 1.5; what is no number counts as 0."""
    try:
        return float(_text(path))
    except ValueError:
        return 0.0


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_DESCRIPTOR_BYTES)
    except OSError:
        return b""
