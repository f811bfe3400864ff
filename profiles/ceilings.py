"""Ceilings of the numbers in an arm profile: no file raises them.

They are not recommendations: the shipped profiles stay well below. A ceiling of motion is what a servo can do at most.
A ceiling of a time ensures that the run ends before the servo's own protection drops the arm, and while people beside
the arm still connect what it does with what has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sefa_edge.profiles.quantities import Real, plain
from sefa_edge.profiles.servo_models import STS3215


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Of one class of servo."""

    velocity_deg_s: float
    acceleration_deg_s2: float
    current_ma: float
    temperature_c: float


STS = Ceilings(velocity_deg_s=360.0, acceleration_deg_s2=3600.0, current_ma=3250.0, temperature_c=70.0)
"""An STS3215 turns at 312 deg/s without load (7.4 V), and reaches that in a tenth of a second at best. 3250 mA and 70
degrees are the factory's values of registers 28 and 13, where the servo itself switches its motor off."""

OF_MODEL = {STS3215.name: STS}


def ceilings_of(models: Sequence[str]) -> Ceilings:
    """The lowest ceilings of some servo models; a model of which no others are known has those of an STS3215."""
    found = [OF_MODEL.get(model, STS) for model in models]
    return Ceilings(
        min(one.velocity_deg_s for one in found),
        min(one.acceleration_deg_s2 for one in found),
        min(one.current_ma for one in found),
        min(one.temperature_c for one in found),
    )


def milliseconds(highest: float) -> Real:
    """A time of a profile, above 0 and up to a ceiling."""
    return Real("a time", 0.0, highest, "ms", above_lowest=True)


def above(noun: str, value: float, ceiling: float, unit: str) -> str:
    """What is too high, as text; empty: nothing is."""
    if value <= ceiling:
        return ""
    return f"{noun} is {plain(value)} {unit}, and no profile may exceed {plain(ceiling)} {unit} with these servos"
