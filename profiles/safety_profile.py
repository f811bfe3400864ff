"""The part of an arm profile that says when a run ends, and how the arm is parked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator
from typing_extensions import Self

from sefa_edge.profiles.ceilings import milliseconds
from sefa_edge.profiles.quantities import Real
from sefa_edge.profiles.strict import StrictModel

Celsius = Annotated[float, Real("a temperature", 0.0, 200.0, "degrees Celsius", above_lowest=True)]
LoadPercent = Annotated[float, Real("a load", 0.0, 100.0, "%", above_lowest=True)]
PlannedVelocity = Annotated[float, Real("a velocity", 0.0, 180.0, "units/s", above_lowest=True)]

SUPPLY_RANGES_MV = {"7.4 V": (4500, 8400), "12 V": (9000, 13000)}
"""Operating ranges of the two kinds of STS3215. A 7.4 V arm is sold with a 5 V supply and also runs on two cells; its
servos report a fault outside 4.0 to 8.0 V (registers 15 and 14, which the maker may have changed)."""

Volts = Literal["7.4 V", "12 V"]

STATUS_VOLTAGE = 1 << 0
"""Bit of an STS servo's status: its supply is outside registers 15 and 14."""

STATUS_OVERLOAD = 1 << 5
"""Bit of an STS servo's status: its load was above register 36 for the time of register 35; its torque is reduced."""


class SafetyProfile(StrictModel):
    """Conditions that end a run, other than limits of motion, and how the arm is parked afterwards.

    A bad reading counts only after it has lasted for the given milliseconds without interruption; a single one may be
    noise. The defaults are for STS3215 servos and act before the servo's own protection, which would drop the arm.
    Register numbers are those of Feetech's memory table for STS servos.
    """

    warn_temperature_c: Celsius = 55.0
    """Only prints a note on the terminal."""
    max_temperature_c: Celsius = 65.0
    """The servo switches its motor off at 70 (register 13)."""
    temperature_ms: Annotated[float, milliseconds(5000.0)] = 1000.0
    current_ms: Annotated[float, milliseconds(2000.0)] = 1000.0
    """The servo cuts its motor after 2 s of over-current (register 38: 200 of 10 ms)."""
    max_load_pct: LoadPercent = 80.0
    """Share of the stall torque above which the servo starts its overload timer (register 36). Not checked for joints
    in `percent`: a gripper is meant to be stopped by an object, and LeRobot halves its torque for that (register 16:
    500 of 1000)."""
    load_ms: Annotated[float, milliseconds(2000.0)] = 1000.0
    """The servo reduces its torque to 20 % after 2 s (registers 35: 200 of 10 ms, and 34)."""
    supply: Volts = "7.4 V"
    """Key of SUPPLY_RANGES_MV. A wrong supply is detected before torque on, a voltage drop during the run."""
    supply_ms: Annotated[float, milliseconds(1000.0)] = 200.0
    status_ms: Annotated[float, milliseconds(1000.0)] = 100.0
    """For status bits in the servos' answers; a voltage dip when motors start is shorter. Overload is not checked for
    joints in `percent`: a gripper that holds for 2 s reports it, and then only grips with less torque."""
    tracking_ms: Annotated[float, milliseconds(1000.0)] = 500.0
    """How long a joint may lag by more than `tracking_error_deg` while a policy moves the arm."""
    planned_tracking_ms: Annotated[float, milliseconds(500.0)] = 30.0
    """The same in a planned move, which joints can follow closely."""
    first_chunk_ms: Annotated[float, milliseconds(60_000.0)] = 5000.0
    """How long a run waits, at rest, for its first action chunk; later ones have `goal_timeout_ms`."""
    heartbeat_ms: Annotated[float, milliseconds(5000.0)] = 1000.0
    """How long heartbeats of the supervisor may be missing; it sends one every 50 ms."""
    settle_ms: Annotated[float, milliseconds(5000.0)] = 300.0
    """Time for the joints to reach their goals after the end of a planned move."""
    recovery_ms: Annotated[float, milliseconds(60_000.0)] = 5000.0
    """How long to wait, holding, for an arm whose port vanished."""
    park_velocity_deg_s: PlannedVelocity = 60.0
    park_timeout_ms: Annotated[float, milliseconds(30_000.0)] = 5000.0
    """Time beyond the planned end of the move to the park pose, after which the arm counts as obstructed."""
    after_park: Literal["release", "hold"] = "release"
    """At the park pose: torque off, or keep torque on, for an arm that would fall from its park pose."""
    emergency_retry_ms: Annotated[float, milliseconds(600_000.0)] = 30_000.0
    """How long an emergency stop retries with a servo that answers but keeps its torque on."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.warn_temperature_c > self.max_temperature_c:
            raise ValueError("warn_temperature_c must not be above max_temperature_c")
        return self
