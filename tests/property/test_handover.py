"""Hand-over of any chunks in any order: no jump in position or velocity, no late step, no broken limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sefa_edge.edge.control.chunks import ChunkPlayer
from sefa_edge.edge.control.handover import average, hand_over
from sefa_edge.edge.control.handover_settings import HAND_OVER_MODES, HandOver
from sefa_edge.edge.control.safety import Commanded, Envelope, check
from sefa_edge.edge.control.shaping import Path, Setpoint, cubic, path_through, resting, sample_paths
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.schema import LimitTable
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns

STEP_NS, TICK_NS, JOINTS, HORIZON = ms_to_ns(100), ms_to_ns(10), 2, 8
START_NS = ms_to_ns(5000)

degrees = st.floats(-100, 100).map(lambda value: round(value, 3))
places = st.lists(degrees, min_size=JOINTS, max_size=JOINTS).map(np.array)
setpoints = st.builds(Setpoint, places, places)
knots = st.lists(places, min_size=1, max_size=HORIZON).map(np.array)
fades = st.one_of(st.sampled_from([0.0, 1e-6, 1.0]), st.floats(1, 400))
settings_of = st.builds(HandOver, st.sampled_from(HAND_OVER_MODES), fades, st.floats(-5, 5))


def path_at(first_ns: int, knot_deg: np.ndarray) -> Path:
    return path_through(first_ns + STEP_NS * np.arange(len(knot_deg)), knot_deg)


@st.composite
def overlaps(draw: st.DrawFn) -> tuple[list[Path], int]:
    """Chunks in the order of their observations, and a time before the end of the last one."""
    first_ns, paths, steps = START_NS, [], draw(st.integers(1, HORIZON))
    same_steps = st.lists(places, min_size=steps, max_size=steps).map(np.array)
    for knot_deg in draw(st.lists(same_steps, min_size=1, max_size=4)):
        first_ns += draw(st.integers(1, 3 * STEP_NS))
        paths.append(path_at(first_ns, knot_deg))
    newest = paths[-1].times_ns
    return paths, int(draw(st.integers(int(newest[0]) - 2 * STEP_NS, int(newest[-1]) - 1)))


def at(path: Path, times_ns: np.ndarray) -> Setpoint:
    """Positions and velocities [k, n] at times int64 [k]; outside its knots the path continues at constant velocity."""
    inner_ns = np.clip(times_ns, path.times_ns[0], path.times_ns[-1])
    if len(path.times_ns) == 1:
        place = Setpoint(path.joint_deg[[0] * len(times_ns)], path.velocity_deg_s[[0] * len(times_ns)])
    else:
        row = np.clip(np.searchsorted(path.times_ns, inner_ns), 1, len(path.times_ns) - 1)
        start = Setpoint(path.joint_deg[row - 1], path.velocity_deg_s[row - 1])
        end = Setpoint(path.joint_deg[row], path.velocity_deg_s[row])
        before_ns = path.times_ns[row - 1]
        place = cubic(start, end, (inner_ns - before_ns)[:, None], (path.times_ns[row] - before_ns)[:, None])
    outside_s = (times_ns - inner_ns)[:, None] / NS_PER_S
    return Setpoint(place.joint_deg + outside_s * place.velocity_deg_s, place.velocity_deg_s)


def points(path: Path) -> np.ndarray:
    """Times on and between the knots, int64 ns."""
    return np.unique(np.linspace(path.times_ns[0], path.times_ns[-1], 97).astype(np.int64))


@settings(max_examples=50)
@given(overlaps(), setpoints, settings_of)
def test_position_and_velocity_do_not_jump(overlap: tuple[list[Path], int], here: Setpoint, wanted: HandOver) -> None:
    chunks, now_ns = overlap
    path = hand_over(chunks, here, now_ns, wanted)
    assert path.times_ns[0] == now_ns
    assert (np.diff(path.times_ns) > 0).all()
    before = here
    for row in range(1, len(path.times_ns)):
        segment = path.segment(row)
        begin = segment.setpoint(segment.from_ns)
        np.testing.assert_allclose(begin.joint_deg, before.joint_deg, atol=1e-9)
        np.testing.assert_allclose(begin.velocity_deg_s, before.velocity_deg_s, rtol=1e-9, atol=1e-3)
        before = segment.setpoint(segment.to_ns)


@given(overlaps(), setpoints)
def test_replace_follows_the_new_chunk_from_its_next_step_on(overlap: tuple[list[Path], int], here: Setpoint) -> None:
    chunks, now_ns = overlap
    path, newest = hand_over(chunks, here, now_ns, HandOver("replace")), chunks[-1]
    left = newest.times_ns > now_ns
    np.testing.assert_array_equal(path.times_ns[1:], newest.times_ns[left])
    np.testing.assert_array_equal(path.joint_deg[1:], newest.joint_deg[left])


@settings(max_examples=50)
@given(overlaps(), setpoints, fades)
def test_blend_follows_the_new_chunk_once_the_offset_has_faded(
    overlap: tuple[list[Path], int], here: Setpoint, fade_ms: float
) -> None:
    chunks, now_ns = overlap
    path, newest = hand_over(chunks, here, now_ns, HandOver("blend", fade_ms)), chunks[-1]
    times_ns = points(path)
    after = times_ns[times_ns >= max(now_ns + ms_to_ns(fade_ms), newest.times_ns[newest.times_ns > now_ns][0])]
    np.testing.assert_allclose(at(path, after).joint_deg, at(newest, after).joint_deg, atol=1e-6)
    np.testing.assert_allclose(at(path, after).velocity_deg_s, at(newest, after).velocity_deg_s, atol=1e-3)


@settings(max_examples=50)
@given(overlaps(), setpoints, st.floats(1, 400))
def test_the_offset_grows_no_further_than_its_velocity_explains(
    overlap: tuple[list[Path], int], here: Setpoint, fade_ms: float
) -> None:
    chunks, now_ns = overlap
    path, newest = hand_over(chunks, here, now_ns, HandOver("blend", fade_ms)), chunks[-1]
    times_ns = points(path)
    offset = np.abs(at(path, times_ns).joint_deg - at(newest, times_ns).joint_deg)
    plan = at(newest, np.array([now_ns]))
    velocity = np.abs(here.velocity_deg_s - plan.velocity_deg_s[0])
    # The fading cubic contains u (1 - u)^2, whose maximum is 4/27.
    bound = np.abs(here.joint_deg - plan.joint_deg[0]) + velocity * fade_ms / 1000 * 4 / 27
    assert (offset <= bound + 1e-6).all()


@settings(max_examples=50)
@given(overlaps(), st.floats(-800, 800))
def test_the_mean_is_between_its_chunks(overlap: tuple[list[Path], int], decay: float) -> None:
    chunks, _ = overlap
    mean = average(chunks, decay)
    covering = np.ma.masked_array([at(path, mean.times_ns).joint_deg for path in chunks])
    for path, mask in zip(chunks, covering, strict=True):
        mask[(mean.times_ns < path.times_ns[0]) | (mean.times_ns > path.times_ns[-1])] = np.ma.masked
    assert (mean.joint_deg >= covering.min(axis=0).data - 1e-9).all()
    assert (mean.joint_deg <= covering.max(axis=0).data + 1e-9).all()


def test_weights_decay_from_the_oldest_to_the_newest_chunk() -> None:
    chunks = [path_at(START_NS, np.full((4, 1), value)) for value in (0.0, 10.0, 40.0)]
    decay = np.log(2)  # weights 4 : 2 : 1
    np.testing.assert_allclose(average(chunks, decay).joint_deg, (0 * 4 + 10 * 2 + 40 * 1) / 7)
    np.testing.assert_allclose(average(chunks, -decay).joint_deg, (0 * 1 + 10 * 2 + 40 * 4) / 7)
    np.testing.assert_allclose(average(chunks, 0.0).joint_deg, 50 / 3)


def test_a_mean_includes_only_chunks_that_cover_the_time() -> None:
    old, new = path_at(START_NS, np.full((4, 1), 0.0)), path_at(START_NS + 2 * STEP_NS, np.full((4, 1), 10.0))
    np.testing.assert_allclose(average([old, new], 0.0).joint_deg[:, 0], [5, 5, 10, 10])


@settings(max_examples=50)
@given(overlaps())
def test_sample_paths_equal_those_of_each_path(overlap: tuple[list[Path], int]) -> None:
    paths, _ = overlap
    times_ns = points(paths[-1])
    if len(paths[0].times_ns) > 1:
        for path, places, covers in zip(paths, *sample_paths(paths, times_ns), strict=True):
            expected = (path.times_ns[0] <= times_ns) & (times_ns <= path.times_ns[-1])
            np.testing.assert_array_equal(covers, expected)
            assert np.isfinite(places).all()
            np.testing.assert_allclose(places[expected], at(path, times_ns).joint_deg[expected], atol=1e-9)


@settings(max_examples=50)
@given(knots)
def test_a_path_stays_between_its_knots(knot_deg: np.ndarray) -> None:
    path = path_at(START_NS, knot_deg)
    for row in range(1, len(knot_deg)):
        segment = path.segment(row)
        inside = np.linspace(segment.from_ns, segment.to_ns, 21).astype(np.int64)
        joint_deg = at(path, inside).joint_deg
        low, high = np.minimum(knot_deg[row - 1], knot_deg[row]), np.maximum(knot_deg[row - 1], knot_deg[row])
        assert (joint_deg >= low - 1e-9).all()
        assert (joint_deg <= high + 1e-9).all()
        for moment, place in zip(inside.tolist(), joint_deg, strict=True):
            np.testing.assert_allclose(segment.setpoint(moment).joint_deg, place, atol=1e-9)


@given(knots, st.integers(1, STEP_NS))
def test_outside_its_knots_a_path_continues_at_constant_velocity(knot_deg: np.ndarray, by_ns: int) -> None:
    path = path_at(START_NS, knot_deg)
    ends = at(path, np.array([path.times_ns[0] - by_ns, path.times_ns[-1] + by_ns]))
    along = by_ns / 1e9 * path.velocity_deg_s[[0, -1]]
    np.testing.assert_allclose(ends.joint_deg, knot_deg[[0, -1]] + [[-1], [1]] * along, atol=1e-9)
    np.testing.assert_allclose(ends.velocity_deg_s, path.velocity_deg_s[[0, -1]], atol=1e-9)


@given(knots, st.integers(-2 * STEP_NS, (HORIZON + 2) * STEP_NS))
def test_a_single_point_equals_the_path_at_its_time(knot_deg: np.ndarray, after_ns: int) -> None:
    path, moment_ns = path_at(START_NS, knot_deg), START_NS + after_ns
    point, along = path.point(moment_ns), at(path, np.array([moment_ns]))
    np.testing.assert_allclose(point.joint_deg, along.joint_deg[0], atol=1e-9)
    np.testing.assert_allclose(point.velocity_deg_s, along.velocity_deg_s[0], atol=1e-9)


@dataclass(frozen=True)
class Arrival:
    """A chunk with any id, age and contents, and the number of ticks before it arrives."""

    chunk_id: int
    age_ticks: int
    ticks_before: int
    knot_deg: np.ndarray

    def chunk(self, now_ns: int) -> ActionChunk:
        observed_ns = now_ns - self.age_ticks * TICK_NS
        return ActionChunk(
            self.chunk_id, observed_ns, observed_ns + STEP_NS, STEP_NS, self.knot_deg.astype(np.float32), 0
        )


arrivals = st.lists(st.builds(Arrival, st.integers(0, 9), st.integers(0, 60), st.integers(0, 30), knots), max_size=8)
HEALTH = load_arm_profile("so101_sim").limit_table().health
LIMITS = LimitTable(
    joint_names=("a", "b"),
    min_deg=np.array([-60.0, -5.0]),
    max_deg=np.array([60.0, 90.0]),
    max_velocity_deg_s=np.full(2, 240.0),
    max_acceleration_deg_s2=np.full(2, 1500.0),
    goal_timeout_ns=ms_to_ns(500),
    health=HEALTH,
)


@pytest.mark.parametrize("mode", HAND_OVER_MODES)
@settings(max_examples=40)
@given(arrivals, fades)
def test_any_arrival_of_chunks_keeps_the_limits_and_ends_at_rest(
    mode: str, sequence: list[Arrival], fade_ms: float
) -> None:
    """Chunks out of order, repeated, late, after a gap: commands keep the limits, and stop when no chunks arrive."""
    envelope, commanded = Envelope.of(LIMITS, TICK_NS), Commanded.standing(np.zeros(JOINTS))
    player, now_ns, accepted = ChunkPlayer(HandOver(mode, fade_ms)), START_NS, []  # type: ignore[arg-type]
    player.start(now_ns - ms_to_ns(300))
    path = [commanded.joint_deg]

    def tick() -> None:
        nonlocal commanded, now_ns
        now_ns += TICK_NS
        segment = player.choose(now_ns)
        if segment is not None:
            assert segment.from_ns <= now_ns <= segment.to_ns
        setpoint = segment.setpoint(now_ns) if segment else resting(commanded.stopping_deg(envelope))
        verdict = check(setpoint, commanded, envelope, now_ns)
        assert verdict.goal is not None
        commanded = commanded.after(verdict.goal)
        path.append(commanded.joint_deg)

    for arrival in sequence:
        for _ in range(arrival.ticks_before):
            tick()
        here = Setpoint(commanded.joint_deg + commanded.step_deg, commanded.step_deg / envelope.period_s)
        if player.accept(arrival.chunk(now_ns), now_ns, here):
            accepted.append(arrival.chunk_id)
    for _ in range((HORIZON + 1) * STEP_NS // TICK_NS + 40):
        tick()

    steps = np.diff(path, axis=0)
    assert accepted == sorted(set(accepted))
    assert (np.array(path) >= LIMITS.min_deg - 1e-9).all()
    assert (np.array(path) <= LIMITS.max_deg + 1e-9).all()
    assert (np.abs(steps) <= envelope.step_deg + 1e-9).all()
    assert (np.abs(np.diff(steps, axis=0)) <= envelope.change_deg + 1e-9).all()
    np.testing.assert_allclose(steps[-1], 0.0, atol=1e-6)
