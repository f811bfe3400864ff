"""Writes a LeRobot v3.0 dataset: one Parquet file per group of episodes, containing lossless pictures.

Layout and field names follow LeRobot's format v3.0 (`codebase_version`), introduced by LeRobot 0.4. Pictures are PNG
(feature type `image`), because LeRobot's default video (AV1, CRF 30) has a PSNR of only 28 dB at 96 pixels.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from sefa_edge.edge.pictures import encode_png
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import make_folder, missing_folders, naming_failures, remove_empty, writable, write_atomic

EPISODES_PER_FILE = 100
LOCAL = LocalFileSystem()
"""Without it, pyarrow interprets a path with a colon as the address of another file system."""
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """Facts that all episodes of a dataset share."""

    task: str
    robot_type: str
    rate_hz: int
    joint_names: tuple[str, ...]
    cameras: dict[str, tuple[int, int]]
    """Camera name -> (height, width) in pixels."""


@dataclass(slots=True)
class Episode:
    """One demonstration, frame by frame: joints [n], actions [n] (both degrees, gripper 0..100), pictures RGB."""

    joint_deg: list[np.ndarray] = field(default_factory=list)
    action_deg: list[np.ndarray] = field(default_factory=list)
    images: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def append(self, joint_deg: np.ndarray, action_deg: np.ndarray, images: dict[str, np.ndarray]) -> None:
        self.joint_deg.append(np.asarray(joint_deg, np.float32))
        self.action_deg.append(np.asarray(action_deg, np.float32))
        for camera, image in images.items():
            self.images.setdefault(camera, []).append(image.copy())

    def __len__(self) -> int:
        return len(self.joint_deg)


class DatasetWriter:
    """Writes episodes to a `.partial` folder beside `path` and renames it in `close`, so that no dataset is incomplete.

    Nothing is created before the first episode. Every method raises InputError when the disk is full.
    """

    def __init__(self, path: Path, info: DatasetInfo) -> None:
        """Raises InputError when `path` already exists or cannot be created."""
        if os.path.lexists(path):
            raise InputError(f"{path} already exists", "choose another folder, or remove it first")
        self._path, self._info = path, info
        self._missing = missing_folders(path.parent)
        self._folder = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}.partial")
        standing = next(folder for folder in (path.parent, *path.parent.parents) if folder not in self._missing)
        writable(standing / path.name)
        self._rows: list[dict[str, object]] = []
        self._joints: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._image_samples: dict[str, list[np.ndarray]] = {camera: [] for camera in info.cameras}
        self._frames = 0
        self._parquet: pq.ParquetWriter | None = None

    def add(self, episode: Episode) -> None:
        """Append one episode, as a separate row group."""
        index, length = len(self._rows), len(episode)
        file_index = index // EPISODES_PER_FILE
        if index % EPISODES_PER_FILE == 0:
            self._open_file(file_index)
        assert self._parquet is not None
        with naming_failures(self._path):
            self._parquet.write_table(self._table(episode, index))
        self._rows.append(
            {
                "episode_index": index,
                "tasks": [self._info.task],
                "length": length,
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + length,
                "data/chunk_index": 0,
                "data/file_index": file_index,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        self._frames += length
        self._joints.extend(episode.joint_deg)
        self._actions.extend(episode.action_deg)
        for camera, samples in self._image_samples.items():
            samples.append(episode.images[camera][index % length])

    def close(self) -> None:
        """Write the metadata and rename the folder.

        Raises:
            InputError: no episode was added.
        """
        if self._parquet is None:
            raise InputError("the dataset would have no episodes", "did the expert fail on every seed?")
        meta = self._folder / "meta"
        tasks = pa.table({"task_index": pa.array([0], pa.int64()), "task": [self._info.task]})
        with naming_failures(self._path):
            self._parquet.close()
            _write_table(tasks.replace_schema_metadata(_pandas_index("task")), meta / "tasks.parquet")
            _write_table(pa.Table.from_pylist(self._rows), self._folder / EPISODES_PATH)
            write_atomic(meta / "stats.json", _json(self._stats()))
            write_atomic(meta / "info.json", _json(self._info_json()))
            self._folder.rename(self._path)

    def abandon(self) -> None:
        """Delete everything that was written."""
        with suppress(OSError):  # closing writes a footer, which fails on a full disk
            if self._parquet is not None:
                self._parquet.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        remove_empty(self._missing)

    def _open_file(self, file_index: int) -> None:
        if file_index == 0:
            make_folder(self._folder / "meta/episodes/chunk-000")
            make_folder(self._folder / "data/chunk-000")
        path = self._folder / DATA_PATH.format(chunk_index=0, file_index=file_index)
        with naming_failures(self._path):
            if self._parquet is not None:
                self._parquet.close()
            self._parquet = pq.ParquetWriter(path, self._schema(), compression="snappy", filesystem=LOCAL)

    def _schema(self) -> pa.Schema:
        vector = pa.list_(pa.float32(), len(self._info.joint_names))
        picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns: list[tuple[str, pa.DataType]] = [("observation.state", vector), ("action", vector)]
        columns += [(f"observation.images.{camera}", picture) for camera in self._info.cameras]
        columns += [("timestamp", pa.float32())]
        columns += [(name, pa.int64()) for name in ("frame_index", "episode_index", "index", "task_index")]
        return pa.schema(columns)

    def _table(self, episode: Episode, index: int) -> pa.Table:
        frames = np.arange(len(episode))
        columns: dict[str, object] = {
            "observation.state": [row.tolist() for row in episode.joint_deg],
            "action": [row.tolist() for row in episode.action_deg],
            "timestamp": (frames / self._info.rate_hz).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(len(frames), index),
            "index": frames + self._frames,
            "task_index": np.zeros(len(frames), np.int64),
        }
        for camera in self._info.cameras:
            columns[f"observation.images.{camera}"] = [
                {"bytes": encode_png(image), "path": f"frame-{frame:06d}.png"}
                for frame, image in enumerate(episode.images[camera])
            ]
        return pa.table(columns, schema=self._schema())

    def _info_json(self) -> dict[str, object]:
        return {
            "codebase_version": "v3.0",
            "robot_type": self._info.robot_type,
            "total_episodes": len(self._rows),
            "total_frames": self._frames,
            "total_tasks": 1,
            "chunks_size": 1000,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self._info.rate_hz,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": DATA_PATH,
            "video_path": None,
            "features": self._features(),
        }

    def _features(self) -> dict[str, object]:
        joints = [f"{name}.pos" for name in self._info.joint_names]
        features: dict[str, object] = {
            key: {"dtype": "float32", "shape": [len(joints)], "names": joints}
            for key in ("observation.state", "action")
        }
        for camera, (height, width) in self._info.cameras.items():
            features[f"observation.images.{camera}"] = {
                "dtype": "image",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
            }
        features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
        for name in ("frame_index", "episode_index", "index", "task_index"):
            features[name] = {"dtype": "int64", "shape": [1], "names": None}
        return features

    def _stats(self) -> dict[str, dict[str, Any]]:
        stats: dict[str, dict[str, Any]] = {
            "observation.state": _stats_of(np.stack(self._joints)),
            "action": _stats_of(np.stack(self._actions)),
        }
        for camera, samples in self._image_samples.items():
            pixels = np.stack(samples).astype(np.float32).reshape(-1, 3) / 255.0
            per_channel = _stats_of(pixels)
            count = per_channel.pop("count")
            shaped = {name: [[[value]] for value in values] for name, values in per_channel.items()}
            stats[f"observation.images.{camera}"] = {**shaped, "count": count}
        return stats


def _write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, filesystem=LOCAL)


def _stats_of(values: np.ndarray) -> dict[str, list[float]]:
    """LeRobot's statistics of rows [N, d]."""
    stats = {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        **{name: np.quantile(values, quantile, axis=0) for name, quantile in QUANTILES.items()},
    }
    return {**{name: value.astype(float).tolist() for name, value in stats.items()}, "count": [len(values)]}


def _pandas_index(column: str) -> dict[str, str]:
    """Schema metadata that makes pandas use `column` as the index, as LeRobot expects in tasks.parquet."""
    description = {
        "index_columns": [column],
        "column_indexes": [],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {
                "name": column,
                "field_name": column,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            },
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    return {"pandas": json.dumps(description)}


def _json(content: object) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"
