"""The metadata of a LeRobot v3.0 dataset, `meta/info.json`. Unknown keys are ignored, because the format is LeRobot's.

Layout of the format: `meta/info.json`, `meta/episodes/chunk-*/file-*.parquet`, `data/chunk-*/file-*.parquet`, and for
cameras of type `video` one `videos/<key>/chunk-*/file-*.mp4` per group of episodes.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import read_up_to
from sefa_edge.profiles.json_text import read_json
from sefa_edge.profiles.quantities import PolicyRateHz, Whole
from sefa_edge.profiles.strict import StrictModel, validate

FORMAT_VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
IMAGE_PREFIX = "observation.images."
CAMERA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
TO_V30 = (
    "pip install 'lerobot==0.4.4' in a separate environment, then python -m "
    "lerobot.datasets.v30.convert_dataset_v21_to_v30"
)
"""It converts `<--root>/<--repo-id>` in place, and keeps the original as `<repo id>_old` in the same folder."""
TO_V21 = "pip install 'lerobot==0.3.3', then python -m lerobot.datasets.v21.convert_dataset_v20_to_v21"
"""It only works on the Hub: it downloads, converts and uploads."""
MAX_FRAMES = 5_000_000
MAX_JOINTS = 32
MAX_CAMERAS = 8
MAX_SIDE = 4096
COLOURS = 3
DEPTH_KEYS = ("is_depth_map", "video.is_depth_map")
"""Keys that LeRobot writes into the `info` of a feature."""


class _Foreign(StrictModel):
    model_config = ConfigDict(extra="ignore")


class _Feature(_Foreign):
    """A feature that is used; others are not parsed."""

    dtype: str
    shape: Annotated[list[int], Field(max_length=8)]
    names: JsonValue = None
    info: JsonValue = None


class _Info(_Foreign):
    fps: PolicyRateHz
    total_frames: Annotated[int, Whole("a number of frames", 1, MAX_FRAMES)]
    data_path: str = DATA_PATH
    video_path: str | None = None
    features: Annotated[dict[str, JsonValue], Field(max_length=1000)]


@dataclass(frozen=True, slots=True)
class CameraFeature:
    """A camera of a dataset: the size of its images, and whether they are in Parquet (PNG, JPEG) or in a video."""

    height: int
    width: int
    storage: Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """Properties of all frames of a dataset."""

    joint_names: tuple[str, ...]
    rate_hz: float
    total_frames: int
    cameras: dict[str, CameraFeature]
    """Colour cameras, which a policy can use."""
    notes: tuple[str, ...] = ()
    """Cameras that were left out, and why."""


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
    cameras, notes = _cameras(path, info)
    return DatasetInfo(_joint_names(path, info), info.fps, info.total_frames, cameras, notes)


def _current(folder: Path, path: Path) -> dict[str, object]:
    """The parsed file, if its version is supported."""
    if not path.is_file():
        raise InputError(f"{folder} is not a LeRobot dataset", "it needs meta/info.json; see sefa-edge record")
    require_fetched(path)
    content = read_json(path)
    if not isinstance(content, dict) or "codebase_version" not in content:
        raise InputError(f"{folder} is not a LeRobot dataset: {path} has no codebase_version", "record it again")
    version = content["codebase_version"]
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder} has LeRobot's dataset format {str(version)[:20]!r}, expected {FORMAT_VERSION!r} (LeRobot 0.4 "
            "and later)",
            _how_to_convert(folder, str(version)),
        )
    return content


def _how_to_convert(folder: Path, version: str) -> str:
    """The commands that convert a dataset to v3.0."""
    place = folder.resolve()
    here = f"{TO_V30} --repo-id={shlex.quote(place.name)} --root={shlex.quote(str(place.parent))} --push-to-hub=false"
    if version.removeprefix("v") == "2.1":
        return f"convert it: {here}"
    if version.removeprefix("v") == "2.0":
        return (
            f"convert it to v2.1, on the Hub: {TO_V21} --repo-id=USER/NAME; download that "
            "(hf download USER/NAME --repo-type dataset --local-dir DIR) and give DIR to get the step to v3.0"
        )
    return "convert it to v3.0 with LeRobot's own scripts, or record it again"


def require_fetched(path: Path) -> None:
    """Refuse a Git LFS pointer in place of a file that was not downloaded. Raises InputError."""
    if read_up_to(path, len(LFS_POINTER)) == LFS_POINTER:
        raise InputError(
            f"{path} is only a Git LFS pointer: the file itself was not downloaded",
            "run `git lfs pull` in its folder, or `hf download USER/NAME --repo-type dataset --local-dir DIR`",
        )


def _joint_names(path: Path, info: _Info) -> tuple[str, ...]:
    """Names of the action's joints, which must also be those of the state."""
    action, state = (_feature(path, info, key) for key in ("action", "observation.state"))
    names = _names(action)
    if names is None or len(set(names)) != len(names):
        raise InputError(
            f"{path}: the names of the action are not 1 to {MAX_JOINTS} different words",
            "write the joint names, in the order of the columns, to `names` of action and observation.state there",
        )
    if action.shape != [len(names)] or state.shape != [len(names)] or _names(state) not in (None, names):
        raise InputError(
            f"{path} contradicts itself: {len(names)} names, action {action.shape}, observation.state {state.shape}",
            "state and action must be the same joints in the same order",
        )
    return tuple(name.removesuffix(".pos") for name in names)


