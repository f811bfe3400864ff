"""The limiter by example; tests/property/test_safety_limits.py tries everything else."""

from __future__ import annotations

import numpy as np
import pytest

from sefa_edge.edge.control.safety import (
    CLIP_TOLERANCE_DEG,
    Commanded,
    Envelope,
    bits,
    check,
    fastest_step,
    plausible,
    stopping_distance,
)
from sefa_edge.edge.control.shaping import Setpoint, resting
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.firmware_bridge.host.messages import JointGoal
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.schema import LimitTable
from sefa_edge.profiles.units import ms_to_ns

HEALTH = load_arm_profile("so101_sim").limit_table().health
LIMITS = LimitTable(
    ("a", "b"),
    np.array([-90.0, 0.0]),
    np.array([90.0, 100.0]),
    np.array([100.0, 200.0]),
    np.array([1000.0, 4000.0]),
    goal_timeout_ns=ms_to_ns(500),
    health=HEALTH,
)
ENVELOPE = Envelope.of(LIMITS, ms_to_ns(10))
STANDING = Commanded.standing(np.array([0.0, 50.0]))


def test_the_envelope_is_the_limit_table_for_one_tick() -> None:
    np.testing.assert_allclose(ENVELOPE.step_deg, [1.0, 2.0])
    np.testing.assert_allclose(ENVELOPE.change_deg, [0.1, 0.4])


def test_a_goal_carries_sequence_and_times() -> None:
    verdict = check(resting(np.array([0.0, 50.0])), STANDING, ENVELOPE, 1234)
    assert verdict.goal is not None
    assert (verdict.goal.sequence, verdict.goal.due_ns) == (1, 1234)
    assert verdict.goal.expires_ns == 1234 + ms_to_ns(500)
    assert (verdict.clipped_bits, verdict.fault) == (0, None)


def test_each_clipped_joint_sets_its_own_bit() -> None:
    verdict = check(resting(np.array([0.0, 90.0])), STANDING, ENVELOPE, 0)
    assert verdict.goal is not None
    np.testing.assert_allclose(verdict.goal.joint_deg, [0.0, 50.4])
    assert verdict.clipped_bits == 0b10
    assert bits(np.array([True, False, True] + [False] * 28 + [True])) == 1 << 31 | 0b101


def test_repeating_the_last_step_continues_at_its_speed() -> None:
    continued = Commanded(0, np.array([1.0, 50.0]), np.array([0.5, -0.25])).continued(ENVELOPE)
    np.testing.assert_allclose(continued.joint_deg, [1.5, 49.75])
    np.testing.assert_allclose(continued.velocity_deg_s, [50.0, -25.0])


def test_speed_builds_up_holds_and_comes_down_again() -> None:
    commanded, steps = STANDING, []
    for _ in range(60):
        verdict = check(resting(np.array([20.0, 50.0])), commanded, ENVELOPE, 0)
        assert verdict.goal is not None
        commanded = commanded.after(verdict.goal)
        steps.append(commanded.step_deg[0])
    np.testing.assert_allclose(steps[:10], np.arange(1, 11) / 10)  # 0.1 more in every tick
    np.testing.assert_allclose(max(steps), 1.0)
    np.testing.assert_allclose(commanded.joint_deg, [20.0, 50.0])
    np.testing.assert_allclose(commanded.step_deg, 0.0, atol=1e-9)


def test_a_moving_setpoint_is_followed_without_lag() -> None:
    commanded = Commanded(0, np.array([0.0, 50.0]), np.array([0.5, 0.0]))
    for tick in range(1, 40):
        verdict = check(Setpoint(np.array([0.5 * tick, 50.0]), np.array([50.0, 0.0])), commanded, ENVELOPE, 0)
        assert verdict.goal is not None
        commanded = commanded.after(verdict.goal)
        np.testing.assert_allclose(commanded.joint_deg[0], 0.5 * tick)
        assert verdict.clipped_bits == 0


def test_a_moving_setpoint_that_got_ahead_is_caught_up_with() -> None:
    """It moves at half the top speed and is 5 degrees ahead; the joint arrives with its speed."""
    commanded = STANDING
    for tick in range(1, 100):
        setpoint = Setpoint(np.array([5 + 0.5 * tick, 50.0]), np.array([50.0, 0.0]))
        verdict = check(setpoint, commanded, ENVELOPE, 0)
        assert verdict.goal is not None
        commanded = commanded.after(verdict.goal)
        assert commanded.joint_deg[0] <= setpoint.joint_deg[0] + 1e-9
    np.testing.assert_allclose(commanded.joint_deg[0], 5 + 0.5 * 99)


