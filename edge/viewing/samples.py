"""Samples of a run, taken while the arm moves and drawn once it is at rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from sefa_edge.profiles.units import period_ns

SAMPLE_RATE_HZ = 10.0
MAX_SAMPLES = 1200

ContentT = TypeVar("ContentT")


@dataclass(frozen=True, slots=True)
class Sample(Generic[ContentT]):
    """One moment of an episode: the data to draw, and the caption below it."""

    stamp_ns: int
    episode: int
    caption: str
    content: ContentT


class SampleBuffer(Generic[ContentT]):
    """Evenly spaced samples in bounded memory: when it is full, every second one is dropped and the rate is halved."""

    def __init__(self) -> None:
        self.samples: list[Sample[ContentT]] = []
        self._interval_ns = period_ns(SAMPLE_RATE_HZ)

    def is_due(self, stamp_ns: int) -> bool:
        """Whether a sample is due."""
        return not self.samples or stamp_ns - self.samples[-1].stamp_ns >= self._interval_ns

    def extend_last_caption(self, text: str) -> None:
        """Append the outcome to the caption of the last sample."""
        if self.samples:
            last = self.samples[-1]
            self.samples[-1] = replace(last, caption=f"{last.caption}  {text}")

    def add(self, sample: Sample[ContentT]) -> None:
        self.samples.append(sample)
        if len(self.samples) >= MAX_SAMPLES:
            self.samples = self.samples[::2]
            self._interval_ns *= 2
