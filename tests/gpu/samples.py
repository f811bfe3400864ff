"""Inputs that every contender gets: the same for a seed, smooth as pictures are, joints within what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sefa_edge.profiles.card import PolicyCard

PATCHES = 8
"""A picture is this many random patches in a square, blown up and blended."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One call: images uint8 [n_obs, H, W, 3] per camera, joint_deg float32 [n_obs, n], noise float32 [T, n]."""

    images: Mapping[str, np.ndarray]
    joint_deg: np.ndarray
    noise: np.ndarray


def make_samples(card: PolicyCard, count: int, seed: int) -> list[Sample]:
    """`count` samples for the card's tensors; another engine with the same tensors gets the same ones."""
    random = np.random.default_rng(seed)
    return [_sample(card, random) for _ in range(count)]


def _sample(card: PolicyCard, random: np.random.Generator) -> Sample:
    low = np.array([joint.trained_min_deg for joint in card.joints])
    high = np.array([joint.trained_max_deg for joint in card.joints])
    n_obs, n = card.timing.n_obs_steps, len(card.joints)
    images = {
        camera.name: np.stack([_picture(camera.height, camera.width, random) for _ in range(n_obs)])
        for camera in card.cameras
    }
    joints = random.uniform(low, high, (n_obs, n)).astype(np.float32)
    return Sample(images, joints, random.standard_normal((card.timing.horizon, n), np.float32))


def _picture(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    patches = random.uniform(0, 255, (PATCHES, PATCHES, 3))
    rows, columns = (np.linspace(0, PATCHES - 1, size) for size in (height, width))
    blended = _blend(_blend(patches, rows).transpose(1, 0, 2), columns).transpose(1, 0, 2)
    return np.round(blended).astype(np.uint8)


def _blend(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Linear interpolation along the first axis."""
    below = np.minimum(places.astype(int), len(values) - 2)
    share = (places - below)[:, None, None]
    return values[below] * (1 - share) + values[below + 1] * share
