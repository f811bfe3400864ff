"""A LeRobot v3.0 dataset as tensors: all of it in memory, and training windows from it."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.dataset import DataFile, RecordedDataset

DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error)
"""Exceptions of Pillow for damaged files."""


@dataclass(frozen=True, slots=True, eq=False)
class Demonstrations:
    """All frames of a dataset: joints and actions float32 [N, n], images uint8 [N, H, W, 3] per camera.

    `episode_start[i]` is the first frame of the episode of frame i, `episode_end[i]` one past its last frame.
    """

    joint_names: tuple[str, ...]
    rate_hz: float
    task: str
    joint_deg: Tensor
    action_deg: Tensor
    images: dict[str, Tensor]
    episode_start: Tensor
    episode_end: Tensor
    sha256: str

    def __len__(self) -> int:
        return len(self.joint_deg)

    def chunk(self, index: Tensor, horizon: int) -> Tensor:
        """Demonstrated chunks [B, T, n] that start at frames `index` [B]; the last action of an episode repeats."""
        steps = index[:, None] + torch.arange(horizon)
        return self.action_deg[steps.minimum(self.episode_end[index, None] - 1)]

    def history(self, index: Tensor, n_obs_steps: int) -> Tensor:
        """Frame numbers [B, n_obs] of the observation at `index`, oldest first; the first frame repeats."""
        steps = index[:, None] + torch.arange(1 - n_obs_steps, 1)
        return steps.maximum(self.episode_start[index, None])


def load_demonstrations(dataset: RecordedDataset) -> Demonstrations:
    """Decode all images of an open dataset.

    Raises:
        InputError: a damaged image.
        MissingError: it has videos, and PyAV is not installed.
    """
    images = {
        camera: _stream_into(dataset, camera, np.empty((len(dataset), feature.height, feature.width, 3), np.uint8))
        for camera, feature in dataset.info.cameras.items()
    }
    return Demonstrations(
        joint_names=dataset.info.joint_names,
        rate_hz=dataset.info.rate_hz,
        task=dataset.folder.name,
        joint_deg=torch.from_numpy(dataset.joint_deg),
        action_deg=torch.from_numpy(dataset.action_deg),
        images={camera: torch.from_numpy(pictures) for camera, pictures in images.items()},
        episode_start=torch.from_numpy(dataset.episode_start),
        episode_end=torch.from_numpy(dataset.episode_end),
        sha256=_sha256(dataset, images),
    )


def decode_picture(content: bytes) -> np.ndarray:
    """A PNG or JPEG as uint8 [H, W, 3] RGB. Raises InputError if it is neither, or damaged."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert("RGB"))
    except DECODE_ERRORS as error:
        raise InputError(f"the picture is damaged: {error}", "was the copy complete?") from None


def _stream_into(dataset: RecordedDataset, camera: str, pictures: np.ndarray) -> np.ndarray:
    """Decode all images of a camera one by one into one array, without a second copy of the dataset."""
    for index, picture in enumerate(dataset.stream(camera, np.arange(len(dataset)), decode_picture)):
        pictures[index] = picture
    return pictures


def _sha256(dataset: RecordedDataset, images: dict[str, np.ndarray]) -> str:
    """Hash of all training data, file by file, keys in order."""
    digest = hashlib.sha256()
    columns = {
        "observation.state": dataset.joint_deg,
        "action": dataset.action_deg,
        "episode": dataset.episode,
        **{f"observation.images.{camera}": pictures for camera, pictures in images.items()},
    }
    for file in dataset.files:
        for key in sorted(columns):
            digest.update(_rows(columns[key], file))
    return digest.hexdigest()


def _rows(column: np.ndarray, file: DataFile) -> memoryview:
    return np.ascontiguousarray(column[file.start : file.end]).data.cast("B")
