"""The simplest arm: every joint follows its goal as a first-order lag. No gravity, no contact, no MuJoCo."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import NS_PER_S

TIME_CONSTANT_S = 0.05
LOAD_PER_TICK = 1 / 400
"""Share of the stall torque per tick between goal and position: a P-controller that saturates at 35
degrees."""


class KinematicPlant:
    """A `Plant` whose joints move as time passes on the given clock; without torque they stay where they are."""

    def __init__(self, start_ticks: Sequence[float], clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._position_ticks = [float(ticks) for ticks in start_ticks]
        self._goal_ticks = list(self._position_ticks)
        self._torque = [False] * len(self._position_ticks)
        self._limit = [1.0] * len(self._position_ticks)
        self._blocked: set[int] = set()
        self._stamp_ns = [clock_ns()] * len(self._position_ticks)

    @classmethod
    def of_arm(cls, profile: ArmProfile, clock_ns: Callable[[], int] = time.monotonic_ns) -> KinematicPlant:
        """All joints of a profile in the middle of their ranges."""
        return cls([(joint.range_min_ticks + joint.range_max_ticks) / 2 for joint in profile.joints], clock_ns)

    def block(self, index: int) -> None:
        """Block the joint at its position, against its motor."""
        self.position_ticks(index)
        self._blocked.add(index)

    def unblock(self, index: int) -> None:
        self.position_ticks(index)
        self._blocked.discard(index)

    def position_ticks(self, index: int) -> float:
        now_ns = self._clock_ns()
        elapsed_s = (now_ns - self._stamp_ns[index]) / NS_PER_S
        self._stamp_ns[index] = now_ns
        if self._torque[index] and index not in self._blocked:
            self._position_ticks[index] = self._moved(index, elapsed_s)
        return self._position_ticks[index]

    def velocity_ticks_s(self, index: int) -> float:
        if index in self._blocked:
            return 0.0
        reach = self._reach_ticks(index)
        return min(max(self._lag_ticks(index), -reach), reach) / TIME_CONSTANT_S

    def load_fraction(self, index: int) -> float:
        limit = self._limit[index]
        return min(max(self._lag_ticks(index) * LOAD_PER_TICK, -limit), limit)

    def set_goal_ticks(self, index: int, ticks: float) -> None:
        self.position_ticks(index)
        self._goal_ticks[index] = ticks

    def set_torque(self, index: int, on: bool) -> None:
        self.position_ticks(index)
        self._torque[index] = on

    def set_torque_limit(self, index: int, fraction: float) -> None:
        self.position_ticks(index)
        self._limit[index] = fraction

    def _moved(self, index: int, elapsed_s: float) -> float:
        """Position after this time: constant speed at full torque while the goal is far, a lag when it is near."""
        position, goal, reach = self._position_ticks[index], self._goal_ticks[index], self._reach_ticks(index)
        far = abs(goal - position) - reach
        if far > 0:
            speed = reach / TIME_CONSTANT_S
            if speed * elapsed_s <= far:
                return position + math.copysign(speed * elapsed_s, goal - position)
            elapsed_s -= far / speed
            position = goal - math.copysign(reach, goal - position)
        return goal + (position - goal) * math.exp(-elapsed_s / TIME_CONSTANT_S)

    def _reach_ticks(self, index: int) -> float:
        """Distance from the goal beyond which the torque limit slows a joint."""
        return self._limit[index] / LOAD_PER_TICK

    def _lag_ticks(self, index: int) -> float:
        position = self.position_ticks(index)
        return self._goal_ticks[index] - position if self._torque[index] else 0.0
