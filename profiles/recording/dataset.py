"""OWNS READING DATASETS: demonstrations in LeRobot's format v3.0, for training, calibration and verification.

Joints and actions are read at once, images only on demand.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from sefa_edge.profiles.encoded_picture import (
    PictureFormat,
    is_complete,
    not_8_bit_colours,
    picture_format,
    picture_size,
)
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.recording.dataset_info import (
    IMAGE_PREFIX,
    MAX_FRAMES,
    VIDEO_PATH,
    CameraFeature,
    DatasetInfo,
    read_info,
    require_fetched,
)
from sefa_edge.profiles.recording.parquet import read_numbers, read_pictures
from sefa_edge.profiles.recording.video import VideoFile, decode_frames

Decode = Callable[[bytes], np.ndarray]
"""From the bytes of a PNG or JPEG to uint8 [H, W, 3] RGB; raises InputError. Training and running differ in it."""

MAX_FILE_INDEX = 999_999
MAX_START_S = 1e7
MAX_RATE_DEVIATION = 0.05
"""Share by which the rate of the time stamps may differ from the declared one."""
MAX_LISTED = 4
DOWNLOAD_AGAIN = "was the copy complete? hf download USER/NAME --repo-type dataset --local-dir DIR"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file and its frames `start..end - 1`."""

    path: Path
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class VideoPart:
    """The start of one episode in one camera's videos."""

    path: Path
    start_s: float


@dataclass(frozen=True, slots=True, eq=False)
class RecordedDataset:
    """All frames of a dataset without their images. Episodes are in order; frame i belongs to `episode[i]`."""

    folder: Path
    info: DatasetInfo
    files: tuple[DataFile, ...]
    joint_deg: np.ndarray
    """float32 [N, n]: joints as measured, in joint units."""
    action_deg: np.ndarray
    """float32 [N, n]: joints as commanded."""
    episode: np.ndarray
    """int64 [N], non-decreasing."""
    time_s: np.ndarray
    """float64 [N], since the start of the episode."""
    videos: dict[str, dict[int, VideoPart]]
    """By camera (stored as video) and episode."""

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def episode_start(self) -> np.ndarray:
        """First frame of every frame's episode, int64 [N]."""
        return np.searchsorted(self.episode, self.episode, side="left")

    @property
    def episode_end(self) -> np.ndarray:
        """One past the last frame of every frame's episode, int64 [N]."""
        return np.searchsorted(self.episode, self.episode, side="right")

    def pictures(self, camera: str, frames: np.ndarray, decode: Decode) -> np.ndarray:
        """Images uint8 [K, H, W, 3] of `frames` int64 [K], in any order; no others are decoded.

        Raises:
            InputError: no such camera, or an image that is damaged or of another size.
            MissingError: the camera is stored as video, and PyAV is not installed.
        """
        feature = self._feature(camera)
        wanted, place = np.unique(frames, return_inverse=True)
        decoded = np.empty((len(wanted), feature.height, feature.width, 3), np.uint8)
        for index, picture in enumerate(self.stream(camera, wanted, decode)):
            decoded[index] = picture
        return decoded if np.array_equal(wanted, frames) else decoded[place.reshape(-1)]

    def stream(self, camera: str, frames: np.ndarray, decode: Decode) -> Iterator[np.ndarray]:
        """Images uint8 [H, W, 3] of `frames` int64 [K], ascending, one by one: any number fits into memory.

        Raises InputError and MissingError as `pictures` does.
        """
        feature = self._feature(camera)
        if feature.storage == "video":
            yield from self._video_frames(camera, frames)
            return
        for file in self.files:
            first, last = np.searchsorted(frames, (file.start, file.end))
            for row, content in read_pictures(file.path, IMAGE_PREFIX + camera, frames[first:last] - file.start):
                if content is None:
                    raise self._absent(camera, file.start + row)
                yield _decoded(f"{file.path} row {row}", content, feature, decode)

    def fingerprint(self) -> str:
        """SHA-256 over all files of the dataset, without decoding them."""
        videos = {part.path for parts in self.videos.values() for part in parts.values()}
        digest = hashlib.sha256()
        for path in [self.folder / "meta/info.json", *(file.path for file in self.files), *sorted(videos)]:
            if not path.is_file():
                raise InputError(f"{path} does not exist", "was the copy complete?")
            digest.update(f"{path.relative_to(self.folder).as_posix()} {sha256_of(path)}\n".encode())
        return digest.hexdigest()

    def _absent(self, camera: str, frame: int) -> InputError:
        episode, step = int(self.episode[frame]), frame - int(self.episode_start[frame])
        return _camera_absent(self.folder, camera, f"episode {episode} (frame {step} of it has no image)")

    def _feature(self, camera: str) -> CameraFeature:
        if camera not in self.info.cameras:
            raise InputError(f"{self.folder} has no camera '{camera}'", f"it has {', '.join(self.info.cameras)}")
        return self.info.cameras[camera]

    def _video_frames(self, camera: str, frames: np.ndarray) -> Iterator[np.ndarray]:
        feature, parts = self.info.cameras[camera], self.videos[camera]
        shots = [(parts[int(self.episode[frame])], float(self.time_s[frame])) for frame in frames]
        for path, group in groupby(shots, key=lambda shot: shot[0].path):
            times_s = np.array([part.start_s + time_s for part, time_s in group])
            yield from decode_frames(VideoFile(path, feature.height, feature.width, self.info.rate_hz), times_s)


