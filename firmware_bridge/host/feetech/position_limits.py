"""The position of a joint relative to the position limits of its servo (registers 9 and 11).

A servo clips every goal to these limits: a joint that is armed outside them moves there at once, at the speed that came
with the goal, although goal = present was written and is read back.
"""

from __future__ import annotations

from collections.abc import Sequence

from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity, JointIdentity
from sefa_edge.firmware_bridge.host.errors import JointsOutside
from sefa_edge.profiles.units import SERVO_TICKS_PER_TURN

MAX_OUTSIDE_TICKS = 23
"""Two degrees: how far outside a joint may be when it is armed. A joint that rests against its end stop may be slightly
outside."""

RETURN_TICKS_S = 100
"""Speed at which such a joint moves inside, 9 degrees per second: two counts of the coarsest unit."""

AGREEMENT_TICKS = 23
"""Two degrees: the largest difference between two consecutive position readings that agree."""


def ticks_outside(ticks: int, limits: JointIdentity) -> int:
    """How far a position is outside the position limits of its servo; 0: inside."""
    return max(limits.range_min_ticks - ticks, ticks - limits.range_max_ticks, 0)


def require_inside(names: Sequence[str], ticks: Sequence[int], identity: ArmIdentity) -> None:
    """Refuse an arm with joints that are outside by more than MAX_OUTSIDE_TICKS.

    Raises:
        JointsOutside: names the joints, the position of each, and the limits of its servo.
    """
    found = {
        name: _outside_text(name, position, limits)
        for name, position, limits in zip(names, ticks, identity.joints, strict=True)
        if ticks_outside(position, limits) > MAX_OUTSIDE_TICKS
    }
    if found:
        raise JointsOutside(tuple(found), ", ".join(found.values()))


def _outside_text(name: str, ticks: int, limits: JointIdentity) -> str:
    outside_deg = ticks_outside(ticks, limits) * 360 / SERVO_TICKS_PER_TURN
    return (
        f"{name} at {ticks}, {outside_deg:.1f} degrees outside its servo's "
        f"{limits.range_min_ticks}..{limits.range_max_ticks}"
    )
