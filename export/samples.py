"""Three sets of observations from one dataset that share no episode: for calibration, choice of layers, and testing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sefa_edge.export.graph.to_onnx import JOINTS, NOISE, image_tensor_name
from sefa_edge.models.checkpoint import CheckpointInfo
from sefa_edge.models.dataset import decode_picture
from sefa_edge.profiles.recording.dataset import RecordedDataset, open_dataset
from sefa_edge.profiles.recording.recordings import PolicyInputs, Recordings, Sample, check_shows
from sefa_edge.profiles.recording.windows import Choice, choose_frames, coverage

SELECTION_SHARE = 1 / 3
"""Share of the calibration frames (whole episodes) that are used to choose layers instead of measuring ranges."""
NOISES_PER_FRAME = 2


@dataclass(frozen=True, slots=True, eq=False)
class SampleSets:
    """`calibration` measures ranges, `selection` decides which layers stay in higher precision, `held_out` tests."""

    dataset_sha256: str
    calibration: Recordings
    selection: Recordings
    held_out: Recordings
    joint_coverage: float
    """Share of the trained range that calibration covers, for the joint where it is smallest."""

    @property
    def episodes(self) -> int:
        """Number of episodes for calibration."""
        return len(np.unique(self.calibration.dataset.episode[self.calibration.frames]))


def policy_inputs(info: CheckpointInfo) -> PolicyInputs:
    """The inputs of the checkpoint's policy."""
    network = info.config.network
    return PolicyInputs(
        joint_names=info.joint_names,
        cameras=dict.fromkeys(network.cameras, (network.height, network.width)),
        rate_hz=info.rate_hz,
        n_obs_steps=network.n_obs_steps,
        observation_spacing_steps=1,
        horizon=network.horizon,
    )


def open_samples(folder: Path, info: CheckpointInfo, count: int, seed: int) -> SampleSets:
    """Choose `count` observations for calibration and selection, and as many held-out ones.

    Raises:
        InputError: the dataset lacks inputs of the policy, or has fewer than three episodes.
    """
    dataset, inputs = open_dataset(folder), policy_inputs(info)
    check_shows(dataset, inputs)
    held_out = choose_frames(dataset.episode, Choice("held_out", count, seed))
    ranges, selection = _by_episode(dataset, choose_frames(dataset.episode, Choice("calibration", count, seed)))
    limits = (np.array(info.trained_min_deg), np.array(info.trained_max_deg))
    return SampleSets(
        dataset_sha256=dataset.fingerprint(),
        calibration=Recordings(dataset, inputs, np.repeat(ranges, NOISES_PER_FRAME), seed, decode_picture),
        selection=Recordings(dataset, inputs, np.repeat(selection, NOISES_PER_FRAME), seed + 1, decode_picture),
        held_out=Recordings(dataset, inputs, held_out, seed + 2, decode_picture),
        joint_coverage=float(coverage(dataset.joint_deg[ranges], *limits).min()),
    )


def as_inputs(samples: Recordings) -> list[Mapping[str, np.ndarray]]:
    """The samples by the graph's tensor names."""
    return [feed(sample) for sample in samples]


def feed(sample: Sample) -> Mapping[str, np.ndarray]:
    """One sample by the graph's tensor names."""
    images = {image_tensor_name(camera): image for camera, image in sample.images.items()}
    return {**images, JOINTS: sample.joint_deg, NOISE: sample.noise}


def _by_episode(dataset: RecordedDataset, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the first two thirds of the episodes, and of the others; with one episode both are the same."""
    episodes = np.unique(dataset.episode[frames])
    if len(episodes) == 1:
        return frames, frames
    border = episodes[max(1, round(len(episodes) * (1 - SELECTION_SHARE))) - 1]
    first = dataset.episode[frames] <= border
    return frames[first], frames[~first]