def test_a_setpoint_that_runs_into_the_limit_stops_there() -> None:
    commanded = Commanded(0, np.array([80.0, 50.0]), np.array([0.5, 0.0]))
    for tick in range(1, 80):
        setpoint = Setpoint(np.array([80 + 0.5 * tick, 50.0]), np.array([50.0, 0.0]))
        verdict = check(setpoint, commanded, ENVELOPE, 0)
        assert verdict.goal is not None
        commanded = commanded.after(verdict.goal)
    np.testing.assert_allclose(commanded.joint_deg[0], 90.0)


@pytest.mark.parametrize("joint", [0, 1])
@pytest.mark.parametrize(("field", "value"), [("joint", np.nan), ("joint", np.inf), ("velocity", np.nan)])
def test_not_a_number_in_one_joint_is_a_fault_and_no_goal(joint: int, field: str, value: float) -> None:
    setpoint = Setpoint(np.array([0.0, 50.0]), np.zeros(2))
    (setpoint.joint_deg if field == "joint" else setpoint.velocity_deg_s)[joint] = value
    verdict = check(setpoint, STANDING, ENVELOPE, 0)
    assert (verdict.goal, verdict.clipped_bits, verdict.fault) == (None, 0, Fault.BAD_CHUNK)


def test_a_joint_outside_its_limits_comes_back_even_if_it_is_asked_to_stay() -> None:
    commanded = Commanded.standing(np.array([95.0, 50.0]))
    for _ in range(60):
        verdict = check(resting(np.array([95.0, 50.0])), commanded, ENVELOPE, 0)
        assert verdict.goal is not None
        commanded = commanded.after(verdict.goal)
    np.testing.assert_allclose(commanded.joint_deg[0], 90.0)


def test_a_joint_waits_at_its_limit_for_a_setpoint_that_is_on_its_way_back() -> None:
    commanded = Commanded.standing(np.array([90.0, 50.0]))
    verdict = check(Setpoint(np.array([100.0, 50.0]), np.array([-100.0, 0.0])), commanded, ENVELOPE, 0)
    assert verdict.goal is not None
    np.testing.assert_allclose(verdict.goal.joint_deg[0], 90.0)


STEEP = Envelope(
    min_deg=np.array([-10.0]),
    max_deg=np.array([0.0]),
    step_deg=np.array([4.0]),
    change_deg=np.array([1.0]),
    period_s=0.5,
    expiry_ns=7,
)
"""One joint with whole numbers: 4 a tick at most, 1 more or less from tick to tick, between -10 and 0."""


def commanded_at(joint_deg: float, step_deg: float = 0.0) -> Commanded:
    return Commanded(41, np.array([joint_deg]), np.array([step_deg]))


@pytest.mark.parametrize(
    ("where", "step", "wanted", "velocity", "goal", "clipped"),
    [
        # setpoint that stands: approached as fast as one can still stop there
        (-10, 0, -10, 0, -10, 0),
        (-10, 0, -9, 0, -9, 0),
        (-10, 0, 0, 0, -9, 1),  # one step of acceleration
        (-9, 1, 0, 0, -7, 1),  # another
        (-9, 3, -8, 0, -7, 1),  # too fast to stop: brakes by one and runs past
        (0, 0, -10, 0, -1, 1),
        (-1, -1, -10, 0, -3, 1),
        (-4, -4, -10, 0, -7, 1),  # 6 left: 3 + 2 + 1
        (-4, 0, -6, 0, -5, 1),
        (-4, -1, -6, 0, -5.5, 1),  # 2 left: 1.5 and 0.5
        (-10, 3, 0, 0, -6, 1),  # at full speed
        (-10, 4, 0, 0, -6, 1),  # and no faster
        (0, -4, -10, 0, -4, 1),
        # outside its range
        (1, 0, 1, 0, 0, 1),
        (-12, 0, -12, 0, -11, 1),
        (2, 0, 5, 0, 1, 1),
        # a moving setpoint is followed at its speed
        (-9, 1, -8, 2, -8, 0),
        (-8, 1, -6.5, 2, -6.5, 0),  # half a degree behind, and caught up with
        (-5, 0, -3, 2, -4, 1),
        (-2, -1, -3, -2, -3, 0),
        (-5, 4, -1, 100, -5 + 8 / 3, 1),  # too fast for the room that is left: the end of the range wins
        (-8, 0, 3, 8, -7, 1),  # it is outside: only its place counts, not its speed
        (-5, -2, -7, -4, -7, 0),
        (-8, 3, -7, 100, -6, 1),  # no faster than the joint may ever be
        (-12, -3, -12, 0, -12, 0),  # found outside and on its way further out: stands
    ],
)
def test_one_step_of_a_joint_with_whole_numbers(
    where: float, step: float, wanted: float, velocity: float, goal: float, clipped: int
) -> None:
    setpoint = Setpoint(np.array([float(wanted)]), np.array([float(velocity)]))
    verdict = check(setpoint, commanded_at(where, step), STEEP, 1000)
    assert verdict.goal is not None
    np.testing.assert_allclose(verdict.goal.joint_deg, [goal])
    assert (verdict.clipped_bits, verdict.fault) == (clipped, None)
    assert (verdict.goal.sequence, verdict.goal.due_ns, verdict.goal.expires_ns) == (42, 1000, 1007)


