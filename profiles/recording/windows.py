"""Choose the observations of a dataset that calibrate an engine and those that test it, and measure their coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.dataset import Decode, RecordedDataset

Part = Literal["calibration", "held_out"]
PARTS: tuple[Part, ...] = ("calibration", "held_out")
HELD_OUT_SHARE = 0.25
COVERAGE_BINS = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """Which frames to choose. The same choice from the same episodes gives the same frames."""

    part: Part
    count: int
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """K observations: joints float32 [K, n_obs, n], images uint8 [K, n_obs, H, W, 3] per camera, oldest first."""

    joint_deg: np.ndarray
    images: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.joint_deg)


def choose_frames(episode: np.ndarray, choice: Choice) -> np.ndarray:
    """Frames int64 [K], ascending, spread evenly over the episodes of one part and within each of these episodes.

    The parts share no episode: consecutive frames are nearly identical, so the test would not be independent.

    Args:
        episode: int64 [N], the episode of every frame, non-decreasing.

    Returns:
        `choice.count` frames, or all of the part if there are fewer.

    Raises:
        InputError: fewer than two episodes.
    """
    _, start, length = np.unique(episode, return_index=True, return_counts=True)
    if len(start) < 2:
        raise InputError(
            "the dataset has one episode", "at least two are needed: one for calibration, another one for testing"
        )
    shuffled = np.random.default_rng(choice.seed).permutation(len(start))
    held_out = max(1, round(HELD_OUT_SHARE * len(start)))
    part = shuffled[:held_out] if choice.part == "held_out" else shuffled[held_out:]
    random = np.random.default_rng([choice.seed, PARTS.index(choice.part)])
    quotas = _quotas(length[part], choice.count)
    chosen = [
        start[which] + _spread(int(length[which]), quota, random) for which, quota in zip(part, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def history(dataset: RecordedDataset, frames: np.ndarray, n_obs_steps: int, spacing_steps: int = 1) -> np.ndarray:
    """Frame numbers int64 [K, n_obs] of the observations at `frames` [K], oldest first; the first frame repeats."""
    steps = frames[:, None] + spacing_steps * np.arange(1 - n_obs_steps, 1)
    return np.maximum(steps, dataset.episode_start[frames, None])


def read_windows(dataset: RecordedDataset, frames: np.ndarray, cameras: Sequence[str], decode: Decode) -> Windows:
    """The observations of `frames` int64 [K, n_obs], as returned by `history`. Raises InputError, MissingError."""
    images = {
        camera: (pictures := dataset.pictures(camera, frames.reshape(-1), decode)).reshape(
            *frames.shape, *pictures.shape[1:]
        )
        for camera in cameras
    }
    return Windows(dataset.joint_deg[frames], images)


def noises(count: int, horizon: int, joints: int, seed: int) -> np.ndarray:
    """Standard normal noise float32 [count, horizon, joints]: the same for every engine that is compared."""
    return np.random.default_rng([seed, horizon, joints]).standard_normal((count, horizon, joints), np.float32)


def coverage(joint_deg: np.ndarray, minimum_deg: np.ndarray, maximum_deg: np.ndarray) -> np.ndarray:
    """Share [n] of each joint's range that the samples cover: the share of 20 equal bins that contain a sample.

    Args:
        joint_deg: float [K, n], K >= 1.
        minimum_deg: float [n], and `maximum_deg` likewise; a joint that never moved has one bin.
    """
    span = maximum_deg - minimum_deg
    inside = (joint_deg >= minimum_deg) & (joint_deg <= maximum_deg)
    place = (np.clip(joint_deg, minimum_deg, maximum_deg) - minimum_deg) / np.where(span > 0, span, 1)
    bins = np.minimum((place * COVERAGE_BINS).astype(np.int64), COVERAGE_BINS - 1)
    visited = [len(np.unique(bins[inside[:, joint], joint])) for joint in range(joint_deg.shape[1])]
    return np.array(visited) / np.where(span > 0, COVERAGE_BINS, 1)


def _quotas(lengths: np.ndarray, count: int) -> np.ndarray:
    """Number of frames from each episode: equal, but never more than it has."""
    quotas = np.zeros_like(lengths)
    while count > 0 and len(unfilled := np.flatnonzero(quotas < lengths)):
        share = count // len(unfilled)
        fed = unfilled if share else unfilled[:count]
        given = np.minimum(max(share, 1), lengths[fed] - quotas[fed])
        quotas[fed] += given
        count -= int(given.sum())
    return quotas


def _spread(length: int, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` different frames of `length`: a random one from each of `count` equal parts."""
    edges = np.arange(count + 1) * length // max(count, 1)
    return random.integers(edges[:-1], edges[1:])
