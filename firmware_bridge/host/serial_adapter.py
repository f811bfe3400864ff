"""USB serial adapters: which chip an adapter has, and how long it may delay a servo's answer.

Sources: the USB id database usb.ids (2025.07.26) for FTDI, CP210x, CH340 and CH341; the id table of the kernel's
ch341 driver; 1a86:55d3 and 55d4, which usb.ids lacks, as the servo boards of Feetech and Waveshare report themselves.
Only FTDI chips have a latency timer: drivers/usb/serial/ftdi_sio.c makes the file `latency_timer`, and uses 1 ms while
the port's low-latency flag is set. ch341, cp210x and cdc_acm have neither.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.firmware_bridge.host.serial_ports import SerialPort, attribute
from sefa_edge.profiles.diagnosis import Diagnosis, Weight

USB_SERIAL = "sys/bus/usb-serial/devices"
LATENCY_FILE = "latency_timer"
LATENCY_MS = 1
"""What a servo bus needs; FTDI chips start with 16."""
ASYNC_LOW_LATENCY = 1 << 13
SERIAL_STRUCT_WORDS = 32
FLAGS_WORD = 4
"""struct serial_struct of <linux/serial.h> begins with `type, line, port, irq, flags`; it has 18 words on 64 bits."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A kind of adapter."""

    name: str
    driver: str
    """The kernel's driver for it."""
    module: str
    """What to load when the driver is missing."""
    waits: str
    """What limits its delay, for a person."""


_FRAMES = "no latency timer: it delivers bytes in the 1 ms frames of full-speed USB"
_FTDI = "a latency timer, 16 ms unless set"


def _ftdi(name: str) -> Chip:
    return Chip(name, "ftdi_sio", "ftdi_sio", _FTDI)


def _ch341(name: str) -> Chip:
    return Chip(name, "ch341-uart", "ch341", _FRAMES)


def _acm(name: str) -> Chip:
    return Chip(name, "cdc_acm", "cdc-acm", _FRAMES)


def _cp210x(name: str) -> Chip:
    return Chip(name, "cp210x", "cp210x", _FRAMES)


CHIPS = {
    ("0403", "6001"): _ftdi("FTDI FT232R"),
    ("0403", "6010"): _ftdi("FTDI FT2232"),
    ("0403", "6011"): _ftdi("FTDI FT4232H"),
    ("0403", "6014"): _ftdi("FTDI FT232H"),
    ("0403", "6015"): _ftdi("FTDI FT-X"),
    ("1a86", "7522"): _ch341("WCH CH340"),
    ("1a86", "7523"): _ch341("WCH CH340"),
    ("1a86", "5523"): _ch341("WCH CH341"),
    ("1a86", "55d3"): _acm("WCH CH343"),
    ("1a86", "55d4"): _acm("WCH CH9102"),
    ("10c4", "ea60"): _cp210x("Silicon Labs CP210x"),
    ("10c4", "ea70"): _cp210x("Silicon Labs CP2105"),
    ("10c4", "ea71"): _cp210x("Silicon Labs CP2108"),
}
"""By vendor and product id: the adapters on commercial servo boards."""


def chip_of(port: SerialPort) -> Chip | None:
    """The chip of a USB port; None: not on USB, or not one of CHIPS."""
    return None if port.usb is None else CHIPS.get((port.usb.vendor_id, port.usb.product_id))


def latency_ms(port: SerialPort, root: Path = Path("/")) -> int | None:
    """How long the adapter may delay bytes; None: it has no latency timer."""
    text = attribute(_latency_file(port, root))
    return int(text) if text.isdecimal() else None


def shorten_latency(port: SerialPort, root: Path = Path("/")) -> list[Diagnosis]:
    """Set a latency timer to 1 ms if permitted, and report its present value. Empty for an unknown chip."""
    before = latency_ms(port, root)
    if before is None:
        return _without_timer(port)
    if before > LATENCY_MS:
        _try_to_write(_latency_file(port, root), str(LATENCY_MS))
    after = latency_ms(port, root)
    if after == LATENCY_MS:
        changed = "" if before == LATENCY_MS else f", was {before} ms"
        return [Diagnosis(port.name, Weight.GOOD, f"latency timer {LATENCY_MS} ms{changed}")]
    return [_too_slow(port, after or before)]


def low_latency_flag(port: SerialPort) -> bool | None:
    """Whether the driver keeps the low-latency flag (TIOCGSERIAL); None: unsupported, or the port cannot be opened.

    Opens the port: call this only for a port that a person has named. A Link sets the flag whenever it opens a port;
    drivers without a latency timer accept the call and store nothing.
    """
    serial_struct = array.array("i", [0] * SERIAL_STRUCT_WORDS)
    try:
        with _opened(port.path) as descriptor:
            fcntl.ioctl(descriptor, termios.TIOCGSERIAL, serial_struct)
    except OSError:
        return None
    return bool(serial_struct[FLAGS_WORD] & ASYNC_LOW_LATENCY)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _without_timer(port: SerialPort) -> list[Diagnosis]:
    chip = chip_of(port)
    return [] if chip is None else [Diagnosis(port.name, Weight.GOOD, f"{chip.name} ({port.driver}): {chip.waits}")]


def _too_slow(port: SerialPort, now_ms: int) -> Diagnosis:
    return Diagnosis(
        port.name,
        Weight.NOTE,
        f"the adapter may delay answers by {now_ms} ms while its port is closed; sefa-edge asks the driver for "
        f"{LATENCY_MS} ms whenever it opens the port, other programs may not",
        f"echo {LATENCY_MS} | sudo tee /{USB_SERIAL}/{port.node}/{LATENCY_FILE}; permanently: sefa-edge arm scan "
        "--udev-rules",
    )


def _try_to_write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="ascii")
    except OSError:  # not permitted: the value that is read back shows it
        return


def _latency_file(port: SerialPort, root: Path) -> Path:
    return root / USB_SERIAL / port.node / LATENCY_FILE