def open_dataset(folder: Path) -> RecordedDataset:
    """Read everything but the images of the LeRobot v3.0 dataset in `folder`.

    Raises:
        InputError: it is not such a dataset, is damaged, or has joints that are not finite.
        MissingError: pyarrow is not installed.
    """
    info = read_info(folder)
    paths = sorted((folder / "data").glob("chunk-*/file-*.parquet"))
    if not paths:
        raise InputError(f"{folder} has no data files (data/chunk-*/file-*.parquet)", DOWNLOAD_AGAIN)
    n, files, parts = len(info.joint_names), [], []
    start = 0
    for path in paths:
        require_fetched(path)
        part = _read_frames(path, n, info.total_frames - start)
        files.append(DataFile(path, start, start + len(part["episode_index"])))
        parts.append(part)
        start = files[-1].end
    if start != info.total_frames:
        raise InputError(f"{folder} has {start} frames, meta/info.json says {info.total_frames}", DOWNLOAD_AGAIN)
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    _check_frames(folder, info, columns)
    _check_rate(folder, info, columns)
    videos = _read_videos(folder, info, np.unique(columns["episode_index"]))
    _require_videos(folder, videos)
    return RecordedDataset(
        folder=folder,
        info=info,
        files=tuple(files),
        joint_deg=columns["observation.state"],
        action_deg=columns["action"],
        episode=columns["episode_index"],
        time_s=columns["timestamp"],
        videos=videos,
    )


def _check_frames(folder: Path, info: DatasetInfo, columns: dict[str, np.ndarray]) -> None:
    for key in ("observation.state", "action"):
        wrong = np.argwhere(~np.isfinite(columns[key]))
        if len(wrong):
            frame, joint = wrong[0].tolist()
            raise InputError(
                f"{folder}: {key} of {info.joint_names[joint]} at frame {frame} is {columns[key][frame, joint]}",
                "record it again, or remove the episode",
            )
    if (np.diff(columns["episode_index"]) < 0).any() or columns["episode_index"][0] < 0:
        raise InputError(f"{folder}: its episodes are not in order", "record or convert it again")


def _check_rate(folder: Path, info: DatasetInfo, columns: dict[str, np.ndarray]) -> None:
    """The time stamps must have the declared rate, because a policy is executed at that rate."""
    same = np.diff(columns["episode_index"]) == 0
    steps_s = np.diff(columns["timestamp"])[same]
    if not len(steps_s):
        return
    if not (steps_s > 0).all():
        frame = int(np.flatnonzero(same)[np.argmin(steps_s > 0)]) + 1
        raise InputError(
            f"{folder}: time stamps do not increase in episode {columns['episode_index'][frame]}, at frame {frame}",
            "record or convert it again",
        )
    rate_hz = 1 / float(np.median(steps_s))
    if abs(rate_hz / info.rate_hz - 1) > MAX_RATE_DEVIATION:
        raise InputError(
            f"{folder} declares {info.rate_hz:g} frames per second, its time stamps say {rate_hz:.2f}",
            "a policy would move at the wrong speed: record again at a rate that the recorder achieves, or correct fps "
            "in meta/info.json and the videos",
        )


def _require_videos(folder: Path, videos: dict[str, dict[int, VideoPart]]) -> None:
    """Check that all video files exist, before long work starts."""
    paths = sorted({part.path for parts in videos.values() for part in parts.values()})
    missing = [path for path in paths if not path.is_file()]
    if missing:
        names = [str(path.relative_to(folder)) for path in missing]
        others = f" ({', '.join(names[1:MAX_LISTED])}{', …' if len(names) > MAX_LISTED else ''})" if names[1:] else ""
        raise InputError(
            f"{folder}: {names[0]} does not exist; {len(names)} of {len(paths)} videos are missing{others}",
            DOWNLOAD_AGAIN,
        )
    for path in paths:
        require_fetched(path)


