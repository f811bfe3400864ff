"""What a LeRobot v3.0 dataset says about itself in `meta/info.json`. Foreign, so keys that we do not know are ignored.

Layout of the format: `meta/info.json`, `meta/episodes/chunk-*/file-*.parquet`, `data/chunk-*/file-*.parquet`, and for
cameras of type `video` one `videos/<key>/chunk-*/file-*.mp4` per group of episodes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.json_text import read_json
from sefa_edge.profiles.quantities import PolicyRateHz, Whole
from sefa_edge.profiles.strict import StrictModel, validate

FORMAT_VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
IMAGE_PREFIX = "observation.images."
CAMERA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_FRAMES = 5_000_000
MAX_JOINTS = 32
MAX_CAMERAS = 8
MAX_SIDE = 4096


class _Foreign(StrictModel):
    model_config = ConfigDict(extra="ignore")


class _Feature(_Foreign):
    dtype: str
    shape: Annotated[list[int], Field(max_length=8)]
    names: JsonValue = None


class _Info(_Foreign):
    fps: PolicyRateHz
    total_frames: Annotated[int, Whole("a number of frames", 1, MAX_FRAMES)]
    data_path: str = DATA_PATH
    video_path: str | None = None
    features: Annotated[dict[str, _Feature], Field(max_length=1000)]


@dataclass(frozen=True, slots=True)
class CameraFeature:
    """A camera of a dataset: the size of its pictures, and whether they are PNG inside Parquet or frames of a video."""

    height: int
    width: int
    storage: Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What holds for every frame of a dataset."""

    joint_names: tuple[str, ...]
    rate_hz: float
    total_frames: int
    cameras: dict[str, CameraFeature]


def read_info(folder: Path) -> DatasetInfo:
    """Read and check `meta/info.json` of the dataset in `folder`.

    Raises:
        InputError: not a LeRobot dataset, another version, another layout, or it contradicts itself.
    """
    path = folder / "meta/info.json"
    info = validate(path, _current(folder, path), _Info)
    for key, expected in (("data_path", DATA_PATH), ("video_path", VIDEO_PATH)):
        # The layout is fixed: a template from outside is neither filled in nor followed.
        if getattr(info, key) not in (expected, None):
            raise InputError(f"{path}: {key} is not '{expected}'", "convert the dataset with LeRobot's own converter")
    return DatasetInfo(_joint_names(path, info), info.fps, info.total_frames, _cameras(path, info))


def _current(folder: Path, path: Path) -> dict[str, object]:
    """The parsed file, when it is of the version that we read."""
    if not path.is_file():
        raise InputError(f"{folder} is not a LeRobot dataset", "it needs meta/info.json; see sefa-edge record")
    content = read_json(path)
    if not isinstance(content, dict) or "codebase_version" not in content:
        raise InputError(f"{folder} is not a LeRobot dataset: {path} names no codebase_version", "record it again")
    version = content["codebase_version"]
    if version != FORMAT_VERSION:
        raise InputError(f"{folder} has format {str(version)[:20]!r}", "convert it to v3.0 with LeRobot's converter")
    return content


def _joint_names(path: Path, info: _Info) -> tuple[str, ...]:
    """Names of the action's joints, which the state must share."""
    try:
        action, state = info.features["action"], info.features["observation.state"]
    except KeyError as error:
        raise InputError(f"{path}: the feature {error} is missing", "record joints and actions") from None
    names = _names(action)
    if names is None or len(set(names)) != len(names):
        raise InputError(f"{path}: the action's names are not 1 to {MAX_JOINTS} different words", "record it again")
    if action.shape != [len(names)] or state.shape != [len(names)] or _names(state) not in (None, names):
        raise InputError(
            f"{path} contradicts itself: {len(names)} names, action {action.shape}, observation.state {state.shape}",
            "state and action must be the same joints in the same order",
        )
    return tuple(name.removesuffix(".pos") for name in names)


def _names(feature: _Feature) -> list[str] | None:
    """Joint names of a feature, plain or as `{"motors": [...]}`; None when there are none that could be joints."""
    names = feature.names
    if isinstance(names, dict) and len(names) == 1:
        (names,) = names.values()
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_JOINTS:
        return None
    words = [name for name in names if isinstance(name, str) and re.fullmatch(r"[\w.-]{1,64}", name)]
    return words if len(words) == len(names) else None


def _cameras(path: Path, info: _Info) -> dict[str, CameraFeature]:
    found = {key: feature for key, feature in info.features.items() if key.startswith(IMAGE_PREFIX)}
    if not 1 <= len(found) <= MAX_CAMERAS:
        raise InputError(
            f"{path} names {len(found)} cameras" if found else f"{path.parent.parent} has no pictures",
            f"record with 1 to {MAX_CAMERAS} cameras, called {IMAGE_PREFIX}NAME",
        )
    return {key.removeprefix(IMAGE_PREFIX): _camera(path, key, feature) for key, feature in found.items()}


def _camera(path: Path, key: str, feature: _Feature) -> CameraFeature:
    if not CAMERA_NAME.fullmatch(key.removeprefix(IMAGE_PREFIX)):
        raise InputError(f"{path}: {key[:80]!r} names no camera", "use letters, digits, - and _")
    if feature.dtype not in ("image", "video"):
        raise InputError(f"{path}: {key} is of type {feature.dtype[:20]!r}, expected image or video", "record it again")
    if len(feature.shape) != 3 or feature.shape[2] != 3 or not all(1 <= side <= MAX_SIDE for side in feature.shape):
        raise InputError(
            f"{path}: {key} has shape {feature.shape}, expected [height, width, 3] up to {MAX_SIDE} pixels",
            "record colour pictures",
        )
    return CameraFeature(feature.shape[0], feature.shape[1], "video" if feature.dtype == "video" else "image")
