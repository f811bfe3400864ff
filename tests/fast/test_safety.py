"""The limiter by example; tests/property/test_safety_limits.py tries everything else."""

from __future__ import annotations

import numpy as np

from sefa_edge.edge.modes import Fault
from sefa_edge.edge.safety import Commanded, Envelope, bits, check
from sefa_edge.edge.shaping import Setpoint, resting
from sefa_edge.profiles.schema import LimitTable, load_arm_profile
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


def test_not_a_number_anywhere_is_a_fault_and_no_goal() -> None:
    for setpoint in (resting(np.array([np.nan, 50.0])), Setpoint(np.array([0.0, 50.0]), np.full(2, np.nan))):
        verdict = check(setpoint, STANDING, ENVELOPE, 0)
        assert (verdict.goal, verdict.fault) == (None, Fault.BAD_CHUNK)


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
