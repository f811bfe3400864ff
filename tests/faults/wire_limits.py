"""The limits of an arm that the wire monitor checks, in encoder ticks as registers 42 and 56 count them.

Computed here from the numbers of an arm profile by LeRobot's formulae, independently of the product's conversion, which
is also under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

DEGREES_PER_TURN, TICKS_PER_TURN = 360.0, 4095.0
"""LeRobot divides the turn by 4095."""


@dataclass(frozen=True, slots=True)
class JointLimits:
    """One joint. A position up to half a tick outside the range is still the end of the range, rounded."""

    servo_id: int
    min_ticks: float
    max_ticks: float
    max_velocity_ticks_s: float
    max_acceleration_ticks_s2: float
    park_ticks: float | None = None
    """Where its torque may be switched off without a request; None: nowhere."""
    grips: bool = False
    """A gripper, whose joint does not reach its goal while it holds something."""
    name: str = ""

    def outside(self, ticks: float) -> float:
        """How far a position is outside the range, ticks; 0 inside."""
        return max(self.min_ticks - ticks, ticks - self.max_ticks, 0.0)


@dataclass(frozen=True, slots=True)
class WireLimits:
    """An arm, and the period of the goals that are sent to it."""

    joints: tuple[JointLimits, ...]
    period_ns: int
    park_tolerance_ticks: float = 57.0
    """How far a joint may be from its park pose when it is released: 5 degrees, because of gravity and friction."""

    @property
    def period_s(self) -> float:
        return self.period_ns / 1e9


class JointNumbers(Protocol):
    """The numbers of a joint in an arm profile."""

    @property
    def name(self) -> str: ...

    @property
    def servo_id(self) -> int: ...

    @property
    def unit(self) -> str: ...

    @property
    def min_deg(self) -> float: ...

    @property
    def max_deg(self) -> float: ...

    @property
    def max_velocity_deg_s(self) -> float: ...

    @property
    def max_acceleration_deg_s2(self) -> float: ...

    @property
    def range_min_ticks(self) -> int: ...

    @property
    def range_max_ticks(self) -> int: ...


class ArmNumbers(Protocol):
    """The numbers of an arm profile."""

    @property
    def joints(self) -> Sequence[JointNumbers]: ...

    @property
    def park_pose_deg(self) -> Sequence[float]: ...

    @property
    def control_rate_hz(self) -> float: ...


@dataclass(frozen=True, slots=True)
class CalibratedRange:
    """Range and direction of one joint, from the calibration of one particular arm."""

    range_min_ticks: int
    range_max_ticks: int
    drive_mode: int = 0


@dataclass(frozen=True, slots=True)
class _Scale:
    """Linear conversion between a joint's unit and ticks."""

    zero_ticks: float
    ticks_per_unit: float = field(default=TICKS_PER_TURN / DEGREES_PER_TURN)

    @classmethod
    def of(cls, unit: str, calibrated: CalibratedRange) -> _Scale:
        low, high = calibrated.range_min_ticks, calibrated.range_max_ticks
        if unit == "degrees":
            return cls((low + high) / 2)
        direction = -1 if calibrated.drive_mode else 1
        if unit == "range_percent":
            return cls((low + high) / 2, direction * (high - low) / 200)
        return cls(high if calibrated.drive_mode else low, direction * (high - low) / 100)

    def ticks(self, value: float) -> float:
        return self.zero_ticks + value * self.ticks_per_unit


def wire_limits(
    arm: ArmNumbers, calibrated: Sequence[CalibratedRange] | None = None, rate_hz: float | None = None
) -> WireLimits:
    """The limits of an arm profile in ticks, intersected with the calibrated range of each joint.

    Args:
        calibrated: ranges of this arm, in the profile's joint order; None: those of the profile.
        rate_hz: rate of the goals; None: the profile's control rate.
    """
    if calibrated is None:
        calibrated = [CalibratedRange(joint.range_min_ticks, joint.range_max_ticks) for joint in arm.joints]
    joints = tuple(
        _joint_limits(joint, entry, park_deg)
        for joint, entry, park_deg in zip(arm.joints, calibrated, arm.park_pose_deg, strict=True)
    )
    return WireLimits(joints, round(1e9 / (arm.control_rate_hz if rate_hz is None else rate_hz)))


def _joint_limits(joint: JointNumbers, calibrated: CalibratedRange, park_deg: float) -> JointLimits:
    scale = _Scale.of(joint.unit, calibrated)
    ends = sorted((scale.ticks(joint.min_deg), scale.ticks(joint.max_deg)))
    return JointLimits(
        servo_id=joint.servo_id,
        min_ticks=max(ends[0], calibrated.range_min_ticks),
        max_ticks=min(ends[1], calibrated.range_max_ticks),
        max_velocity_ticks_s=joint.max_velocity_deg_s * abs(scale.ticks_per_unit),
        max_acceleration_ticks_s2=joint.max_acceleration_deg_s2 * abs(scale.ticks_per_unit),
        park_ticks=scale.ticks(park_deg),
        grips=joint.unit == "percent",
        name=joint.name,
    )
