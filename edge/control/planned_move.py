"""A slow move from rest to rest: a minimum-jerk curve, stretched to fit the velocity and acceleration limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.control.shaping import Setpoint
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.profiles.schema import LimitTable
from sefa_edge.profiles.units import NS_PER_S, s_to_ns

PEAK_VELOCITY = 15 / 8
"""Of s(x) = 10x^3 - 15x^4 + 6x^5 over x in 0..1: the highest s'."""
PEAK_ACCELERATION = 10 / 3**0.5
"""The highest s''."""
ARRIVED_DEG = 5.0
"""A joint has arrived when it is measured this close: away from the park pose, torque off lets the arm drop."""


@dataclass(frozen=True, slots=True, eq=False)
class PlannedMove:
    """All joints [n] start and arrive together."""

    from_deg: np.ndarray
    to_deg: np.ndarray
    start_ns: int
    end_ns: int

    def setpoint(self, now_ns: int) -> Setpoint:
        """The setpoint at `now_ns`; at rest before and after the move."""
        duration_ns = max(1, self.end_ns - self.start_ns)
        x = min(max((now_ns - self.start_ns) / duration_ns, 0.0), 1.0)
        travel_deg = self.to_deg - self.from_deg
        share = x**3 * (10 - 15 * x + 6 * x * x)
        speed = 30 * (x * (1 - x)) ** 2
        return Setpoint(self.from_deg + travel_deg * share, travel_deg * (speed * NS_PER_S / duration_ns))


def plan_move(
    from_deg: np.ndarray, to_deg: np.ndarray, limits: LimitTable, velocity_deg_s: float, now_ns: int
) -> PlannedMove:
    """A move that begins at `now_ns`, stays under `velocity_deg_s` and inside the limits of every joint."""
    travel_deg = np.abs(to_deg - from_deg)
    velocity = np.minimum(velocity_deg_s, limits.max_velocity_deg_s)
    by_velocity = (travel_deg * PEAK_VELOCITY / velocity).max()
    by_acceleration = np.sqrt(travel_deg * PEAK_ACCELERATION / limits.max_acceleration_deg_s2).max()
    duration_ns = s_to_ns(float(max(by_velocity, by_acceleration)))
    return PlannedMove(from_deg, to_deg, now_ns, now_ns + duration_ns)


def has_arrived(reading: JointState, to_deg: np.ndarray, limits: LimitTable) -> bool:
    """Whether the joints are at the end of the move; one that need not follow, such as a gripper, may be anywhere."""
    must_follow = np.isfinite(limits.health.max_lag_deg)
    return bool((np.abs(reading.joint_deg - to_deg) <= np.where(must_follow, ARRIVED_DEG, np.inf)).all())
