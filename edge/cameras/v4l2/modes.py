"""What a device offers, in words and numbers: modes, ranges of controls, and the kernel's codes for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mode:
    """How pictures come: `fourcc` as four letters (`MJPG`, `YUYV`), their size and their rate."""

    fourcc: str
    width: int
    height: int
    rate_hz: float

    def __str__(self) -> str:
        return f"{printable(self.fourcc)} {self.width}x{self.height} at {self.rate_hz:g} Hz"


@dataclass(frozen=True, slots=True)
class ControlRange:
    """What a control is called by its driver, and which values it takes."""

    name: str
    minimum: int
    maximum: int
    step: int

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum} in steps of {self.step} ('{self.name}')"


def printable(word: str) -> str:
    """A word that came from a device, which may hold what commands a terminal."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in word)


def letters_of(code: int) -> str:
    """Latin-1, because big-endian formats set the highest bit."""
    return code.to_bytes(4, "little").decode("latin-1")


def code_of(fourcc: str) -> int:
    return int.from_bytes(fourcc.encode("latin-1"), "little")


def sizes_of_range(numbers: list[int], near: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Of the least, the greatest and the step of the width, then of the height."""
    (width_least, width_most, width_step), (height_least, height_most, height_step) = numbers[:3], numbers[3:]
    yield width_least, height_least
    yield (
        _in_range(near[0], width_least, width_most, width_step),
        _in_range(near[1], height_least, height_most, height_step),
    )
    yield width_most, height_most


def _in_range(wanted: int, least: int, most: int, step: int) -> int:
    """The value of a stepped range that is nearest to the wanted one from below."""
    inside = min(max(wanted, least), most)
    return inside - (inside - least) % max(1, step)


def rate_of(numerator: int, denominator: int) -> float:
    """Of an interval in seconds; 0 where the driver left it out."""
    return denominator / numerator if numerator else 0.0
