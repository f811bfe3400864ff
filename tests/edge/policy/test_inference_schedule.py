"""When inferences begin: in time for the next chunk, whatever their duration."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.policy.inference_schedule import MARGIN_NS, WINDOW, DurationEstimate, InferenceSchedule
from sefa_edge.profiles.card import TimingSpec
from sefa_edge.profiles.units import ms_to_ns

STEP_NS = ms_to_ns(100)


def timing(horizon: int) -> TimingSpec:
    return TimingSpec(policy_rate_hz=10.0, n_obs_steps=1, horizon=horizon, execute_steps=1, first_step_offset=1)


def play(schedule: InferenceSchedule, horizon: int, durations_ns: list[int]) -> list[tuple[int, int, int]]:
    """(begin, end, last step) of inferences that begin when they are due, on the input at that time."""
    found = []
    for duration_ns in durations_ns:
        begun_ns = schedule.due_ns
        schedule.begin(begun_ns)
        plan_end_ns = begun_ns + horizon * STEP_NS
        schedule.end(begun_ns + duration_ns, plan_end_ns)
        found.append((begun_ns, begun_ns + duration_ns, plan_end_ns))
    return found


def test_a_fast_engine_runs_once_per_period() -> None:
    schedule = InferenceSchedule(timing(16), 4)
    schedule.start(ms_to_ns(50))
    begun = [begun for begun, _, _ in play(schedule, 16, [ms_to_ns(12)] * 5)]
    assert begun == [ms_to_ns(50) + ms_to_ns(400) * chunk for chunk in range(5)]
    assert (schedule.skipped_steps, schedule.overlong) == (0, 0)
    assert schedule.expected_ns == ms_to_ns(12)


def test_the_next_inference_begins_before_a_chunk_is_played_to_its_end() -> None:
    schedule = InferenceSchedule(timing(16), 16)
    schedule.start(0)
    played = play(schedule, 16, [ms_to_ns(150)] * 3)
    assert played[1][0] == ms_to_ns(1600) - ms_to_ns(150) - MARGIN_NS
    assert all(ended + MARGIN_NS <= plan_end for (_, _, plan_end), (_, ended, _) in pairwise(played))


def test_an_engine_slower_than_its_period_runs_again_at_once() -> None:
    schedule = InferenceSchedule(timing(16), 4)
    schedule.start(0)
    played = play(schedule, 16, [ms_to_ns(630)] * 4)
    assert [begun for begun, _, _ in played] == [ms_to_ns(630) * chunk for chunk in range(4)]
    assert schedule.overlong == 4
    assert schedule.skipped_steps == 4 * 2


def test_missing_input_is_not_an_overrun() -> None:
    schedule = InferenceSchedule(timing(16), 4)
    schedule.start(0)
    for attempt in range(80):
        schedule.postpone(attempt * ms_to_ns(10), ms_to_ns(10))
    play(schedule, 16, [ms_to_ns(10)])
    assert schedule.skipped_steps == 0
    assert schedule.due_ns == ms_to_ns(800 + 400)


def test_one_outlier_in_a_hundred_is_ignored() -> None:
    estimate = DurationEstimate()
    assert estimate.high_ns == 0
    for _ in range(WINDOW - 1):
        estimate.add(10)
    estimate.add(5000)
    assert estimate.high_ns == 10
    estimate.add(4000)
    assert estimate.high_ns == 4000
    for _ in range(WINDOW):
        estimate.add(20)
    assert estimate.high_ns == 20


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [2, 8, 16])
@given(execute=st.integers(1, 16), durations_ms=st.lists(st.integers(0, 1500), min_size=2, max_size=30))
def test_the_arm_never_idles_when_the_next_inference_could_have_begun(
    horizon: int, execute: int, durations_ms: list[int]
) -> None:
    """Either the next chunk arrives before the last step, or it took longer than any before, or it was begun at
    the end of the one before."""
    schedule = InferenceSchedule(timing(horizon), min(execute, horizon))
    schedule.start(0)
    played = play(schedule, horizon, [ms_to_ns(duration) for duration in durations_ms])
    longest_ns = 0
    for (begun, ended, plan_end), (next_begun, next_ended, _) in pairwise(played):
        assert next_begun >= ended
        longest_ns = max(longest_ns, ended - begun)
        in_time = next_ended + MARGIN_NS <= plan_end
        assert in_time or next_ended - next_begun > longest_ns or next_begun == ended