def _names(feature: _Feature) -> list[str] | None:
    """Joint names of a feature, plain or as `{"motors": [...]}`; None if there are no valid ones."""
    names = feature.names
    if isinstance(names, dict) and len(names) == 1:
        (names,) = names.values()
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_JOINTS:
        return None
    valid = [name for name in names if isinstance(name, str) and re.fullmatch(r"[\w.-]{1,64}", name)]
    return valid if len(valid) == len(names) else None


def _feature(path: Path, info: _Info, key: str) -> _Feature:
    if key not in info.features:
        raise InputError(f"{path}: the feature '{key}' is missing", "record joints and actions")
    return validate(path, info.features[key], _Feature)


def _cameras(path: Path, info: _Info) -> tuple[dict[str, CameraFeature], tuple[str, ...]]:
    """Colour cameras by name, and a note for every other one. Raises InputError if there is no colour camera."""
    keys = [key for key in info.features if key.startswith(IMAGE_PREFIX)]
    found: dict[str, CameraFeature] = {}
    unusable: list[InputError] = []
    for key in keys:
        if not CAMERA_NAME.fullmatch(key.removeprefix(IMAGE_PREFIX)):
            raise InputError(f"{path}: {key[:80]!r} is not a camera name", "use letters, digits, '.', '-' and '_'")
        try:
            found[key.removeprefix(IMAGE_PREFIX)] = _camera(path, key, validate(path, info.features[key], _Feature))
        except InputError as error:
            unusable.append(error)
    if not found and unusable:
        raise unusable[0]
    if not found:
        others = [key for key in info.features if "image" in key and key.isprintable()]
        called = f"; it has {', '.join(others[:MAX_CAMERAS])}" if others else ""
        raise InputError(
            f"{path.parent.parent} has no images under {IMAGE_PREFIX}NAME{called}",
            f"record with 1 to {MAX_CAMERAS} cameras, named {IMAGE_PREFIX}NAME",
        )
    if len(found) > MAX_CAMERAS:
        raise InputError(f"{path} has {len(found)} cameras", f"record with 1 to {MAX_CAMERAS} cameras")
    return found, tuple(f"left out: {str(error).removeprefix(f'{path}: ')}" for error in unusable)


def _camera(path: Path, key: str, feature: _Feature) -> CameraFeature:
    if feature.dtype not in ("image", "video"):
        raise InputError(f"{path}: {key} is of type {feature.dtype[:20]!r}, expected image or video", "record it again")
    if isinstance(feature.info, dict) and any(feature.info.get(depth) is True for depth in DEPTH_KEYS):
        raise InputError(f"{path}: {key} is a depth map, expected colours", "record colour images")
    size = _size(feature)
    if size is None:
        names = f" with names {feature.names}" if _axes(feature) else ""
        raise InputError(
            f"{path}: {key} has shape {feature.shape}{names}, expected [height, width, 3] or [3, height, width] up to "
            f"{MAX_SIDE} pixels",
            "record colour images",
        )
    return CameraFeature(*size, "video" if feature.dtype == "video" else "image")


def _size(feature: _Feature) -> tuple[int, int] | None:
    """Height and width of colour images, from the feature's axis names, or without names from the position of the 3."""
    shape = feature.shape
    if len(shape) != 3 or not all(1 <= side <= MAX_SIDE for side in shape):
        return None
    axes = _axes(feature)
    if not axes:
        axes = ["height", "width", "channels"] if shape[2] == COLOURS else ["channels", "height", "width"]
    sides = dict(zip(axes, shape, strict=True))
    return (sides["height"], sides["width"]) if sides["channels"] == COLOURS else None


def _axes(feature: _Feature) -> list[str]:
    """The feature's three axis names, with LeRobot's older "channel" as "channels"; empty if it has none."""
    names = feature.names
    if not isinstance(names, list) or len(names) != 3:
        return []
    axes = ["channels" if name == "channel" else str(name) for name in names]
    return axes if sorted(axes) == ["channels", "height", "width"] else []
