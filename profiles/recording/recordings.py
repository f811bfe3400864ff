"""A dataset's observations as inputs of a policy: at its size, with history and noise, for calibration and testing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.dataset import Decode, RecordedDataset
from sefa_edge.profiles.recording.fitness import require_present_zero
from sefa_edge.profiles.recording.windows import history, noises, read_windows
from sefa_edge.profiles.resize import resize_to_policy

BLOCK = 32
"""Observations decoded together."""


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """The inputs of a policy. `cameras` maps a name to (height, width) in pixels."""

    joint_names: tuple[str, ...]
    cameras: Mapping[str, tuple[int, int]]
    rate_hz: float
    n_obs_steps: int
    observation_spacing_steps: int
    horizon: int


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One call: images uint8 [n_obs, H, W, 3] per camera, joint_deg float32 [n_obs, n], noise float32 [T, n]."""

    images: Mapping[str, np.ndarray]
    joint_deg: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Recordings:
    """Chosen observations of a dataset. Each iteration reads the images again; nothing is kept."""

    dataset: RecordedDataset
    inputs: PolicyInputs
    frames: np.ndarray
    """Frame of each sample, int64 [N], ascending; a repeated frame is used with different noise."""
    seed: int
    decode: Decode

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Sample]:
        inputs = self.inputs
        noise = noises(len(self.frames), inputs.horizon, len(inputs.joint_names), self.seed)
        steps = history(self.dataset, self.frames, inputs.n_obs_steps, inputs.observation_spacing_steps)
        for first in range(0, len(steps), BLOCK):
            windows = read_windows(self.dataset, steps[first : first + BLOCK], list(inputs.cameras), self.decode)
            for index in range(len(windows)):
                images = {
                    name: np.stack([resize_to_policy(picture, *size) for picture in windows.images[name][index]])
                    for name, size in inputs.cameras.items()
                }
                yield Sample(images, windows.joint_deg[index], noise[first + index])


def check_shows(dataset: RecordedDataset, inputs: PolicyInputs) -> None:
    """Refuse a dataset that does not have the inputs of the policy.

    Raises:
        InputError: other joints, a missing camera, or another rate for a policy with a history.
    """
    info = dataset.info
    if info.joint_names != inputs.joint_names:
        require_present_zero(info.joint_names)
        raise InputError(
            f"dataset joints: {' '.join(info.joint_names)}; policy joints: {' '.join(inputs.joint_names)}",
            "give a dataset of the arm that the policy was made for",
        )
    missing = [name for name in inputs.cameras if name not in info.cameras]
    if missing:
        raise InputError(f"{dataset.folder} has no camera '{missing[0]}'", f"it has {', '.join(info.cameras)}")
    if inputs.n_obs_steps > 1 and info.rate_hz != inputs.rate_hz:
        raise InputError(
            f"the dataset runs at {info.rate_hz:g} Hz, the policy at {inputs.rate_hz:g} Hz",
            "the policy uses earlier frames: give a dataset with its rate",
        )
