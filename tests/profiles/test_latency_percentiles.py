"""Percentiles compared with their definition, those of a run compared with the exact ones, and bins."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.run.summary import Durations
from sefa_edge.profiles.percentiles import BUCKETS_PER_OCTAVE, duration_bins, percentiles
from sefa_edge.profiles.units import ns_to_ms

DURATIONS = st.lists(st.integers(0, 10**12), min_size=1, max_size=300)


def test_known_percentiles() -> None:
    result = percentiles(np.random.default_rng(1).permutation(np.arange(1, 1001)))
    assert (result.p50_ns, result.p90_ns, result.p99_ns, result.p999_ns) == (500, 900, 990, 999)
    assert (result.count, result.min_ns, result.max_ns, result.mean_ns) == (1000, 1, 1000, 500.5)


@pytest.mark.slow
@given(DURATIONS)
def test_a_percentile_is_a_sample_that_its_share_of_the_samples_does_not_exceed(durations: list[int]) -> None:
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


@pytest.mark.slow
@given(DURATIONS)
def test_percentiles_of_a_run_stay_within_one_bucket(durations_ns: list[int]) -> None:
    durations = Durations()
    for duration_ns in durations_ns:
        durations.add(duration_ns)
    exact, streamed = percentiles(np.array(durations_ns, np.int64)), durations.as_ms()
    assert streamed is not None
    assert streamed["max"] == round(ns_to_ms(exact.max_ns), 4)
    width = 2 ** (1 / BUCKETS_PER_OCTAVE) - 1
    for name in ("p50", "p99", "p999"):
        expected_ns = getattr(exact, f"{name}_ns")
        assert abs(streamed[name] * 1e6 - expected_ns) <= width * expected_ns + 51


@pytest.mark.slow
@given(DURATIONS, st.integers(1, 80))
def test_bins_contain_every_sample_once(durations: list[int], at_most: int) -> None:
    samples = np.array(durations, np.int64)
    bins = duration_bins(samples, at_most)
    assert len(bins) <= at_most
    assert all(left.high_ns == right.low_ns for left, right in pairwise(bins))
    for bin in bins:
        assert bin.count == ((np.maximum(samples, 1) >= bin.low_ns) & (np.maximum(samples, 1) < bin.high_ns)).sum()
    assert sum(bin.count for bin in bins) == len(durations)


def test_no_samples() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentiles(np.array([], np.int64))
    assert Durations().as_ms() is None


def test_negative_and_huge_durations_are_counted() -> None:
    durations = Durations()
    durations.add(-5)
    durations.add(2**50)
    found = durations.as_ms()
    assert found is not None
    assert (found["p50"], found["max"]) == (0.0, round(ns_to_ms(2**50), 4))
    assert sum(bin.count for bin in duration_bins(np.array([-5, 2**50], np.int64), 60)) == 2
