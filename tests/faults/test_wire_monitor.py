"""Tests of the wire monitor itself: it finds each injected violation, and none in clean streams."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.profiles.arms import load_arm_profile
from tests.faults.wire_limits import CalibratedRange, JointLimits, WireLimits, wire_limits
from tests.faults.wire_monitor import WireMonitor
from tests.faults.wire_rules import Rule

PERIOD_NS = 10_000_000
LIMITS = WireLimits(
    (
        JointLimits(1, 1000, 3000, 2000.0, 40_000.0, park_ticks=2000),
        JointLimits(2, 1000, 3000, 2000.0, 40_000.0, park_ticks=2000),
    ),
    PERIOD_NS,
)
GENTLE = JointLimits(1, 1000, 3000, 2000.0, 10_000.0, park_ticks=2000)
STEP, CHANGE = 20, 4
"""2000 ticks/s and 40,000 ticks/s2 at 100 Hz."""


def packet(servo_id: int, code: int, *parameters: int) -> bytes:
    body = bytes((servo_id, len(parameters) + 2, code, *parameters))
    return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


def word(value: int) -> tuple[int, int]:
    return value & 0xFF, value >> 8


class Stream:
    """The traffic of a host and two servos; every goal follows one period after the last."""

    def __init__(self, *, exact_time: bool = True) -> None:
        self.monitor = WireMonitor(LIMITS, exact_time=exact_time)
        self.now_ns = 0

    def host(self, data: bytes) -> None:
        self.monitor.to_servos(data, self.now_ns)

    def report(self, *ticks: int) -> None:
        """The host reads the positions of all servos."""
        self.host(packet(0xFE, 0x82, 56, 2, 1, 2))
        for servo_id, position in enumerate(ticks, 1):
            self.monitor.from_servos(packet(servo_id, 0, *word(position)), self.now_ns)

    def read_goal(self, servo_id: int, ticks: int) -> None:
        self.host(packet(servo_id, 0x02, 42, 2))
        self.monitor.from_servos(packet(servo_id, 0, *word(ticks)), self.now_ns)

    def torque(self, value: int, servo_id: int = 1) -> None:
        self.host(packet(servo_id, 0x03, 40, value))

    def goals(self, *ticks: int, servo_id: int = 1) -> None:
        """A goal each period, with acceleration, time and speed, as 41..47."""
        for goal in ticks:
            self.now_ns += PERIOD_NS
            self.host(packet(servo_id, 0x03, 41, 0, *word(goal), 0, 0, *word(3000)))

    def arm(self, *ticks: int) -> None:
        """Read the positions, goal = present, torque on."""
        self.report(*ticks)
        for servo_id, position in enumerate(ticks, 1):
            self.goals(position, servo_id=servo_id)
            self.torque(1, servo_id)

    def move(self, start: int, *steps: int) -> int:
        """Send goals that begin at `start` and change by these steps; returns the last goal."""
        goal = start
        for step in steps:
            goal += step
            self.goals(goal)
        return goal


SPEED_UP = (4, 8, 12, 16, 20)


@dataclass(frozen=True)
class Injected:
    """A violation that is injected into a stream."""

    rule: Rule
    inject: Callable[[Stream], object]
    count: int = 1


def beyond_the_range(stream: Stream) -> None:
    stream.arm(2990, 2000)
    stream.goals(2993, 2998, 3002)


def further_out(stream: Stream) -> None:
    stream.arm(3100, 2000)
    stream.goals(3098, 3099)


def too_fast(stream: Stream) -> None:
    stream.arm(1500, 2000)
    stream.move(1500, *SPEED_UP, 22, 24)  # 22 and 24 are both too fast; 21 may be rounding


def too_sudden(stream: Stream) -> None:
    stream.arm(1500, 2000)
    stream.move(1500, 4, 11)


def too_sudden_a_stop(stream: Stream) -> None:
    stream.arm(1500, 2000)
    stream.move(1500, *SPEED_UP, 20, 0)


def jump_to_the_reading(stream: Stream) -> None:
    """A joint lags behind its goal; after a silence the goal becomes its measured position."""
    stream.arm(1500, 2000)
    goal = stream.move(1500, *SPEED_UP)
    stream.now_ns += 20 * PERIOD_NS
    stream.report(goal - 40, 2000)
    stream.goals(goal - 40)


def a_tick_too_fast_for_long(stream: Stream) -> None:
    """The excess of each step may be rounding, that of ten steps may not."""
    stream.arm(1200, 2000)
    stream.move(1200, *SPEED_UP, *[STEP + 1] * 10)


def too_sudden_for_long(stream: Stream) -> None:
    """The excess of each change may be rounding, that of ten changes may not: here the limit is 1 tick per period."""
    stream.monitor = WireMonitor(replace(LIMITS, joints=(GENTLE, LIMITS.joints[1])))
    stream.arm(1200, 2000)
    stream.move(1200, *range(0, 20, 2), 19, 20, 20)


def after_a_stall(stream: Stream) -> None:
    """Five ticks were skipped and their steps are made at once."""
    stream.arm(1500, 2000)
    goal = stream.move(1500, *SPEED_UP, 20)
    stream.now_ns += 5 * PERIOD_NS
    stream.goals(goal + 100)


def backlog(stream: Stream) -> None:
    stream.arm(1500, 2000)
    goal = stream.move(1500, *SPEED_UP)
    for _ in range(4):
        stream.now_ns -= PERIOD_NS  # they arrive at once
        goal = stream.move(goal, 20)


def goal_away_from_the_joint(stream: Stream) -> None:
    stream.report(1500, 2000)
    stream.goals(1502)


def goal_before_any_reading(stream: Stream) -> None:
    stream.goals(1500)


def torque_on_with_an_old_goal(stream: Stream) -> None:
    stream.arm(2000, 2000)
    stream.torque(0)
    stream.report(1700, 2000)
    stream.torque(1)


def torque_on_without_a_goal(stream: Stream) -> None:
    stream.report(1500, 2000)
    stream.torque(1)


def torque_on_of_all_servos(stream: Stream) -> None:
    stream.report(1500, 2000)
    stream.host(packet(0xFE, 0x03, 40, 1))


def restarted_with_the_old_goal(stream: Stream) -> None:
    """The servo lost its power; the loop continues from its last goal."""
    stream.arm(1500, 2000)
    stream.monitor.power_lost(1)
    stream.report(1450, 2000)
    stream.goals(1500)


def released_away_from_the_park_pose(stream: Stream) -> None:
    stream.arm(1500, 2000)
    stream.torque(0)


def released_by_a_write_to_all(stream: Stream) -> None:
    stream.arm(1500, 1400)
    stream.host(packet(0xFE, 0x83, 40, 1, 1, 0, 2, 0))


def released_with_the_goal_at_park_but_not_the_joint(stream: Stream) -> None:
    stream.arm(2000, 2000)
    stream.report(1700, 2000)
    stream.torque(0)


def released_at_an_unknown_position(stream: Stream) -> None:
    stream.torque(0)


def one_byte(stream: Stream) -> None:
    stream.report(1500, 2000)
    stream.host(packet(1, 0x03, 42, 0xDC))


def another_servo(stream: Stream) -> None:
    stream.goals(1500, servo_id=9)


def by_reg_write_and_action(stream: Stream) -> None:
    """REG_WRITE does nothing; ACTION makes it a goal."""
    stream.arm(1500, 2000)
    stream.host(packet(1, 0x04, 42, *word(1600)))
    assert stream.monitor.violations == []
    stream.host(packet(0xFE, 0x05))


def by_sync_write(stream: Stream) -> None:
    stream.arm(1500, 1500)
    stream.host(packet(0xFE, 0x83, 42, 2, 1, *word(1500), 2, *word(1600)))


def by_a_long_write(stream: Stream) -> None:
    """A write that starts below the goal register."""
    stream.arm(1500, 2000)
    stream.host(packet(1, 0x03, 40, 1, 0, *word(1600)))


JUMP = 2
"""A jump breaks two rules: it is too fast and too sudden."""

INJECTED = [
    Injected(Rule.RANGE, beyond_the_range),
    Injected(Rule.RANGE, further_out),
    Injected(Rule.VELOCITY, too_fast, 2),
    Injected(Rule.ACCELERATION, too_sudden),
    Injected(Rule.ACCELERATION, too_sudden_a_stop),
    Injected(Rule.VELOCITY, jump_to_the_reading, JUMP),
    Injected(Rule.VELOCITY, a_tick_too_fast_for_long, 3),
    Injected(Rule.ACCELERATION, too_sudden_for_long, 3),
    Injected(Rule.VELOCITY, after_a_stall, JUMP),
    Injected(Rule.BURST, backlog, 3),
    Injected(Rule.ANCHOR, goal_away_from_the_joint),
    Injected(Rule.ANCHOR, goal_before_any_reading),
    Injected(Rule.ANCHOR, torque_on_with_an_old_goal),
    Injected(Rule.ANCHOR, torque_on_without_a_goal),
    Injected(Rule.ANCHOR, torque_on_of_all_servos, 2),
    Injected(Rule.ANCHOR, restarted_with_the_old_goal),
    Injected(Rule.RELEASE, released_away_from_the_park_pose),
    Injected(Rule.RELEASE, released_by_a_write_to_all, 2),
    Injected(Rule.RELEASE, released_with_the_goal_at_park_but_not_the_joint),
    Injected(Rule.RELEASE, released_at_an_unknown_position),
    Injected(Rule.HALF_GOAL, one_byte),
    Injected(Rule.UNKNOWN_SERVO, another_servo),
    Injected(Rule.VELOCITY, by_reg_write_and_action, JUMP),
    Injected(Rule.VELOCITY, by_sync_write, JUMP),
    Injected(Rule.VELOCITY, by_a_long_write, JUMP),
]


@pytest.mark.parametrize("injected", INJECTED, ids=lambda injected: injected.inject.__name__)
def test_an_injected_violation_is_found(injected: Injected) -> None:
    stream = Stream()
    injected.inject(stream)
    found = [violation.rule for violation in stream.monitor.violations]
    assert injected.rule in found
    assert len(found) == injected.count
    assert stream.monitor.summary().violations == injected.count
    with pytest.raises(AssertionError, match=injected.rule.value):
        stream.monitor.assert_clean()


def test_every_rule_is_injected() -> None:
    assert {injected.rule for injected in INJECTED} == set(Rule)


def back_and_forth(stream: Stream) -> None:
    stream.arm(1500, 2000)
    goal = stream.move(1500, *SPEED_UP, 20, 21, 19, 20, *SPEED_UP[::-1], 0, -4, -8, -4, 0)
    stream.report(goal, 2000)
    stream.goals(goal, goal)


def parked_and_released(stream: Stream) -> None:
    stream.arm(2000, 2000)
    stream.move(2000, 4, 0, -4, 0)
    stream.report(1990, 2010)
    stream.torque(0)
    stream.torque(0, 2)
    stream.torque(0)


def released_on_request(stream: Stream) -> None:
    stream.arm(1500, 2000)
    stream.monitor.ask_for_release()
    stream.torque(0)


def armed_again_at_its_position(stream: Stream) -> None:
    released_on_request(stream)
    stream.report(1200, 2000)
    stream.goals(1200)
    stream.torque(1)
    stream.move(1200, 4, 8)


def back_into_the_range(stream: Stream) -> None:
    stream.arm(3100, 2000)
    stream.move(3100, 0, -4, -8, -12, -16, -20, -20, -20, -20)


def restarted_from_rest_after_a_silence(stream: Stream) -> None:
    """The servo came to rest without goals; its goal is read before it continues."""
    stream.arm(1500, 2000)
    goal = stream.move(1500, *SPEED_UP)
    stream.now_ns += 30 * PERIOD_NS
    stream.read_goal(1, goal)
    stream.move(goal, 0, 4, 8)


def continued_from_the_goal_of_the_servo(stream: Stream) -> None:
    """The servo missed the last three goals."""
    stream.arm(1500, 2000)
    goal = stream.move(1500, *SPEED_UP)
    stream.read_goal(1, goal - 48)
    stream.move(goal - 48, 0, 4, 8)


def held_by_another_program(stream: Stream) -> None:
    """The servo already holds and is sent the goal that it has."""
    stream.torque(0x7F, servo_id=200)  # not a servo of this arm
    stream.monitor.violations.clear()
    stream.report(1480, 2000)
    stream.goals(1480)


def back_on_the_grid_after_a_stall(stream: Stream) -> None:
    """The loop advances one period per tick, even after skipped ones; a late tick is close to the next."""
    stream.arm(1500, 2000)
    goal = stream.move(1500, *SPEED_UP)
    stream.now_ns += round(7.9 * PERIOD_NS)
    goal = stream.move(goal, 20)
    stream.now_ns -= round(0.9 * PERIOD_NS)
    stream.move(goal, 20, 20)


def the_same_goal_repeated(stream: Stream) -> None:
    stream.arm(1500, 2000)
    for _ in range(9):
        stream.now_ns -= PERIOD_NS
        stream.goals(1500)


def with_noise_in_between(stream: Stream) -> None:
    stream.arm(1500, 2000)
    stream.host(b"\xff\xff\x01\x09\x03\x2a\x00")
    stream.host(b"\x00\xff")
    stream.now_ns += 2 * PERIOD_NS
    stream.move(1500, 4, 8, 12)


CLEAN = [
    back_and_forth, parked_and_released, released_on_request, armed_again_at_its_position, back_into_the_range,
    restarted_from_rest_after_a_silence, continued_from_the_goal_of_the_servo, held_by_another_program,
    back_on_the_grid_after_a_stall, the_same_goal_repeated, with_noise_in_between,
]  # fmt: skip


@pytest.mark.parametrize("perform", CLEAN, ids=lambda perform: perform.__name__)
def test_a_clean_stream_passes(perform: Callable[[Stream], object]) -> None:
    stream = Stream()
    perform(stream)
    stream.monitor.assert_clean()
    assert stream.monitor.summary().worst_step <= 1
    assert stream.monitor.summary().worst_change <= 1


@given(steps=st.lists(st.integers(-CHANGE, CHANGE), max_size=60), cuts=st.lists(st.integers(1, 40), min_size=1))
def test_any_motion_inside_the_limits_passes_however_its_bytes_are_cut(steps: list[int], cuts: list[int]) -> None:
    stream = Stream(exact_time=False)  # cut bytes have no times of their own
    stream.arm(2000, 2000)
    goals, step = [2000], 0
    for change in steps:
        step = min(max(step + change, -STEP), STEP)
        goals.append(goals[-1] + step)
    sent = b"".join(packet(1, 0x03, 42, *word(goal)) for goal in goals)
    for piece in cut(sent, cuts):
        stream.host(piece)
    assert (stream.monitor.violations == []) == all(1000 <= goal <= 3000 for goal in goals)
    assert stream.monitor.summary().goal_packets == 2 + len(goals)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Cut into pieces of these sizes, which are repeated in turn."""
    for size in itertools.cycle(sizes):
        if not data:
            return
        yield data[:size]
        data = data[size:]


