"""The judge of the simulated joints is tested itself: injected misconduct is found, honest motion passes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.joint_monitor import JointMonitor, Motion
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

    def play(self, goals: list[float], bends: Callable[[float], float] = lambda goal: goal) -> None:
        """One goal a period; `bends`: what the servo makes of it."""
        for goal in goals:
            self.monitor.goal(1, round(goal), self.now_ns)
            for _ in range(5):
                self.now_ns += PERIOD_NS // 5
                share = math.exp(-PERIOD_NS / 5e9 / LAG_S)
                self.position = bends(goal) + (self.position - bends(goal)) * share
                self.sample()

    def sample(self) -> None:
        self.monitor.sample(1, self.position, self.now_ns, powered=self.powered)

    @property
    def found(self) -> set[Motion]:
        return {found.motion for found in self.monitor.found}


def ramp(start: float, step: float, count: int) -> list[float]:
    return [start + step * (index + 1) for index in range(count)]


def test_a_joint_at_its_limit_speed_passes() -> None:
    joint = Lagging(1200)
    joint.play([1200.0] * 5 + ramp(1200, STEP, 60) + [2400.0] * 60)
    assert joint.found == set()
    assert 0.9 < joint.monitor.fastest <= 1


@given(st.lists(st.floats(-STEP, STEP), max_size=150))
def test_whatever_goals_keep_the_limits(steps: list[float]) -> None:
    joint = Lagging()
    joint.play([float(np.clip(goal, 1000, 3000)) for goal in np.cumsum([2000.0, *steps])])
    assert joint.found == set()


def test_a_joint_that_jumps_when_it_is_armed() -> None:
    """Its servo bends the goal to its own limits; on the wire the goal is where the joint is."""
    joint = Lagging(2500)
    joint.play([2500.0] * 20, bends=lambda goal: min(goal, 2400.0))
    assert joint.found == {Motion.AWAY}


def test_a_joint_that_is_drawn_in_by_less_than_two_degrees() -> None:
    joint = Lagging(3020)
    joint.play([3020.0] * 20, bends=lambda goal: min(goal, 3000.0))
    assert joint.found == set()


def test_a_joint_far_outside_that_is_drawn_in() -> None:
    joint = Lagging(3100)
    joint.play([3100.0] * 20, bends=lambda goal: min(goal, 3000.0))
    assert joint.found == {Motion.AWAY}


def test_a_joint_whose_servo_is_still_on_its_way_when_nobody_asks_any_more() -> None:
    """The cable is pulled right after a goal; the servo's ramp was at the goal before."""
    joint = Lagging(2000)
    joint.play(ramp(2000, 5, 20))
    joint.monitor.goal(1, 2105, joint.now_ns)
    joint.sample()
    joint.now_ns += 5_000_000_000
    joint.position = 2100.0
    joint.sample()
    assert joint.found == set()
    joint.now_ns += PERIOD_NS
    joint.position = 2050.0
    joint.sample()
    assert joint.found == {Motion.AWAY}


def test_a_joint_that_rushes() -> None:
    joint = Lagging(1100)
    joint.play([1100.0] * 5 + ramp(1100, 1.2 * STEP, 50))
    assert joint.found == {Motion.SPEED}


def test_a_joint_that_leaves_its_range() -> None:
    joint = Lagging(2900)
    joint.play([2900.0] * 5 + ramp(2900, 10, 20))
    assert joint.found == {Motion.RANGE}


def test_a_joint_that_springs_free() -> None:
    """It was held; its goal is far away."""
    joint = Lagging(1500)
    joint.play(ramp(1500, 18, 50), bends=lambda goal: 1500.0)
    joint.play([2400.0] * 50)
    assert joint.found == {Motion.SPEED}


def test_limp_joints_may_do_what_they_like() -> None:
    joint = Lagging()
    joint.play([2000.0] * 5)
    joint.powered = False
    for position in (2000.0, 500.0, 3900.0, 1500.0):
        joint.now_ns += PERIOD_NS
        joint.position = position
        joint.sample()
    joint.powered = True
    joint.play([1500.0] * 5)
    assert joint.found == set()


def test_goals_that_a_busy_machine_delivers_together_are_counted() -> None:
    joint = Lagging(1200)
    joint.play([1200.0] * 5)
    for goal in ramp(1200, STEP, 30):
        joint.monitor.goal(1, round(goal), joint.now_ns)
    joint.play([1800.0] * 40)
    assert joint.found == set()


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-1e6, 1e6)), min_size=1, max_size=40), st.integers(0, 30))
def test_a_sliding_range_is_the_range_of_what_is_left(values: list[tuple[int, float]], age: int) -> None:
    stamps = np.cumsum([gap for gap, _ in values]).tolist()
    kept = SlidingRange()
    for stamp, (_, value) in zip(stamps, values, strict=True):
        kept.add(stamp, value)
    kept.drop_before(stamps[-1] - age)
    left = [value for stamp, (_, value) in zip(stamps, values, strict=True) if stamp >= stamps[-1] - age]
    assert (kept.lowest, kept.highest) == (min(left), max(left))


def test_an_empty_range_has_no_ends() -> None:
    kept = SlidingRange()
    kept.add(1, 2.0)
    kept.clear()
    assert (kept.lowest, kept.highest) == pytest.approx((math.inf, -math.inf))
