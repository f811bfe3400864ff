"""The noise that a flow policy turns into a chunk, and how much of it consecutive chunks share.

A chunk is one sample of many possible motions, and its noise selects which. Two chunks from different noise may pass an
obstacle on different sides, and a hand-over between them would lead through the obstacle.

per-chunk  fresh noise for every chunk: chunks are independent and agree least
shared     each row of noise belongs to a time step: all chunks of an episode that plan this step share the row. A
           chunk that starts one step later reuses the previous rows from the second on and gets a fresh one at its
           end. The noise of each chunk is still standard normal, but consecutive chunks agree
fixed      the same noise for every chunk of every episode: chunks differ only by their observations
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sefa_edge.edge.policy.noise_modes import NoiseMode

FIXED_SEED = 0


class Noise(Protocol):
    """Standard normal float32 [T, n] for each chunk; the same seed and times produce the same numbers."""

    def start_episode(self, seed: int) -> None: ...

    def draw(self, first_step_ns: int) -> np.ndarray:
        """The noise of a chunk whose first step is due at `first_step_ns`."""
        ...


def make_noise(mode: NoiseMode, shape: tuple[int, int], step_ns: int) -> Noise:
    """Noise for chunks of shape [T, n], a step every `step_ns`."""
    if mode == "shared":
        return SharedNoise(shape, step_ns)
    return ChunkNoise(shape) if mode == "per-chunk" else FixedNoise(shape)


class ChunkNoise:
    """Fresh for every chunk."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self.start_episode(0)

    def start_episode(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def draw(self, first_step_ns: int) -> np.ndarray:
        return self._random.standard_normal(self._shape, np.float32)


class FixedNoise:
    """Always the same."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._noise = np.random.default_rng(FIXED_SEED).standard_normal(shape, np.float32)

    def start_episode(self, seed: int) -> None:
        """The seed has no effect."""

    def draw(self, first_step_ns: int) -> np.ndarray:
        return self._noise


class SharedNoise:
    """One row per time step of an episode."""

    def __init__(self, shape: tuple[int, int], step_ns: int) -> None:
        self._shape, self._step_ns = shape, step_ns
        self.start_episode(0)

    def start_episode(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._rows = self._random.standard_normal(self._shape, np.float32)
        self._first_ns: int | None = None

    def draw(self, first_step_ns: int) -> np.ndarray:
        if self._first_ns is None:
            self._first_ns = first_step_ns
        steps = round((first_step_ns - self._first_ns) / self._step_ns)
        if steps > 0:
            fresh = min(steps, len(self._rows))
            drawn = self._random.standard_normal((fresh, self._shape[1]), np.float32)
            self._rows = np.concatenate([self._rows[fresh:], drawn])
            self._first_ns += steps * self._step_ns
        return self._rows
