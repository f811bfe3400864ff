"""Allowed ranges of numbers from outside: command lines, cards, YAML and JSON are all checked here.

A quantity is a noun, a range and a unit. It is used as the `type` of an argparse option (`type=SEED.parse`) and as the
annotation of a pydantic field (`seed: Annotated[int, SEED]`); both give the same message for a wrong value.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeAlias

from sefa_edge.profiles.shown import shown

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

MAX_DIGITS = 20
"""Enough for every 64-bit integer."""
MAX_CHARACTERS = 320
"""Longer decimal numbers are refused. Programs write up to 17 digits, and zeros before them for small numbers."""
NUMBER_PROBLEM = "number"
"""Type of these errors in pydantic's error lists."""

_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{MAX_DIGITS}}}")
_REAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,5})?")


class NumberError(ValueError):
    """A value that is not the expected number; the message says what was expected and found."""


def parse_whole(text: str) -> int:
    """A whole number in decimal ASCII digits: no underscores, no other base. Raises NumberError."""
    if not _WHOLE.fullmatch(text):
        raise NumberError(f"{shown(text)} is not a whole number of up to {MAX_DIGITS} digits")
    return int(text)


def parse_real(text: str) -> float:
    """A finite decimal number in ASCII. Raises NumberError, also for one that a double cannot hold."""
    if len(text) > MAX_CHARACTERS or not _REAL.fullmatch(text):
        raise NumberError(f"{shown(text)} is not a decimal number")
    value = float(text)
    if not math.isfinite(value):
        raise NumberError(f"{shown(text)} is too large for a number")
    return value


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number in a range."""

    noun: str
    lowest: float
    highest: float
    unit: str = ""
    above_lowest: bool = False
    """Whether `lowest` itself is excluded."""

    def check(self, value: object) -> float:
        """The number. Raises NumberError for another type, NaN, an infinity, or one out of range."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _refuse(self, value)
        if not self.lowest <= value <= self.highest or (self.above_lowest and value == self.lowest):
            _refuse(self, value)
        return float(value)

    def parse(self, text: str) -> float:
        """Argparse type for this number. Raises ArgumentTypeError."""
        try:
            return self.check(parse_real(text))
        except NumberError:
            _refuse_text(self, text)

    def range_text(self) -> str:
        """What is expected, for a message: "a rate from 0.1 to 1000 Hz"."""
        low = f"above {plain(self.lowest)}, up to" if self.above_lowest else f"from {plain(self.lowest)} to"
        return f"{self.noun} {low} {plain(self.highest)} {self.unit}".rstrip()

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> CoreSchema:
        return _core_schema(self)

    def __get_pydantic_json_schema__(self, _schema: object, _handler: object) -> dict[str, object]:
        low = "exclusiveMinimum" if self.above_lowest else "minimum"
        return {"type": "number", low: self.lowest, "maximum": self.highest}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in a range."""

    noun: str
    lowest: int
    highest: int
    unit: str = ""
    multiple_of: int = 1

    def check(self, value: object) -> int:
        """The number. Raises NumberError for another type, 16.0 and true included, or one out of range."""
        if isinstance(value, bool) or not isinstance(value, int):
            _refuse(self, value)
        if not self.lowest <= value <= self.highest or value % self.multiple_of:
            _refuse(self, value)
        return value

    def parse(self, text: str) -> int:
        """Argparse type for this number. Raises ArgumentTypeError."""
        try:
            return self.check(parse_whole(text))
        except NumberError:
            _refuse_text(self, text)

    def range_text(self) -> str:
        """What is expected, for a message: "a seed from 0 to 4294967295"."""
        step = f" in steps of {self.multiple_of}" if self.multiple_of > 1 else ""
        return f"{self.noun} from {self.lowest} to {self.highest} {self.unit}".rstrip() + step

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> CoreSchema:
        return _core_schema(self)

    def __get_pydantic_json_schema__(self, _schema: object, _handler: object) -> dict[str, object]:
        step = {"multipleOf": self.multiple_of} if self.multiple_of > 1 else {}
        return {"type": "integer", "minimum": self.lowest, "maximum": self.highest, **step}


Quantity: TypeAlias = Real | Whole


def plain(value: float) -> str:
    """A limit as a person writes it: 4294967295, 0.1, 1e+06."""
    return str(value) if isinstance(value, int) else f"{value:.10g}"


def seed_range(text: str) -> range:
    """Argparse type for the seeds `A:B`, A to B - 1. Raises ArgumentTypeError if the range is empty or too long."""
    first, _, last = text.partition(":")
    try:
        seeds = range(SEED.check(parse_whole(first)), SEED.check(parse_whole(last)))
    except NumberError:
        seeds = range(0)
    if not 0 < len(seeds) <= MAX_SEEDS:
        _refuse_argument(f"expected seeds A:B, A below B, at most {MAX_SEEDS} of them, got {shown(text)}")
    return seeds


def _refuse(quantity: Quantity, value: object) -> NoReturn:
    raise NumberError(f"expected {quantity.range_text()}, got {shown(value)}")


def _refuse_text(quantity: Quantity, text: str) -> NoReturn:
    _refuse_argument(f"expected {quantity.range_text()}, got {shown(text)}")


def _refuse_argument(message: str) -> NoReturn:
    import argparse  # only command lines need it

    raise argparse.ArgumentTypeError(message) from None


def _core_schema(quantity: Quantity) -> CoreSchema:
    """Schema with which pydantic checks a field."""
    from pydantic_core import PydanticCustomError, core_schema

    def check(value: object) -> float:
        try:
            return quantity.check(value)
        except NumberError as error:
            raise PydanticCustomError(NUMBER_PROBLEM, "{problem}", {"problem": str(error)}) from None

    return core_schema.no_info_plain_validator_function(check)


MAX_SEEDS = 100_000
SEED = Whole("a seed", 0, 2**32 - 1)
THREADS = Whole("a number of threads", 1, 256)
COUNT = Whole("a count", 1, 1_000_000_000)
COUNT_OR_ZERO = Whole("a count", 0, 1_000_000_000)
STEPS = Whole("a number of steps", 1, 1024)
NETWORK_CALLS = Whole("a number of calls", 1, 1024)
WORKSPACE_MIB = Whole("a size", 1, 1 << 20, "MiB")
OPTIMISATION_LEVEL = Whole("a level", 0, 5)
INT64 = Whole("a whole number", -(2**63), 2**63 - 1)
NANOSECONDS = Whole("a time", 0, 2**62, "ns")

POLICY_RATE_HZ = Real("a rate", 0.1, 1000.0, "Hz")
CONTROL_RATE_HZ = Real("a rate", 20.0, 500.0, "Hz")
PICTURE_RATE_HZ = Real("a rate", 0.1, 1000.0, "Hz")
SECONDS = Real("a time", 0.0, 31_536_000.0, "s", above_lowest=True)
MILLISECONDS = Real("a time", 0.0, 600_000.0, "ms")
SOME_MILLISECONDS = Real("a time", 0.0, 600_000.0, "ms", above_lowest=True)
SPIN_US = Whole("a time", 0, 2000, "us")
REALTIME_PRIORITY = Whole("a priority", 0, 99)
FRACTION = Real("a fraction", 0.0, 1.0)
POSITIVE = Real("a number", 0.0, 1e9, above_lowest=True)
NOT_NEGATIVE = Real("a number", 0.0, 1e9)
POSITION_DEG = Real("a position", -3600.0, 3600.0)

Seed = Annotated[int, SEED]
Count = Annotated[int, COUNT]
CountOrZero = Annotated[int, COUNT_OR_ZERO]
Steps = Annotated[int, STEPS]
NetworkCalls = Annotated[int, NETWORK_CALLS]
WorkspaceMib = Annotated[int, WORKSPACE_MIB]
OptimisationLevel = Annotated[int, OPTIMISATION_LEVEL]
Int64 = Annotated[int, INT64]
Nanoseconds = Annotated[int, NANOSECONDS]
PolicyRateHz = Annotated[float, POLICY_RATE_HZ]
ControlRateHz = Annotated[float, CONTROL_RATE_HZ]
SomeMilliseconds = Annotated[float, SOME_MILLISECONDS]
Fraction = Annotated[float, FRACTION]
Positive = Annotated[float, POSITIVE]
NotNegative = Annotated[float, NOT_NEGATIVE]
PositionDeg = Annotated[float, POSITION_DEG]
