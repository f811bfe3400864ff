"""What a device offers: modes, ranges of controls, and the kernel's codes for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mode:
    """Format of a stream: `fourcc` as four letters (`MJPG`, `YUYV`), size and rate."""

    fourcc: str
    width: int
    height: int
    rate_hz: float

    def __str__(self) -> str:
        return f"{printable(self.fourcc)} {self.width}x{self.height} at {self.rate_hz:g} Hz"


@dataclass(frozen=True, slots=True)
class ControlRange:
    """The driver's name for a control, and the values that it accepts."""

    name: str
    minimum: int
    maximum: int
    step: int

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum} in steps of {self.step} ('{self.name}')"


def printable(text: str) -> str:
    """Text from a device with control characters, which could be terminal commands, replaced."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)


def letters_of(code: int) -> str:
    """The four letters of a format code; Latin-1, because big-endian formats set the highest bit."""
    return code.to_bytes(4, "little").decode("latin-1")


def code_of(fourcc: str) -> int:
    return int.from_bytes(fourcc.encode("latin-1"), "little")


def sizes_of_range(numbers: list[int], near: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Sizes of a range given as minimum, maximum and step of the width, then of the height."""
    (width_least, width_most, width_step), (height_least, height_most, height_step) = numbers[:3], numbers[3:]
    yield width_least, height_least
    yield (
        _in_range(near[0], width_least, width_most, width_step),
        _in_range(near[1], height_least, height_most, height_step),
    )
    yield width_most, height_most


def _in_range(wanted: int, least: int, most: int, step: int) -> int:
    """The greatest value of a stepped range that is not above the wanted one."""
    inside = min(max(wanted, least), most)
    return inside - (inside - least) % max(1, step)


def rate_of(numerator: int, denominator: int) -> float:
    """The rate in Hz of an interval in seconds; 0 if the driver does not report it."""
    return denominator / numerator if numerator else 0.0