def test_what_is_sent_is_remembered_as_the_last_step() -> None:
    after = commanded_at(-4.0, -1.0).after(JointGoal(43, 0, 0, np.array([-5.5])))
    assert (after.sequence, after.joint_deg.tolist(), after.step_deg.tolist()) == (43, [-5.5], [-1.5])


@pytest.mark.parametrize(
    ("where", "step", "rest"), [(-5, 0, -5), (-5, 1, -5), (-5, 2, -4), (-9, 4, -3), (-2, -3, -5), (-8, 2.5, -6)]
)
def test_where_a_braking_joint_comes_to_rest(where: float, step: float, rest: float) -> None:
    np.testing.assert_allclose(commanded_at(where, step).stopping_deg(STEEP), [rest])


@pytest.mark.parametrize(
    ("room", "step"),
    [
        (-3, 0),
        (0, 0),
        (0.5, 0.5),
        (1, 1),
        (2, 1.5),
        (3, 2),
        (4.5, 2.5),
        (5.5, 8.5 / 3),
        (5.95, 8.95 / 3),
        (6, 3),
        (10, 4),
    ],
)
def test_the_longest_step_that_can_still_stop(room: float, step: float) -> None:
    np.testing.assert_allclose(fastest_step(np.array([float(room)]), np.ones(1)), [step])
    np.testing.assert_allclose(fastest_step(np.array([2.0 * room]), np.full(1, 2.0)), [2 * step])
    np.testing.assert_allclose(stopping_distance(np.array([float(step)]), np.ones(1)), [max(room, 0)])
    np.testing.assert_allclose(stopping_distance(np.array([2.0 * step]), np.full(1, 2.0)), [2 * max(room, 0)])


def test_rounding_is_no_clipping() -> None:
    for beyond_deg, clipped in ((CLIP_TOLERANCE_DEG, 0), (2 * CLIP_TOLERANCE_DEG, 1)):
        verdict = check(resting(np.array([beyond_deg])), commanded_at(0.0), STEEP, 0)
        assert verdict.clipped_bits == clipped


def test_joints_that_are_left_out_keep_place_and_step() -> None:
    before = Commanded(7, np.array([1.0, 50.0]), np.array([0.5, -0.25]))
    goal = JointGoal(8, 0, 0, np.array([2.0, 49.5]))
    everyone, nobody = before.after(goal), before.after(goal, np.array([False, False]))
    for after in (everyone, nobody):
        np.testing.assert_array_equal(after.joint_deg, [2.0, 49.5])
        np.testing.assert_array_equal(after.step_deg, [1.0, -0.5])
    after = before.after(goal, np.array([False, True]))
    assert after.sequence == 8
    np.testing.assert_array_equal(after.joint_deg, [2.0, 50.0])
    np.testing.assert_array_equal(after.step_deg, [1.0, -0.25])


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_reading_is_believed_as_far_as_a_joint_can_move(direction: float) -> None:
    """720 degrees per second, and 4 degrees of noise."""
    before_deg, elapsed_ns = np.array([10.0, -20.0]), np.array([ms_to_ns(10), ms_to_ns(100)])
    farthest_deg = np.array([7.2 + 4.0, 72.0 + 4.0])
    assert plausible(before_deg + direction * (farthest_deg - 1e-6), before_deg, elapsed_ns).all()
    assert not plausible(before_deg + direction * (farthest_deg + 1e-6), before_deg, elapsed_ns).any()


def test_noise_alone_is_believed_up_to_its_bound() -> None:
    assert plausible(np.array([4.0, -4.0]), np.zeros(2), np.zeros(2, np.int64)).all()


def test_a_reading_that_is_no_number_is_not_believed() -> None:
    readings_deg = np.array([np.nan, np.inf])
    with np.errstate(invalid="ignore"):
        assert not plausible(readings_deg, np.zeros(2), np.full(2, ms_to_ns(10))).any()
