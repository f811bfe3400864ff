"""A captured machine: the part of /sys and /dev that describes serial ports, in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Adapter:
    """A USB serial adapter and where it is plugged in."""

    node: str
    vendor_id: str
    product_id: str
    driver: str
    socket: str
    serial: str = ""
    product: str = "USB Serial"
    latency_ms: int | None = None


FTDI = Adapter("ttyUSB0", "0403", "6001", "ftdi_sio", "1-1", "FT1ABCDE", "FT232R USB UART", 16)
CH343 = Adapter("ttyACM0", "1a86", "55d3", "cdc_acm", "1-2.3", "5A46083062", "USB Single Serial")
CH340 = Adapter("ttyUSB1", "1a86", "7523", "ch341-uart", "3-4", "", "USB2.0-Serial")
GPS = Adapter("ttyACM1", "1546", "01a7", "cdc_acm", "1-3", "", "u-blox 7 - GPS/GNSS Receiver")


class Machine:
    """A machine whose files are below `root`; adapters can be plugged in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("sys/class/tty", "sys/bus/usb/devices", "sys/bus/usb-serial/devices", "dev/serial/by-id"):
            (root / folder).mkdir(parents=True)

    def plug(self, adapter: Adapter) -> Machine:
        """Plug in an adapter that has a driver."""
        usb = self.plug_without_driver(adapter)
        interface = usb / f"{adapter.socket}:1.0"
        is_acm = adapter.driver == "cdc_acm"
        device = interface if is_acm else interface / adapter.node
        tty = device / "tty" / adapter.node
        tty.mkdir(parents=True)
        link(tty / "device", device)
        driver = self.root / "sys/bus" / ("usb" if is_acm else "usb-serial") / "drivers" / adapter.driver
        driver.mkdir(parents=True, exist_ok=True)
        link(device / "driver", driver)
        link(self.root / "sys/class/tty" / adapter.node, tty)
        if not is_acm:
            link(self.root / "sys/bus/usb-serial/devices" / adapter.node, device)
        if adapter.latency_ms is not None:
            (device / "latency_timer").write_text(f"{adapter.latency_ms}\n")
        (self.root / "dev" / adapter.node).touch()
        if adapter.serial:
            name = f"usb-{adapter.product.replace(' ', '_')}_{adapter.serial}-if00"
            link(self.root / "dev/serial/by-id" / name, self.root / "dev" / adapter.node)
        return self

    def plug_without_driver(self, adapter: Adapter) -> Path:
        """Plug in an adapter without a driver: the kernel has none, or brltty has claimed it."""
        usb = self.root / "sys/devices/pci0000:00/usb1" / adapter.socket
        usb.mkdir(parents=True)
        facts = {
            "idVendor": adapter.vendor_id,
            "idProduct": adapter.product_id,
            "manufacturer": "Maker",
            "product": adapter.product,
            "busnum": "1",
        }
        if adapter.serial:
            facts["serial"] = adapter.serial
        for name, value in facts.items():
            (usb / name).write_text(f"{value}\n")
        link(self.root / "sys/bus/usb/devices" / adapter.socket, usb)
        return usb

    def add_uart(self, node: str, kind: str) -> Machine:
        """Add a UART of the board; `kind` "0": reserved by the kernel, without hardware."""
        device = self.root / "sys/devices/platform/serial8250"
        tty = device / "tty" / node
        tty.mkdir(parents=True)
        link(tty / "device", device)
        (tty / "type").write_text(f"{kind}\n")
        link(self.root / "sys/class/tty" / node, tty)
        return self

    def add_console(self, node: str) -> Machine:
        tty = self.root / "sys/devices/virtual/tty" / node
        tty.mkdir(parents=True)
        link(self.root / "sys/class/tty" / node, tty)
        return self

    def run(self, pid: int, program: str) -> Machine:
        folder = self.root / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "comm").write_text(f"{program}\n")
        return self

    def install_rules(self, name: str) -> Machine:
        folder = self.root / "usr/lib/udev/rules.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("# rules\n")
        return self


def link(path: Path, target: Path) -> None:
    path.symlink_to(os.path.relpath(target, path.parent))