def test_figures_are_shares_of_the_limits() -> None:
    stream = Stream()
    stream.arm(1500, 2000)
    stream.move(1500, 2, 5, 11)
    found = stream.monitor.summary()
    assert found.goal_packets == 5
    assert found.worst_step == pytest.approx(10 / STEP)  # less one tick of rounding
    assert found.worst_change == pytest.approx(4 / CHANGE)  # less two ticks
    assert (found + found).goal_packets == 10


class TrueServo:
    """The true state of servo 1."""

    def __init__(self) -> None:
        self.on, self.connected, self.ticks, self.goal = False, True, 1500.0, 1500

    def is_reachable(self, servo_id: int) -> bool:
        return self.connected

    def holds(self, servo_id: int) -> bool:
        return self.on and servo_id == 1

    def position_ticks(self, servo_id: int) -> float:
        return self.ticks if servo_id == 1 else 2000.0

    def goal_ticks(self, servo_id: int) -> int:
        return self.goal


def test_a_servo_that_lost_its_power_may_not_get_its_old_goal() -> None:
    truth, stream = TrueServo(), Stream()
    stream.monitor = WireMonitor(LIMITS, truth)
    stream.goals(1500)
    truth.on = True
    stream.torque(1)
    stream.move(1500, 4, 8)
    stream.monitor.assert_clean()
    truth.on, truth.ticks = False, 1400.0
    stream.goals(1520)
    assert [violation.rule for violation in stream.monitor.violations] == [Rule.ANCHOR]