def _camera_absent(folder: Path, camera: str, where: str) -> InputError:
    return InputError(
        f"{folder}: camera '{camera}' is missing in {where}",
        "was it unplugged? record the episode again, or remove the episode or the camera from the dataset",
    )


def _read_frames(path: Path, n: int, frames_left: int) -> dict[str, np.ndarray]:
    """Joints, actions, episode numbers and times of one data file."""
    widths = {"observation.state": n, "action": n, "episode_index": 1, "timestamp": 1}
    part = read_numbers(path, widths, frames_left)
    if (part["episode_index"] % 1 != 0).any():
        raise InputError(f"{path}: 'episode_index' has fractions", "record or convert it again")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused later
        state, action = (part[name].astype(np.float32) for name in ("observation.state", "action"))
    return {
        "observation.state": state,
        "action": action,
        "episode_index": part["episode_index"][:, 0].astype(np.int64),
        "timestamp": part["timestamp"][:, 0].astype(np.float64),
    }


def _read_videos(folder: Path, info: DatasetInfo, episodes: np.ndarray) -> dict[str, dict[int, VideoPart]]:
    """The start of each episode in the videos, from `meta/episodes`; empty if no camera is stored as video."""
    keys = [IMAGE_PREFIX + name for name, camera in info.cameras.items() if camera.storage == "video"]
    if not keys:
        return {}
    videos: dict[str, dict[int, VideoPart]] = {key.removeprefix(IMAGE_PREFIX): {} for key in keys}
    for path in sorted((folder / "meta/episodes").glob("chunk-*/file-*.parquet")):
        for key in keys:
            videos[key.removeprefix(IMAGE_PREFIX)] |= _read_parts(folder, path, key)
    for camera, parts in videos.items():
        missing = sorted(set(episodes.tolist()) - set(parts))
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise _camera_absent(folder, camera, f"episode {missing[0]}{more}: meta/episodes names no video of it")
    return videos


def _read_parts(folder: Path, path: Path, key: str) -> dict[int, VideoPart]:
    """By episode: the file of a camera's video, and the start in it."""
    names = ["episode_index", *(f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp"))]
    require_fetched(path)
    columns = read_numbers(path, dict.fromkeys(names, 1), MAX_FRAMES, may_be_null=names[1:])
    parts = {}
    for episode, chunk, file, start_s in zip(*(columns[name][:, 0].tolist() for name in names), strict=True):
        if math.isnan(chunk) or math.isnan(file):
            continue  # the camera is missing in this episode, which is reported later
        if not (0 <= chunk <= MAX_FILE_INDEX and 0 <= file <= MAX_FILE_INDEX and 0 <= start_s <= MAX_START_S):
            raise InputError(f"{path}: the video of episode {episode} is impossible", "convert the dataset again")
        name = VIDEO_PATH.format(video_key=key, chunk_index=int(chunk), file_index=int(file))
        parts[int(episode)] = VideoPart(folder / name, float(start_s))
    return parts


def _decoded(where: str, content: bytes, feature: CameraFeature, decode: Decode) -> np.ndarray:
    """One image. Its size is read from its header first, so that a small file cannot request much memory."""
    if picture_format(content) not in (PictureFormat.PNG, PictureFormat.JPEG):
        raise InputError(f"{where}: the image is neither PNG nor JPEG", "record PNG or JPEG images, or videos")
    size = picture_size(content)
    if size is None:
        raise InputError(f"{where}: the image ends too early", "was the copy complete?")
    if size != (feature.height, feature.width):
        raise InputError(
            f"{where}: the image is {size[1]}x{size[0]}, meta/info.json says {feature.width}x{feature.height}",
            "record or convert it again",
        )
    if reason := not_8_bit_colours(content):
        raise InputError(f"{where}: {reason}", "store colour images with 8 bits per sample, PNG or JPEG")
    if not is_complete(content):  # some decoders accept half an image
        raise InputError(f"{where}: the image ends too early", "was the copy complete?")
    try:
        picture = decode(content)
    except InputError as error:
        raise InputError(f"{where}: {error}", error.hint) from None
    if picture.dtype != np.uint8 or picture.shape != (feature.height, feature.width, 3):
        raise InputError(f"{where}: the image decodes to {picture.dtype} {picture.shape}", "record it again")
    return picture
