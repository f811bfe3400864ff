"""Which serial ports this machine has, from sysfs and without opening one: opening alone changes its control lines.

A `root` other than `/` is the copy of another machine's files. Where sysfs has nothing about a port (a pseudo-terminal,
a container without /sys), only its path is known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLASS = "sys/class/tty"
USB_DEVICES = "sys/bus/usb/devices"
STABLE_NAMES = ("dev/serial/by-id", "dev/sefa-edge")
"""udev's own names, by manufacturer and serial number; and those of our rules, also by USB socket."""
MAX_ATTRIBUTE_BYTES = 4096
NO_UART = "0"
"""`type` of an 8250 port that the kernel reserved without a chip behind it (PORT_UNKNOWN)."""


@dataclass(frozen=True, slots=True)
class UsbIdentity:
    """What a USB device reports about itself, and the socket that it is plugged into."""

    vendor_id: str
    product_id: str
    """Four lower-case hexadecimal digits each."""
    manufacturer: str
    product: str
    serial: str
    """Empty if the device has none, as with CH340 chips."""
    socket: str
    """As in /sys/bus/usb/devices: `1-2.3` is port 3 of a hub on port 2 of bus 1."""


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial port, and what is known about it."""

    path: str
    """As given by the user, or `/dev/ttyACM0`."""
    node: str
    """Its name in the kernel: `ttyACM0`."""
    stable_names: tuple[str, ...]
    """Paths in STABLE_NAMES, which stay the same whatever else is plugged in."""
    usb: UsbIdentity | None
    driver: str
    """Empty: not in sysfs."""

    @property
    def name(self) -> str:
        """What to give as `--port`."""
        return self.stable_names[0] if self.stable_names else self.path


def find_serial_ports(root: Path = Path("/")) -> list[SerialPort]:
    """Every serial port with hardware behind it, USB ones first."""
    nodes = sorted((entry.name for entry in _entries(root / CLASS)), key=_in_order)
    ports = [_describe(f"/dev/{node}", node, root) for node in nodes if _is_real(root / CLASS / node)]
    return sorted(ports, key=lambda port: port.usb is None)


def serial_port_at(path: str, root: Path = Path("/")) -> SerialPort:
    """What is known about the port at a path, which may be a link and need not exist."""
    place = Path(path) if root == Path("/") else root / path.lstrip("/")
    return _describe(path, os.path.basename(os.path.realpath(place)), root)


def usb_devices(root: Path = Path("/")) -> list[UsbIdentity]:
    """Every USB device that is plugged in, by socket."""
    folders = sorted(_entries(root / USB_DEVICES), key=lambda folder: _in_order(folder.name))
    return [_identity(folder) for folder in folders if (folder / "idVendor").is_file()]


def attribute(path: Path) -> str:
    """A sysfs file as text without its line end; empty when missing or not readable."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_ATTRIBUTE_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
    return "".join(letter for letter in content if letter.isprintable())


def _describe(path: str, node: str, root: Path) -> SerialPort:
    device = root / CLASS / node / "device"
    folder = next((place for place in _upwards(device) if (place / "idVendor").is_file()), None)
    driver = os.path.basename(os.path.realpath(device / "driver")) if (device / "driver").exists() else ""
    return SerialPort(
        path=path,
        node=node,
        stable_names=_stable_names(node, root),
        usb=None if folder is None else _identity(folder),
        driver=driver,
    )


def _identity(folder: Path) -> UsbIdentity:
    return UsbIdentity(
        vendor_id=attribute(folder / "idVendor").lower(),
        product_id=attribute(folder / "idProduct").lower(),
        manufacturer=attribute(folder / "manufacturer"),
        product=attribute(folder / "product"),
        serial=attribute(folder / "serial"),
        socket=folder.name,
    )


def _is_real(folder: Path) -> bool:
    """Virtual consoles have no device; the kernel creates 8250 ports in advance, with or without a chip."""
    return (folder / "device").exists() and attribute(folder / "type") != NO_UART


def _upwards(device: Path) -> Iterator[Path]:
    if device.exists():
        here = device.resolve()
        yield here
        yield from here.parents


def _stable_names(node: str, root: Path) -> tuple[str, ...]:
    links = [link for folder in STABLE_NAMES for link in _entries(root / folder)]
    return tuple(f"/{link.relative_to(root)}" for link in links if os.path.basename(os.path.realpath(link)) == node)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _in_order(name: str) -> list[int | str]:
    """ttyUSB2 before ttyUSB10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