def test_goals_that_reach_no_servo_are_judged_but_energise_nothing() -> None:
    truth, stream = TrueServo(), Stream()
    stream.monitor = WireMonitor(LIMITS, truth)
    stream.goals(1500)
    truth.on = True
    stream.move(1500, 4, 8)
    truth.on = truth.connected = False
    stream.goals(1520)
    stream.monitor.assert_clean()
    stream.goals(1560)
    assert [violation.rule for violation in stream.monitor.violations] == [Rule.VELOCITY, Rule.ACCELERATION]
    truth.connected = True
    stream.goals(1570)
    assert stream.monitor.violations[-1].rule is Rule.ANCHOR


def test_a_servo_that_missed_goals_may_not_jump() -> None:
    """On the wire each goal is a step from the last; the servo received none of the last ones."""
    truth, stream = TrueServo(), Stream()
    stream.monitor = WireMonitor(LIMITS, truth)
    stream.goals(1500)
    truth.on = True
    goal = stream.move(1500, *SPEED_UP, 20)
    stream.monitor.assert_clean()  # up to 80 ticks may be four steps
    stream.goals(goal + 20)
    assert [violation.rule for violation in stream.monitor.violations] == [Rule.VELOCITY]


def test_torque_off_may_be_repeated_until_it_is_confirmed() -> None:
    truth, stream = TrueServo(), Stream()
    stream.monitor = WireMonitor(LIMITS, truth)
    truth.ticks, truth.goal = 2000.0, 2000
    stream.goals(2000)
    truth.on = True
    stream.report(2000, 2000)
    stream.torque(0)
    stream.torque(0)
    stream.monitor.assert_clean()
    stream.goals(2000, 2000)
    for goal in (2004, 2012, 2024, 2040, 2060, 2080):
        stream.goals(goal)
        truth.goal = goal
    stream.torque(0)
    assert [violation.rule for violation in stream.monitor.violations] == [Rule.RELEASE]


