"""Percentiles against their definition, and the streamed ones against the exact ones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.profiles.percentiles import BUCKETS_PER_OCTAVE, LatencyHistogram, percentiles

DURATIONS = st.lists(st.integers(0, 10**12), min_size=1, max_size=300)


def test_known_percentiles() -> None:
    result = percentiles(np.random.default_rng(1).permutation(np.arange(1, 1001)))
    assert (result.p50_ns, result.p90_ns, result.p99_ns, result.p999_ns) == (500, 900, 990, 999)
    assert (result.count, result.min_ns, result.max_ns, result.mean_ns) == (1000, 1, 1000, 500.5)


@given(DURATIONS)
def test_a_percentile_is_a_sample_that_its_share_does_not_exceed(durations: list[int]) -> None:
    samples = np.array(durations, np.int64)
    result = percentiles(samples)
    for quantile, value in (
        (0.5, result.p50_ns),
        (0.9, result.p90_ns),
        (0.99, result.p99_ns),
        (0.999, result.p999_ns),
    ):
        assert value in durations
        assert (samples <= value).mean() >= quantile
        assert (samples < value).mean() < quantile


@given(DURATIONS)
def test_streamed_percentiles_stay_within_one_bucket(durations: list[int]) -> None:
    samples = np.array(durations, np.int64)
    histogram = LatencyHistogram()
    for duration in durations:
        histogram.add(duration)
    exact, streamed = percentiles(samples), histogram.percentiles()
    assert (streamed.count, streamed.min_ns, streamed.max_ns) == (exact.count, exact.min_ns, exact.max_ns)
    width = 2 ** (1 / BUCKETS_PER_OCTAVE) - 1
    for field in ("p50_ns", "p90_ns", "p99_ns", "p999_ns"):
        expected = getattr(exact, field)
        assert abs(getattr(streamed, field) - expected) <= width * expected + 1


@given(DURATIONS, DURATIONS)
def test_merging_equals_counting_both(left: list[int], right: list[int]) -> None:
    merged, other, both = LatencyHistogram(), LatencyHistogram(), LatencyHistogram()
    merged.add_all(np.array(left, np.int64))
    other.add_all(np.array(right, np.int64))
    merged.merge(other)
    both.add_all(np.array(left + right, np.int64))
    assert merged.percentiles() == both.percentiles()
    assert merged.bins(60) == both.bins(60)


@given(DURATIONS, st.integers(1, 80))
def test_bins_hold_every_sample_once(durations: list[int], at_most: int) -> None:
    samples = np.array(durations, np.int64)
    histogram = LatencyHistogram()
    histogram.add_all(samples)
    bins = histogram.bins(at_most)
    assert len(bins) <= at_most
    assert all(high == low for (_, high, _), (low, _, _) in pairwise(bins))
    for low, high, count in bins:
        assert count == ((np.maximum(samples, 1) >= low) & (np.maximum(samples, 1) < high)).sum()
    assert sum(count for *_, count in bins) == len(durations)


def test_no_samples() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentiles(np.array([], np.int64))
    with pytest.raises(ValueError, match="no samples"):
        LatencyHistogram().percentiles()
    assert LatencyHistogram().bins(60) == []


def test_negative_and_huge_durations_are_counted() -> None:
    histogram = LatencyHistogram()
    histogram.add_all(np.array([-5, 2**50], np.int64))
    assert len(histogram) == 2
    assert histogram.percentiles().min_ns == 0
    assert histogram.percentiles().max_ns == 2**50
