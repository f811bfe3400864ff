"""Reads a LeRobot v3.0 dataset into memory and serves training windows.

Pictures must be stored losslessly (feature type `image`); the files are Parquet and PNG only, nothing is executed.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from sefa_edge.profiles.errors import InputError

MAX_FRAMES = 5_000_000
IMAGE_PREFIX = "observation.images."


@dataclass(frozen=True, slots=True, eq=False)
class Demonstrations:
    """All frames of a dataset: joints and actions float32 [N, n], pictures uint8 [N, H, W, 3] per camera.

    `episode_end[i]` is one past the last frame of the episode that frame i belongs to; `episode_start[i]` its first.
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


def load_dataset(folder: Path) -> Demonstrations:
    """Read the dataset in `folder`.

    Raises:
        InputError: not a LeRobot v3.0 dataset, or one whose pictures are video.
    """
    info = _read_info(folder)
    features = info["features"]
    cameras = [key.removeprefix(IMAGE_PREFIX) for key in features if key.startswith(IMAGE_PREFIX)]
    for camera in cameras:
        if features[IMAGE_PREFIX + camera]["dtype"] != "image":
            raise InputError(
                f"{folder}: camera '{camera}' is stored as video",
                "record with lossless pictures: sefa-edge record",
            )
    if not cameras:
        raise InputError(f"{folder} has no pictures", "SeFA policies see; record with a camera")
    files = sorted((folder / "data").glob("chunk-*/file-*.parquet"))
    if not files:
        raise InputError(f"{folder} has no data files", "was the copy complete?")
    digest = hashlib.sha256()
    parts = [_read_file(path, cameras, digest) for path in files]
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    start, end = _episode_bounds(joined["episode"])
    return Demonstrations(
        joint_names=tuple(name.removesuffix(".pos") for name in features["action"]["names"]),
        rate_hz=float(info["fps"]),
        task=folder.name,
        joint_deg=joined["observation.state"],
        action_deg=joined["action"],
        images={camera: joined[IMAGE_PREFIX + camera] for camera in cameras},
        episode_start=start,
        episode_end=end,
        sha256=digest.hexdigest(),
    )


def _read_info(folder: Path) -> dict:
    path = folder / "meta" / "info.json"
    try:
        info = json.loads(path.read_text())
        version, frames, features = info["codebase_version"], info["total_frames"], info["features"]
        names = features["action"]["names"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder} is not a LeRobot dataset", "it needs meta/info.json; see sefa-edge record"
        ) from None
    if version != "v3.0":
        raise InputError(f"{folder} has format {version}", "convert it to v3.0 with LeRobot's converter")
    if not 0 < int(frames) <= MAX_FRAMES or features["observation.state"]["shape"] != [len(names)]:
        raise InputError(f"{folder}: meta/info.json contradicts itself", "record or convert it again")
    return info


def _read_file(path: Path, cameras: list[str], digest: hashlib._Hash) -> dict[str, Tensor]:
    columns = ["observation.state", "action", "episode_index", *(IMAGE_PREFIX + camera for camera in cameras)]
    try:
        table = pq.read_table(path, columns=columns)
        part = {key: torch.from_numpy(np.stack(table[key].to_numpy())) for key in ("observation.state", "action")}
        part["episode"] = torch.from_numpy(table["episode_index"].to_numpy().copy())
        for camera in cameras:
            encoded = [row["bytes"] for row in table[IMAGE_PREFIX + camera].to_pylist()]
            part[IMAGE_PREFIX + camera] = torch.from_numpy(np.stack([_decode(content) for content in encoded]))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "was the copy complete?") from None
    for key in sorted(part):
        digest.update(part[key].numpy().tobytes())
    return part


def _decode(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def _episode_bounds(episode: Tensor) -> tuple[Tensor, Tensor]:
    """First frame and one past the last frame of every frame's episode [N]."""
    _, index, count = torch.unique_consecutive(episode, return_inverse=True, return_counts=True)
    end = count.cumsum(0)
    return (end - count)[index], end[index]
