"""How a servo walks to its goal: at most so fast, at most so quickly faster or slower."""

from __future__ import annotations

import math

from sefa_edge.profiles.units import NS_PER_S


class GoalRamp:
    """Trapezoidal speed towards a goal. With both limits infinite the goal is reached at once."""

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
        """Stand still here."""
        self.position_ticks = self._goal_ticks = position_ticks
        self._speed_ticks_s = 0.0

    def aim(self, goal_ticks: float, max_speed_ticks_s: float, acceleration_ticks_s2: float) -> None:
        """Walk to a goal from wherever it is now."""
        self._goal_ticks = goal_ticks
        self._max_speed_ticks_s = max_speed_ticks_s
        self._acceleration_ticks_s2 = acceleration_ticks_s2
        if math.isinf(max_speed_ticks_s) and math.isinf(acceleration_ticks_s2):
            self.restart(goal_ticks)

    def advance(self, now_ns: int) -> bool:
        """Let time pass; whether the position changed."""
        elapsed_s = (now_ns - self._now_ns) / NS_PER_S
        self._now_ns = now_ns
        if not self.moving or elapsed_s <= 0:
            return False
        way = self._goal_ticks - self.position_ticks
        self._speed_ticks_s = self._speed_towards(way, elapsed_s)
        step = self._speed_ticks_s * elapsed_s
        if step * way > 0 and abs(step) >= abs(way):
            self.restart(self._goal_ticks)
        else:
            self.position_ticks += step
        return True

    def _speed_towards(self, way: float, elapsed_s: float) -> float:
        if math.isinf(self._acceleration_ticks_s2):
            return math.copysign(self._max_speed_ticks_s, way)
        # No faster than what still allows stopping at the goal.
        braking = math.sqrt(2 * self._acceleration_ticks_s2 * abs(way))
        wanted = math.copysign(min(braking, self._max_speed_ticks_s), way)
        change = self._acceleration_ticks_s2 * elapsed_s
        return min(max(wanted, self._speed_ticks_s - change), self._speed_ticks_s + change)