def test_torque_that_another_program_left_on_counts_as_on() -> None:
    truth, stream = TrueServo(), Stream()
    stream.monitor = WireMonitor(LIMITS, truth)
    truth.on = True
    stream.torque(0)
    assert [violation.rule for violation in stream.monitor.violations] == [Rule.RELEASE]


def test_limits_of_a_profile() -> None:
    """Calculated by hand for the simulated arm: 240 deg/s are 2730 ticks/s at 4095 ticks per turn."""
    limits = wire_limits(load_arm_profile("so101_sim"))
    pan, gripper = limits.joints[0], limits.joints[-1]
    assert limits.period_ns == 10_000_000
    assert (pan.min_ticks, pan.max_ticks) == pytest.approx((2047.5 - 1251.25, 2047.5 + 1251.25))
    assert pan.max_velocity_ticks_s == pytest.approx(2730)
    assert pan.max_acceleration_ticks_s2 == pytest.approx(17062.5)
    assert (gripper.min_ticks, gripper.max_ticks, gripper.park_ticks) == pytest.approx((1934, 3186, 1934))
    assert gripper.max_velocity_ticks_s == pytest.approx(3756)


def test_limits_of_a_calibrated_arm() -> None:
    arm = load_arm_profile("so101_sim")
    ranges = [CalibratedRange(1000, 3000, 1) for _ in arm.joints]
    limits = wire_limits(arm, ranges, rate_hz=50)
    assert limits.period_ns == 20_000_000
    assert limits.joints[0].park_ticks == 2000
    assert limits.joints[-1].park_ticks == 3000  # 0 % of a gripper that counts backwards
    assert limits.joints[-1].max_velocity_ticks_s == pytest.approx(6000)
