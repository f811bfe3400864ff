"""What is collected of a run while the arm moves, so that it can be drawn once the arm rests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from sefa_edge.profiles.units import period_ns

SAMPLE_RATE_HZ = 10.0
MAX_SAMPLES = 1200

MaterialT = TypeVar("MaterialT")


@dataclass(frozen=True, slots=True)
class Sample(Generic[MaterialT]):
    """One moment of an episode: what is needed to draw it, and what to write under it."""

    stamp_ns: int
    episode: int
    caption: str
    material: MaterialT


class Reel(Generic[MaterialT]):
    """Samples at an even pace in bounded memory: when full, every second one goes and the pace halves."""

    def __init__(self) -> None:
        self.samples: list[Sample[MaterialT]] = []
        self._interval_ns = period_ns(SAMPLE_RATE_HZ)

    def wants(self, stamp_ns: int) -> bool:
        """Whether a sample is due."""
        return not self.samples or stamp_ns - self.samples[-1].stamp_ns >= self._interval_ns

    def caption_last(self, words: str) -> None:
        """Write how it ended under the last sample."""
        if self.samples:
            last = self.samples[-1]
            self.samples[-1] = replace(last, caption=f"{last.caption}  {words}")

    def add(self, sample: Sample[MaterialT]) -> None:
        self.samples.append(sample)
        if len(self.samples) >= MAX_SAMPLES:
            self.samples = self.samples[::2]
            self._interval_ns *= 2
