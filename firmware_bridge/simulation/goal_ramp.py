"""How a servo moves to its goal within limits of speed and acceleration."""

from __future__ import annotations

import math

from sefa_edge.profiles.units import NS_PER_S


class GoalRamp:
    """Trapezoidal speed profile towards a goal. With both limits infinite the goal is reached at once."""

    def __init__(self) -> None:
        self.position_ticks = 0.0
        self._goal_ticks = 0.0
        self._speed_ticks_s = 0.0
        self._max_speed_ticks_s = math.inf
        self._acceleration_ticks_s2 = math.inf
        self._now_ns = 0

    @property
    def goal_ticks(self) -> float:
        return self._goal_ticks

    @property
    def moving(self) -> bool:
        return self.position_ticks != self._goal_ticks

    def restart(self, position_ticks: float) -> None:
        """Stop at this position."""
        self.position_ticks = self._goal_ticks = position_ticks
        self._speed_ticks_s = 0.0

    def aim(self, goal_ticks: float, max_speed_ticks_s: float, acceleration_ticks_s2: float) -> None:
        """Move to a goal from the present position."""
        self._goal_ticks = goal_ticks
        self._max_speed_ticks_s = max_speed_ticks_s
        self._acceleration_ticks_s2 = acceleration_ticks_s2
        if math.isinf(max_speed_ticks_s) and math.isinf(acceleration_ticks_s2):
            self.restart(goal_ticks)

    def advance(self, now_ns: int) -> bool:
        """Let time pass; returns whether the position changed."""
        elapsed_s = (now_ns - self._now_ns) / NS_PER_S
        self._now_ns = now_ns
        if not self.moving or elapsed_s <= 0:
            return False
        distance = self._goal_ticks - self.position_ticks
        self._speed_ticks_s = self._speed_towards(distance, elapsed_s)
        step = self._speed_ticks_s * elapsed_s
        if step * distance > 0 and abs(step) >= abs(distance):
            self.restart(self._goal_ticks)
        else:
            self.position_ticks += step
        return True

    def _speed_towards(self, distance: float, elapsed_s: float) -> float:
        if math.isinf(self._acceleration_ticks_s2):
            return math.copysign(self._max_speed_ticks_s, distance)
        # No faster than still allows stopping at the goal.
        braking = math.sqrt(2 * self._acceleration_ticks_s2 * abs(distance))
        wanted = math.copysign(min(braking, self._max_speed_ticks_s), distance)
        change = self._acceleration_ticks_s2 * elapsed_s
        return min(max(wanted, self._speed_ticks_s - change), self._speed_ticks_s + change)
