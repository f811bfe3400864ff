"""Settings of an arm's servos other than their calibration: gains, limits, protection.

Registers are those of Feetech's memory table for STS servos; "LeRobot" is the value that its SO follower writes on
every connect, releases 0.4 to 0.6. Bounds are those of the registers: counts of 0 to 254 in one byte, 0 to 1000 per
mille in two. Bounds of what protects the servo after an overload are tighter: they are ceilings (profiles/ceilings.py).
A value between two counts is rounded to the nearest. Acceleration, time and speed (registers 41 to 47) are not among
them: they are sent with every goal.
"""

from __future__ import annotations

from typing import Annotated, Literal

from sefa_edge.profiles.quantities import Real, Whole
from sefa_edge.profiles.strict import StrictModel

Gain = Annotated[int, Whole("a gain", 0, 254)]
OverloadPercent = Annotated[int, Whole("a share", 1, 80, "%")]
ProtectivePercent = Annotated[int, Whole("a share", 1, 40, "%")]
PercentInTenths = Annotated[float, Real("a share", 0.1, 100.0, "%")]
Acceleration = Annotated[int, Whole("an acceleration", 0, 25_400, "ticks/s2", multiple_of=100)]
Protection = Literal["voltage", "encoder", "temperature", "current", "overload"]

NEEDED_PROTECTIONS: tuple[Protection, ...] = ("temperature", "overload")
"""Faults in which every servo must unload its motor, whatever a profile says."""


class ServoSettings(StrictModel):
    """Settings of one servo. None: the value of the arm's `servo`, and if that is None too, the servo's own value."""

    p_gain: Gain | None = None
    """Register 21, EEPROM. Factory 32, LeRobot 16, because an SO arm shakes with 32."""
    i_gain: Gain | None = None
    """Register 23, EEPROM. Factory and LeRobot 0."""
    d_gain: Gain | None = None
    """Register 22, EEPROM. Factory and LeRobot 32."""
    return_delay_us: Annotated[int, Whole("a time", 0, 508, "us", multiple_of=2)] | None = None
    """Register 7, EEPROM: delay before an answer. LeRobot 0; it gives 500 as factory value, Feetech's table none."""
    full_angle_feedback: bool | None = None
    """Register 18, bit 4, EEPROM: count beyond a turn instead of wrapping. LeRobot clears it; ticks 0..4095 need it
    cleared. The other bits of the register are not changed."""
    max_torque_pct: PercentInTenths | None = None
    """Register 16, EEPROM: value of `torque_limit_pct` after power-on. Factory 100; LeRobot 50 for a gripper."""
    torque_limit_pct: PercentInTenths | None = None
    """Register 48, lost at power-off: share of the stall torque that the motor may use."""
    protection_current_ma: Annotated[float, Real("a current", 6.5, 3321.5, "mA")] | None = None
    """Register 28, EEPROM, in steps of 6.5 mA: above it, the servo cuts its motor after the time of register 38.
    Factory 3250; LeRobot 1625 for a gripper."""
    overload_torque_pct: OverloadPercent | None = None
    """Register 36, EEPROM: load above which the overload timer runs. Factory 80; LeRobot 25 for a gripper."""
    protection_time_ms: Annotated[int, Whole("a time", 10, 2540, "ms", multiple_of=10)] | None = None
    """Register 35, EEPROM: how long an overload may last. Factory 2000."""
    protective_torque_pct: ProtectivePercent | None = None
    """Register 34, EEPROM: torque that remains after an overload. Factory 20."""
    unload_on: tuple[Protection, ...] | None = None
    """Register 19, EEPROM: faults in which the servo automatically unloads its motor. Factory 44: temperature, current,
    overload. A run is refused if a servo lacks one of these."""
    max_acceleration_ticks_s2: Acceleration | None = None
    """Register 85, in steps of 100 ticks/s2. Factory and LeRobot 25400. Feetech calls it read-only, LeRobot writes it;
    whether it survives power-off is unknown, so it is treated like EEPROM."""

    def over(self, base: ServoSettings) -> ServoSettings:
        """These settings, with those of `base` where these are None."""
        return base.model_copy(update={name: value for name, value in self if value is not None})

    def contradiction(self) -> str:
        """What contradicts itself, as text; empty if nothing does."""
        if _above(self.torque_limit_pct, self.max_torque_pct):
            return f"torque_limit_pct {self.torque_limit_pct} is above max_torque_pct {self.max_torque_pct}"
        if _above(self.protective_torque_pct, self.overload_torque_pct):
            return (
                f"protective_torque_pct {self.protective_torque_pct} is above "
                f"overload_torque_pct {self.overload_torque_pct}: an overload would never end"
            )
        missing = [name for name in NEEDED_PROTECTIONS if self.unload_on is not None and name not in self.unload_on]
        if missing:
            return f"unload_on lacks {', '.join(missing)}: the servo could not protect itself"
        return ""


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit
