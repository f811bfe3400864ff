"""LeRobot itself opens our datasets. Run by `make test-lerobot` with an environment that has lerobot.

    python tests/lerobot/check.py DATASET...

Everything that training with LeRobot needs from a dataset: metadata, tasks, statistics, every frame, one episode,
time windows across episode borders, and batches from a shuffling loader. What LeRobot returns is compared with the
bytes in the files, read here with pyarrow only.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import io
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from PIL import Image


def check(folder: Path) -> None:
    info = json.loads((folder / "meta/info.json").read_text())
    rows = [row for path in sorted(folder.glob("data/*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    dataset = LeRobotDataset("local/checked", root=folder)
    cameras = [key for key, feature in info["features"].items() if feature["dtype"] == "image"]
    assert dataset.num_episodes == info["total_episodes"]
    assert len(dataset) == dataset.num_frames == info["total_frames"] == len(rows)
    assert dataset.fps == info["fps"]
    assert list(dataset.meta.camera_keys) == cameras
    check_statistics(dataset, rows, cameras)
    for index, row in enumerate(rows):
        check_frame(dataset[index], row, cameras, dataset)
    check_one_episode(folder, rows)
    check_windows(folder, info, rows)
    check_batches(dataset, cameras)
    print(f"{folder}: {len(rows)} frames of {dataset.num_episodes} episodes, cameras {' '.join(cameras)}: as written")


def check_frame(frame: dict, row: dict, cameras: list[str], dataset: LeRobotDataset) -> None:
    for key in ("observation.state", "action"):
        np.testing.assert_array_equal(frame[key].numpy(), np.array(row[key], np.float32))
    for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        assert frame[key].item() == np.float32(row[key]) if key == "timestamp" else frame[key].item() == row[key]
    assert frame["task"] == dataset.meta.tasks.index[row["task_index"]]
    for key in cameras:
        pixels = np.array(Image.open(io.BytesIO(row[key]["bytes"])))
        expected = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255.0
        assert torch.equal(frame[key], expected)


def check_statistics(dataset: LeRobotDataset, rows: list[dict], cameras: list[str]) -> None:
    stats = dataset.meta.stats
    for key in ("observation.state", "action"):
        values = np.array([row[key] for row in rows], np.float32)
        np.testing.assert_allclose(stats[key]["mean"], values.mean(0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(stats[key]["max"], values.max(0), rtol=1e-6)
    for key in cameras:
        assert np.shape(stats[key]["mean"]) == (3, 1, 1)


def check_one_episode(folder: Path, rows: list[dict]) -> None:
    last = rows[-1]["episode_index"]
    alone = LeRobotDataset("local/checked", root=folder, episodes=[last])
    expected = [row for row in rows if row["episode_index"] == last]
    assert len(alone) == len(expected)
    assert alone[0]["index"].item() == expected[0]["index"]


def check_windows(folder: Path, info: dict, rows: list[dict]) -> None:
    step_s, horizon = 1 / info["fps"], 8
    stamps = {"observation.state": [-step_s, 0.0], "action": [k * step_s for k in range(horizon)]}
    dataset = LeRobotDataset("local/checked", root=folder, delta_timestamps=stamps)
    for index, row in enumerate(rows):
        frame = dataset[index]
        same = [i for i, other in enumerate(rows) if other["episode_index"] == row["episode_index"]]
        wanted = [min(index + k, same[-1]) for k in range(horizon)]
        actions = np.array([rows[i]["action"] for i in wanted], np.float32)
        np.testing.assert_array_equal(frame["action"].numpy(), actions)
        padded = [index + k > same[-1] for k in range(horizon)]
        assert frame["action_is_pad"].tolist() == padded
        before = max(index - 1, same[0])
        np.testing.assert_array_equal(
            frame["observation.state"].numpy(),
            np.array([rows[before]["observation.state"], row["observation.state"]], np.float32),
        )


def check_batches(dataset: LeRobotDataset, cameras: list[str]) -> None:
    loader = torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True)
    seen = 0
    for batch in loader:
        seen += len(batch["index"])
        assert all(batch[key].dtype == torch.float32 and batch[key].max() <= 1.0 for key in cameras)
    assert seen == len(dataset)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        check(Path(argument))
    print(*(f"{name} {version(name)}" for name in ("lerobot", "datasets", "torch", "torchvision")), sep=", ")
