"""Calibration frames and held-out frames never share an episode; coverage is a share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.windows import HELD_OUT_SHARE, Choice, choose_frames, coverage, noises

lengths = st.lists(st.integers(1, 40), min_size=2, max_size=30)
seeds = st.integers(0, 2**32 - 1)


@given(lengths, st.integers(1, 300), seeds)
def test_parts_share_no_episode_and_together_cover_all_frames(lengths: list[int], count: int, seed: int) -> None:
    episode = np.repeat(np.arange(len(lengths)) * 3, lengths)
    calibration, held_out = (choose_frames(episode, Choice(p, count, seed)) for p in ("calibration", "held_out"))
    assert not set(episode[calibration]) & set(episode[held_out])
    everything = [choose_frames(episode, Choice(p, len(episode), seed)) for p in ("calibration", "held_out")]
    assert sorted(np.concatenate(everything).tolist()) == list(range(len(episode)))
    assert len(set(episode[everything[1]])) == max(1, round(HELD_OUT_SHARE * len(lengths)))


@given(lengths, st.integers(1, 300), seeds)
def test_frames_are_distinct_ascending_and_spread_evenly(lengths: list[int], count: int, seed: int) -> None:
    episode = np.repeat(np.arange(len(lengths)), lengths)
    whole_part = choose_frames(episode, Choice("calibration", len(episode), seed))
    frames = choose_frames(episode, Choice("calibration", count, seed))
    assert len(frames) == min(count, len(whole_part))
    assert (np.diff(frames) > 0).all()
    assert set(frames) <= set(whole_part)
    taken = np.bincount(episode[frames], minlength=len(lengths))
    members = np.unique(episode[whole_part])
    short_of = [taken[index] for index in members if taken[index] < lengths[index]]
    assert not short_of or max(taken[members]) - min(short_of) <= 1


@given(lengths, seeds)
def test_the_same_choice_gives_the_same_frames(lengths: list[int], seed: int) -> None:
    episode = np.repeat(np.arange(len(lengths)), lengths)
    first, again = (choose_frames(episode, Choice("held_out", 20, seed)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_frames_of_an_episode_are_spread_evenly() -> None:
    episode = np.repeat(np.arange(4), 100)
    frames = choose_frames(episode, Choice("held_out", 10))
    assert np.bincount(frames % 100 // 10).tolist() == [1] * 10


def test_one_episode_cannot_be_split() -> None:
    with pytest.raises(InputError, match="one episode"):
        choose_frames(np.zeros(50, np.int64), Choice("held_out", 10))


def test_noise_depends_only_on_its_seed_and_is_standard_normal() -> None:
    noise = noises(200, 16, 6, seed=3)
    assert (noise.shape, noise.dtype) == ((200, 16, 6), np.float32)
    np.testing.assert_array_equal(noise, noises(200, 16, 6, seed=3))
    np.testing.assert_array_equal(noise[:50], noises(50, 16, 6, seed=3))  # fewer samples, the same first ones
    assert (noise != noises(200, 16, 6, seed=4)).any()
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


@given(st.lists(st.floats(-200, 200), min_size=1, max_size=60), st.floats(-100, 100), st.floats(0, 200))
def test_coverage_is_a_share_and_grows_with_samples(values: list[float], minimum: float, span: float) -> None:
    samples, low, high = np.array(values)[:, None], np.array([minimum]), np.array([minimum + span])
    shares = [coverage(samples[: index + 1], low, high)[0] for index in range(len(samples))]
    assert all(0 <= share <= 1 for share in shares)
    assert shares == sorted(shares)


def test_coverage_counts_bins() -> None:
    low, high = np.array([0.0, 0.0, 5.0]), np.array([20.0, 100.0, 5.0])
    joints = np.array([[0.0, 0.0, 5.0], [0.5, 100.0, 5.0], [20.0, 50.0, 5.0], [21.0, -1.0, 4.0]])
    np.testing.assert_allclose(coverage(joints, low, high), [2 / 20, 3 / 20, 1.0])
    whole = np.linspace(0, 20, 400)[:, None]
    assert coverage(whole, low[:1], high[:1])[0] == 1.0
