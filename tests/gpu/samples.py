"""Inputs for every contender: recorded ones, or random ones with smooth images and joints inside the trained range.

A policy is less smooth on unseen inputs: with random inputs, rounding changes the action more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sefa_edge.edge.tools.verification.comparison import held_out_recordings
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.recording.dataset import open_dataset
from sefa_edge.profiles.recording.recordings import Sample
from sefa_edge.profiles.recording.windows import Choice

PATCHES = 8
"""An image is this many random patches per side, enlarged and blended."""


def recorded_samples(folder: Path, card: PolicyCard, count: int, seed: int) -> list[Sample]:
    """Up to `count` observations of held-out episodes. Raises InputError when they do not fit the policy."""
    return list(held_out_recordings(open_dataset(folder), card, Choice("held_out", count, seed)))


def make_samples(card: PolicyCard, count: int, seed: int) -> list[Sample]:
    """`count` samples for the card's tensors; another engine with the same tensors gets the same ones."""
    rng = np.random.default_rng(seed)
    return [_sample(card, rng) for _ in range(count)]


def _sample(card: PolicyCard, rng: np.random.Generator) -> Sample:
    low = np.array([joint.trained_min_deg for joint in card.joints])
    high = np.array([joint.trained_max_deg for joint in card.joints])
    n_obs, n = card.timing.n_obs_steps, len(card.joints)
    images = {
        camera.name: np.stack([_image(camera.height, camera.width, rng) for _ in range(n_obs)])
        for camera in card.cameras
    }
    joints = rng.uniform(low, high, (n_obs, n)).astype(np.float32)
    return Sample(images, joints, rng.standard_normal((card.timing.horizon, n), np.float32))


def _image(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    patches = rng.uniform(0, 255, (PATCHES, PATCHES, 3))
    rows, columns = (np.linspace(0, PATCHES - 1, size) for size in (height, width))
    blended = _blend(_blend(patches, rows).transpose(1, 0, 2), columns).transpose(1, 0, 2)
    return np.round(blended).astype(np.uint8)


def _blend(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Linear interpolation along the first axis."""
    below = np.minimum(positions.astype(int), len(values) - 2)
    fraction = (positions - below)[:, None, None]
    return values[below] * (1 - fraction) + values[below + 1] * fraction
