"""The limiter under any requests: no command breaks a limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sefa_edge.edge.control.safety import Commanded, Envelope, Verdict, check, fastest_step, stopping_distance
from sefa_edge.edge.control.shaping import Setpoint
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.schema import LimitTable
from sefa_edge.profiles.units import ms_to_ns

PERIOD_NS = ms_to_ns(10)
ROUNDING = 1e-9
HEALTH = load_arm_profile("so101_sim").limit_table().health

numbers = st.floats(-400, 400)
extremes = st.sampled_from([0.0, -0.0, 1e-12, 1e9, -1e9, 1e300, -1e300])
positions = st.one_of(numbers, extremes)
bounds = st.tuples(st.floats(-180, 0), st.floats(0.5, 180))


def limits_of(low_deg: float, high_deg: float, velocity_deg_s: float, acceleration_deg_s2: float) -> LimitTable:
    return limits_for(("joint",), low_deg, high_deg, velocity_deg_s, acceleration_deg_s2)


def limits_for(names: tuple[str, ...], low: float, high: float, velocity: float, change: float) -> LimitTable:
    low_deg, high_deg, velocity_deg_s, acceleration_deg_s2 = (
        np.full(len(names), value) for value in (low, high, velocity, change)
    )
    return LimitTable(names, low_deg, high_deg, velocity_deg_s, acceleration_deg_s2, ms_to_ns(500), HEALTH)


limit_tables = st.builds(
    lambda ends, velocity, acceleration: limits_of(ends[0], ends[1], velocity, acceleration),
    bounds,
    st.floats(1, 2000),
    st.floats(1, 100_000),
)


def fastest(room_deg: float, change_deg: float) -> float:
    return float(fastest_step(np.array([room_deg]), np.array([change_deg]))[0])


def setpoint(joint_deg: float, velocity_deg_s: float = 0.0) -> Setpoint:
    return Setpoint(np.array([joint_deg]), np.array([velocity_deg_s]))


def drive(
    requests: list[tuple[float, float]], start_deg: float, limits: LimitTable
) -> tuple[np.ndarray, list[Verdict]]:
    """All commanded positions, beginning with the start, and all verdicts."""
    envelope, commanded = Envelope.of(limits, PERIOD_NS), Commanded.standing(np.array([start_deg]))
    path, verdicts = [start_deg], []
    for tick, request in enumerate(requests):
        verdict = check(setpoint(*request), commanded, envelope, tick * PERIOD_NS)
        assert verdict.goal is not None
        commanded = commanded.after(verdict.goal)
        path.append(float(verdict.goal.joint_deg[0]))
        verdicts.append(verdict)
    return np.array(path), verdicts


def assert_keeps(limits: LimitTable, path: np.ndarray) -> None:
    envelope = Envelope.of(limits, PERIOD_NS)
    steps = np.diff(path, prepend=path[0])
    assert (path[1:] >= min(limits.min_deg[0], path[0])).all()
    assert (path[1:] <= max(limits.max_deg[0], path[0])).all()
    assert (np.abs(steps) <= envelope.step_deg[0] + ROUNDING).all()
    assert (np.abs(np.diff(steps)) <= envelope.change_deg[0] + ROUNDING).all()


@settings(max_examples=300)
@given(
    limit_tables,
    st.floats(0, 1),
    st.lists(st.tuples(positions, positions), min_size=1, max_size=60),
    st.integers(1, 12),
)
def test_no_sequence_of_setpoints_breaks_a_limit(
    limits: LimitTable, where: float, requests: list[tuple[float, float]], repeats: int
) -> None:
    low, high = float(limits.min_deg[0]), float(limits.max_deg[0])
    start_deg = min(low + where * (high - low), high)  # the sum may round to above the end
    path, _ = drive([request for request in requests for _ in range(repeats)], start_deg, limits)
    assert_keeps(limits, path)
    assert (path >= limits.min_deg[0]).all()
    assert (path <= limits.max_deg[0]).all()


@given(limit_tables, st.floats(0.001, 90), st.sampled_from([-1, 1]), st.lists(positions, min_size=1, max_size=80))
def test_a_joint_outside_its_limits_only_moves_back(
    limits: LimitTable, outside_deg: float, side: int, requests: list[float]
) -> None:
    start_deg = float(limits.max_deg[0] + outside_deg if side > 0 else limits.min_deg[0] - outside_deg)
    path, _ = drive([(request, 0.0) for request in requests], start_deg, limits)
    assert_keeps(limits, path)
    excess = np.maximum(np.maximum(path - limits.max_deg[0], limits.min_deg[0] - path), 0.0)
    assert (np.diff(excess) <= 0).all()


@settings(max_examples=200)
@given(limit_tables, st.lists(st.floats(-1, 1), min_size=1, max_size=80), st.floats(0.05, 0.95))
def test_a_setpoint_inside_the_limits_passes_unchanged(limits: LimitTable, changes: list[float], where: float) -> None:
    """A path built from accelerations within the limits passes the limiter unchanged."""
    envelope = Envelope.of(limits, PERIOD_NS)
    low, high, change = limits.min_deg[0], limits.max_deg[0], float(envelope.change_deg[0])
    here, step, requests = float(low + where * (high - low)), 0.0, []
    for share in changes:
        wanted = np.clip(step + 0.99 * share * change, -envelope.step_deg[0], envelope.step_deg[0])
        wanted = float(np.clip(wanted, -fastest(here - low, change), fastest(high - here, change)))
        if abs(wanted - step) > change:
            break
        here, step = here + wanted, wanted
        requests.append((here, step / envelope.period_s))
    path, verdicts = drive(requests, float(low + where * (high - low)), limits)
    np.testing.assert_allclose(path[1:], [request[0] for request in requests], atol=1e-7)
    assert all(verdict.clipped_bits == 0 for verdict in verdicts)


@given(limit_tables, st.floats(0, 1), st.floats(0, 1))
def test_a_constant_setpoint_is_reached_without_overshoot(limits: LimitTable, start: float, end: float) -> None:
    low, width = limits.min_deg[0], limits.max_deg[0] - limits.min_deg[0]
    start_deg, end_deg = float(low + start * width), float(low + end * width)
    envelope = Envelope.of(limits, PERIOD_NS)
    distance = abs(end_deg - start_deg)
    ticks = int(distance / envelope.step_deg[0] + 2 * np.sqrt(distance / envelope.change_deg[0])
                + 2 * envelope.step_deg[0] / envelope.change_deg[0]) + 3  # fmt: skip
    path, _ = drive([(end_deg, 0.0)] * min(ticks, 500), start_deg, limits)
    beyond = (path - end_deg) * np.sign(end_deg - start_deg)
    assert beyond.max() <= 1e-6
    if ticks <= 500:
        assert abs(path[-1] - end_deg) <= 1e-6


@given(limit_tables, st.lists(st.tuples(positions, positions), max_size=40))
def test_braking_ends_at_the_stopping_point(limits: LimitTable, requests: list[tuple[float, float]]) -> None:
    envelope, commanded = Envelope.of(limits, PERIOD_NS), Commanded.standing(np.array([0.25]))
    for request in requests:
        verdict = check(setpoint(*request), commanded, envelope, 0)
        assert verdict.goal is not None
        commanded = commanded.after(verdict.goal)
    foreseen_deg = commanded.stopping_deg(envelope)
    assert limits.min_deg[0] - 1e-6 <= foreseen_deg[0] <= limits.max_deg[0] + 1e-6
    for _ in range(int(abs(commanded.step_deg[0]) / envelope.change_deg[0]) + 2):
        verdict = check(Setpoint(commanded.stopping_deg(envelope), np.zeros(1)), commanded, envelope, 0)
        assert verdict.goal is not None
        commanded = commanded.after(verdict.goal)
    np.testing.assert_allclose(commanded.joint_deg, foreseen_deg, atol=1e-6)
    np.testing.assert_allclose(commanded.step_deg, 0, atol=1e-6)


@given(
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.booleans(),
    st.integers(0, 2),
    st.floats(-50, 50),
    st.floats(-5, 5),
)
def test_a_setpoint_that_is_not_finite_is_not_commanded(
    bad: float, in_velocity: bool, joint: int, here_deg: float, step_deg: float
) -> None:
    limits = limits_for(("a", "b", "c"), -90.0, 90.0, 200.0, 1500.0)
    commanded = Commanded(7, np.full(3, here_deg), np.full(3, step_deg))
    request = Setpoint(np.zeros(3), np.zeros(3))
    (request.velocity_deg_s if in_velocity else request.joint_deg)[joint] = bad
    verdict = check(request, commanded, Envelope.of(limits, PERIOD_NS), 0)
    if in_velocity and np.isinf(bad):
        assert verdict.goal is not None  # an infinite velocity is clipped like any other
    else:
        assert (verdict.goal, verdict.clipped_bits, verdict.fault) == (None, 0, Fault.BAD_CHUNK)


@given(st.floats(0, 1e6), st.floats(1e-6, 1e4))
def test_fastest_step_inverts_stopping_distance(room_deg: float, change_deg: float) -> None:
    room, change = np.array([room_deg]), np.array([change_deg])
    np.testing.assert_allclose(stopping_distance(fastest_step(room, change), change), room, rtol=1e-9, atol=1e-9)


@given(st.floats(1e-6, 100), st.integers(0, 200), st.floats(0, 0.999))
def test_stopping_distance_is_the_sum_of_decreasing_steps(change_deg: float, whole: int, part: float) -> None:
    step = (whole + part) * change_deg
    by_hand = sum(max(step - k * change_deg, 0.0) for k in range(whole + 2))
    distance = stopping_distance(np.array([step]), np.array([change_deg]))
    np.testing.assert_allclose(distance, by_hand, rtol=1e-9, atol=1e-9)
