"""Whether cameras fit on a USB bus: captured trees of /sys, descriptors as bytes, the kernel's own reckoning."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.cameras.v4l2.device import Mode
from sefa_edge.edge.cameras.v4l2.usb_bandwidth import (
    UsbCamera,
    UsbPlace,
    bus_time_us,
    check_bandwidth,
    packet_sizes,
    place_of,
)
from sefa_edge.profiles.errors import InputError

ALTERNATIVES = (128, 512, 1024, 1024 | 1 << 11, 1024 | 2 << 11)
"""wMaxPacketSize: bits 11 and 12 are further transactions per microframe."""
RAW = Mode("YUYV", 640, 480, 30.0)
SMALL = Mode("MJPG", 640, 480, 30.0)
LARGE = Mode("MJPG", 1920, 1080, 30.0)


def descriptors(packets: tuple[int, ...], interface_class: int = 0x0E) -> bytes:
    """A device, a configuration, and an interface with one endpoint for each packet size."""
    found = bytes([18, 1]) + bytes(16) + bytes([9, 2]) + bytes(7)
    for number, packet in enumerate(packets, 1):
        found += bytes([9, 4, 1, number, 1, interface_class, 2, 0, 0])
        found += struct.pack("<BBBBHB", 7, 5, 0x81, 0x05, packet, 1)
    return found


def plug_in(root: Path, video: int, device: str, *, bus: int, speed: str, content: bytes | None = None) -> str:
    """A UVC camera as /sys shows it; returns its node."""
    usb = root / f"sys/devices/pci0000:00/0000:00:14.0/usb{bus}/{device}"
    interface = usb / f"{device}:1.0"
    (interface / f"video4linux/video{video}").mkdir(parents=True)
    for name, value in (("busnum", f"{bus}\n"), ("speed", f"{speed}\n"), ("product", "HD Webcam\n")):
        (usb / name).write_text(value)
    if content is not None:
        (usb / "descriptors").write_bytes(content)
    node = interface / f"video4linux/video{video}"
    (node / "device").symlink_to("../..")
    (root / "sys/class/video4linux").mkdir(parents=True, exist_ok=True)
    (root / f"sys/class/video4linux/video{video}").symlink_to(node)
    return f"/dev/video{video}"


def camera(name: str, mode: Mode, place: UsbPlace | None) -> UsbCamera:
    assert place is not None
    return UsbCamera(name, place, mode)


def place(bus: int = 1, mbit_s: int = 480, sizes: tuple[int, ...] | None = None) -> UsbPlace:
    return UsbPlace(bus, f"{bus}-1", "HD Webcam", mbit_s, sizes)


def test_where_a_camera_is_plugged_in(tmp_path: Path) -> None:
    content = descriptors(ALTERNATIVES) + descriptors((100,), interface_class=1)
    node = plug_in(tmp_path, 4, "1-2.3", bus=1, speed="480", content=content)
    assert place_of(node, tmp_path) == UsbPlace(1, "1-2.3", "HD Webcam", 480, (128, 512, 1024, 2048, 3072))
    assert place_of("/dev/video5", tmp_path) is None


def test_descriptors_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path) -> None:
    found = place_of(plug_in(tmp_path, 0, "2-1", bus=2, speed="5000"), tmp_path)
    assert found == UsbPlace(2, "2-1", "HD Webcam", 5000, None)


def test_bus_time_is_the_kernels() -> None:
    """drivers/usb/core/hcd.c, usb_calc_bus_time(USB_SPEED_HIGH, in, isoc, 3072) and of 1024, worked out by hand."""
    assert bus_time_us(3072) == pytest.approx(60.368, abs=0.01)
    assert bus_time_us(1024) == pytest.approx(20.552, abs=0.01)


def test_two_raw_cameras_do_not_fit_on_usb_2(tmp_path: Path) -> None:
    nodes = [
        plug_in(tmp_path, number, f"1-{number}", bus=1, speed="480", content=descriptors(ALTERNATIVES))
        for number in (1, 2)
    ]
    front, wrist = (camera(name, RAW, place_of(node, tmp_path)) for name, node in zip("ab", nodes, strict=True))
    assert check_bandwidth([front]) == []
    with pytest.raises(InputError, match=r"2 cameras do not fit on USB bus 1: a YUYV 640x480 at 30 Hz 18\.4 MB") as no:
        check_bandwidth([front, wrist])
    assert "MJPG" in no.value.hint


def test_other_buses_and_usb_3_are_another_matter() -> None:
    assert check_bandwidth([camera("a", RAW, place(bus=1)), camera("b", RAW, place(bus=2))]) == []
    fast = place(bus=2, mbit_s=5000)
    assert check_bandwidth([camera("a", RAW, fast), camera("b", RAW, fast)]) == []


def test_two_of_mjpg_fit_and_too_many_are_told_not_refused() -> None:
    assert check_bandwidth([camera("a", SMALL, place()), camera("b", SMALL, place())]) == []
    (note,) = check_bandwidth([camera("a", LARGE, place()), camera("b", LARGE, place())])
    assert "2 cameras do not fit" in note
    assert "estimated" in note


def test_a_raw_picture_too_large_for_any_packet_is_refused_alone() -> None:
    with pytest.raises(InputError, match="1 camera does not fit"):
        check_bandwidth([camera("a", Mode("YUYV", 1280, 720, 30.0), place())])


def test_cameras_of_bulk_transfers_reserve_nothing() -> None:
    assert camera("a", RAW, place(sizes=())).bus_us == 0.0


def test_a_slow_port_is_told() -> None:
    (note,) = check_bandwidth([camera("wrist", SMALL, place(mbit_s=12))])
    assert "wrist (HD Webcam) runs at 12 Mbit/s" in note


@given(st.binary(max_size=300))
def test_any_bytes_are_descriptors_of_something(content: bytes) -> None:
    assert all(0 < size <= 0x7FF * 4 for size in packet_sizes(content))
