"""Tests of the joint monitor itself: it finds injected violations and passes correct motion."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.joint_monitor import JointMonitor, JointRule
from tests.faults.sliding_range import SlidingRange
from tests.faults.wire_limits import JointLimits, WireLimits

PERIOD_NS = 10_000_000
STEP = 20.0
LIMITS = WireLimits((JointLimits(1, 1000, 3000, 2000.0, 40_000.0),), PERIOD_NS)
LAG_S = 0.05


class Lagging:
    """A joint that lags behind its goal as a first-order response, sampled five times a period."""

    def __init__(self, position: float = 2000.0) -> None:
        self.monitor = JointMonitor(LIMITS)
        self.position = position
        self.powered = True
        self.now_ns = 0

    def play(self, goals: list[float], alter: Callable[[float], float] = lambda goal: goal) -> None:
        """Send one goal a period; `alter` returns what the servo makes of it."""
        for goal in goals:
            self.monitor.goal(1, round(goal), self.now_ns)
            for _ in range(5):
                self.now_ns += PERIOD_NS // 5
                share = math.exp(-PERIOD_NS / 5e9 / LAG_S)
                self.position = alter(goal) + (self.position - alter(goal)) * share
                self.sample()

    def sample(self) -> None:
        self.monitor.sample(1, self.position, self.now_ns, powered=self.powered)

    @property
    def broken(self) -> set[JointRule]:
        return {violation.rule for violation in self.monitor.violations}


def ramp(start: float, step: float, count: int) -> list[float]:
    return [start + step * (index + 1) for index in range(count)]


def test_a_joint_at_its_limit_speed_passes() -> None:
    joint = Lagging(1200)
    joint.play([1200.0] * 5 + ramp(1200, STEP, 60) + [2400.0] * 60)
    assert joint.broken == set()
    assert 0.9 < joint.monitor.fastest <= 1


@given(st.lists(st.floats(-STEP, STEP), max_size=150))
def test_motion_within_the_limits_passes(steps: list[float]) -> None:
    joint = Lagging()
    joint.play([float(np.clip(goal, 1000, 3000)) for goal in np.cumsum([2000.0, *steps])])
    assert joint.broken == set()


def test_a_joint_that_jumps_when_it_is_armed_is_found() -> None:
    """Its servo clips the goal to its own limits; on the wire the goal is the joint's position."""
    joint = Lagging(2500)
    joint.play([2500.0] * 20, alter=lambda goal: min(goal, 2400.0))
    assert joint.broken == {JointRule.AWAY}


def test_a_joint_pulled_in_by_less_than_two_degrees_passes() -> None:
    joint = Lagging(3020)
    joint.play([3020.0] * 20, alter=lambda goal: min(goal, 3000.0))
    assert joint.broken == set()


def test_a_joint_pulled_in_from_far_outside_is_found() -> None:
    joint = Lagging(3100)
    joint.play([3100.0] * 20, alter=lambda goal: min(goal, 3000.0))
    assert joint.broken == {JointRule.AWAY}


def test_a_joint_may_finish_the_ramp_to_its_last_goal() -> None:
    """The cable is pulled right after a goal, while the servo's ramp is at the previous one."""
    joint = Lagging(2000)
    joint.play(ramp(2000, 5, 20))
    joint.monitor.goal(1, 2105, joint.now_ns)
    joint.sample()
    joint.now_ns += 5_000_000_000
    joint.position = 2100.0
    joint.sample()
    assert joint.broken == set()
    joint.now_ns += PERIOD_NS
    joint.position = 2050.0
    joint.sample()
    assert joint.broken == {JointRule.AWAY}


def test_a_joint_above_its_speed_limit_is_found() -> None:
    joint = Lagging(1100)
    joint.play([1100.0] * 5 + ramp(1100, 1.2 * STEP, 50))
    assert joint.broken == {JointRule.SPEED}


def test_a_joint_that_leaves_its_range_is_found() -> None:
    joint = Lagging(2900)
    joint.play([2900.0] * 5 + ramp(2900, 10, 20))
    assert joint.broken == {JointRule.RANGE}


def test_a_joint_that_springs_free_is_found() -> None:
    """It was blocked while its goal moved far away."""
    joint = Lagging(1500)
    joint.play(ramp(1500, 18, 50), alter=lambda goal: 1500.0)
    joint.play([2400.0] * 50)
    assert joint.broken == {JointRule.SPEED}


def test_a_limp_joint_may_move_freely() -> None:
    joint = Lagging()
    joint.play([2000.0] * 5)
    joint.powered = False
    for position in (2000.0, 500.0, 3900.0, 1500.0):
        joint.now_ns += PERIOD_NS
        joint.position = position
        joint.sample()
    joint.powered = True
    joint.play([1500.0] * 5)
    assert joint.broken == set()


def test_goals_that_a_busy_machine_delivers_together_are_counted() -> None:
    joint = Lagging(1200)
    joint.play([1200.0] * 5)
    for goal in ramp(1200, STEP, 30):
        joint.monitor.goal(1, round(goal), joint.now_ns)
    joint.play([1800.0] * 40)
    assert joint.broken == set()


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-1e6, 1e6)), min_size=1, max_size=40), st.integers(0, 30))
def test_a_sliding_range_is_the_range_of_the_remaining_values(values: list[tuple[int, float]], age: int) -> None:
    stamps = np.cumsum([gap for gap, _ in values]).tolist()
    window = SlidingRange()
    for stamp, (_, value) in zip(stamps, values, strict=True):
        window.add(stamp, value)
    window.drop_before(stamps[-1] - age)
    remaining = [value for stamp, (_, value) in zip(stamps, values, strict=True) if stamp >= stamps[-1] - age]
    assert (window.lowest, window.highest) == (min(remaining), max(remaining))


def test_an_empty_range_has_no_ends() -> None:
    window = SlidingRange()
    window.add(1, 2.0)
    window.clear()
    assert (window.lowest, window.highest) == pytest.approx((math.inf, -math.inf))
