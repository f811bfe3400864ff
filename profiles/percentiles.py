"""Percentiles of durations: exact over an array, and in constant memory over a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BUCKETS_PER_OCTAVE = 128
"""Each bucket is 0.54 % wide, so a streamed percentile lies within 0.28 % of the exact one."""

OCTAVES = 40
"""1 ns to 18 minutes; what is longer counts in the last bucket."""

_BUCKETS = BUCKETS_PER_OCTAVE * OCTAVES


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Where durations lie. A percentile is a nearest rank: one that really happened, not a mean of two."""

    count: int
    mean_ns: float
    min_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int


def percentiles(samples_ns: np.ndarray) -> Percentiles:
    """Exact percentiles of durations.

    Args:
        samples_ns: int64[N] nanoseconds, N >= 1, in any order.

    Raises:
        ValueError: no samples.
    """
    if samples_ns.size == 0:
        raise ValueError("percentiles of no samples")
    ranked = np.sort(samples_ns.reshape(-1))
    p50, p90, p99, p999 = (int(ranked[nearest_rank(q, ranked.size)]) for q in (0.5, 0.9, 0.99, 0.999))
    mean = float(ranked.mean(dtype=np.float64))
    return Percentiles(ranked.size, mean, int(ranked[0]), p50, p90, p99, p999, int(ranked[-1]))


def percentile(values: np.ndarray, quantile: float) -> float:
    """Nearest rank of any numbers [...], at least one: the smallest that `quantile` of all do not exceed."""
    return float(np.sort(values, axis=None)[nearest_rank(quantile, values.size)])


def nearest_rank(quantile: float, count: int) -> int:
    """Index of the smallest sample that at least `quantile` of all samples do not exceed."""
    return max(math.ceil(quantile * count - 1e-9), 1) - 1


class LatencyHistogram:
    """Counts durations in buckets of equal relative width: 40 kB, however long it runs.

    Two histograms add up to the histogram of both streams, so that processes and runs can be merged.
    """

    __slots__ = ("_counts", "_max_ns", "_min_ns", "_sum_ns")

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._sum_ns = 0
        self._min_ns: int | None = None
        self._max_ns = 0

    def __len__(self) -> int:
        return int(self._counts.sum())

    def add(self, duration_ns: int) -> None:
        """Count one duration; a negative one counts as zero."""
        self.add_all(np.array([duration_ns], np.int64))

    def add_all(self, samples_ns: np.ndarray) -> None:
        """Count int64[N] durations."""
        if samples_ns.size == 0:
            return
        samples = np.maximum(samples_ns.astype(np.int64).reshape(-1), 0)
        bucket = np.log2(np.maximum(samples, 1)) * BUCKETS_PER_OCTAVE
        index = np.minimum(bucket.astype(np.int64), _BUCKETS - 1)
        self._counts += np.bincount(index, minlength=_BUCKETS)
        self._sum_ns += int(samples.sum())
        low = int(samples.min())
        self._min_ns = low if self._min_ns is None else min(self._min_ns, low)
        self._max_ns = max(self._max_ns, int(samples.max()))

    def merge(self, other: LatencyHistogram) -> None:
        """Add the counts of another histogram to this one."""
        if other._min_ns is None:
            return
        self._counts += other._counts
        self._sum_ns += other._sum_ns
        self._min_ns = other._min_ns if self._min_ns is None else min(self._min_ns, other._min_ns)
        self._max_ns = max(self._max_ns, other._max_ns)

    def percentiles(self) -> Percentiles:
        """Percentiles within half a bucket; count, mean, min and max are exact.

        Raises:
            ValueError: nothing was counted.
        """
        if self._min_ns is None:
            raise ValueError("percentiles of no samples")
        count = len(self)
        p50, p90, p99, p999 = (self._at_rank(nearest_rank(q, count)) for q in (0.5, 0.9, 0.99, 0.999))
        return Percentiles(count, self._sum_ns / count, self._min_ns, p50, p90, p99, p999, self._max_ns)

    def bins(self, at_most: int) -> list[tuple[int, int, int]]:
        """(low_ns, high_ns, count) of adjoining bins that cover all samples, all of one relative width."""
        used = np.flatnonzero(self._counts)
        if used.size == 0:
            return []
        first, last = int(used[0]), int(used[-1]) + 1
        step = math.ceil((last - first) / at_most)
        bins = (
            (_edge_ns(start), _edge_ns(start + step), int(self._counts[start : start + step].sum()))
            for start in range(first, last, step)
        )
        # Below 185 ns a bucket can be narrower than a nanosecond and hold no whole number.
        return [(low, high, count) for low, high, count in bins if low < high]

    def _at_rank(self, rank: int) -> int:
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank + 1))
        middle = round(2 ** ((bucket + 0.5) / BUCKETS_PER_OCTAVE))
        return min(max(middle, self._min_ns or 0), self._max_ns)


def _edge_ns(bucket: int) -> int:
    """The smallest whole duration that falls into the bucket."""
    return math.ceil(2 ** (bucket / BUCKETS_PER_OCTAVE))
