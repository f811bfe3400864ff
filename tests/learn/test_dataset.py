"""`train` reads exactly what `record` writes, and damaged datasets are refused with one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sefa_edge.edge.pictures import encode_png
from sefa_edge.edge.tools.demonstrations.dataset_writer import DatasetInfo, DatasetWriter, Episode
from sefa_edge.models.dataset import decode_picture, load_demonstrations
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.dataset import open_dataset

NAMES = ("shoulder_pan", "gripper")
LENGTHS = (5, 1, 7)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    writer = DatasetWriter(tmp_path / "demo", DatasetInfo("lift", "so101_follower", 10, NAMES, {"front": (24, 32)}))
    for index, length in enumerate(LENGTHS):
        writer.add(_episode(index, length))
    writer.close()
    return tmp_path / "demo"


def _episode(index: int, length: int) -> Episode:
    rng, episode = np.random.default_rng(index), Episode()
    for _ in range(length):
        image = rng.integers(0, 256, (24, 32, 3), np.uint8)
        episode.append(rng.normal(size=2), rng.normal(size=2), {"front": image})
    return episode


def test_round_trip_is_exact(dataset: Path) -> None:
    data = load_demonstrations(open_dataset(dataset))
    assert (len(data), data.joint_names, data.rate_hz) == (sum(LENGTHS), NAMES, 10.0)
    start = 0
    for index, length in enumerate(LENGTHS):
        episode, frames = _episode(index, length), slice(start, start + length)
        np.testing.assert_array_equal(data.joint_deg[frames], np.stack(episode.joint_deg))
        np.testing.assert_array_equal(data.action_deg[frames], np.stack(episode.action_deg))
        np.testing.assert_array_equal(data.images["front"][frames], np.stack(episode.images["front"]))
        assert data.episode_start[frames].unique().tolist() == [start]
        assert data.episode_end[frames].unique().tolist() == [start + length]
        start += length


def test_windows_never_leave_their_episode(dataset: Path) -> None:
    data = load_demonstrations(open_dataset(dataset))
    index = torch.arange(len(data))
    chunk, history = data.chunk(index, 4), data.history(index, 3)
    torch.testing.assert_close(chunk[3], data.action_deg[[3, 4, 4, 4]])
    assert history[5].tolist() == [5, 5, 5]
    assert history[8].tolist() == [6, 7, 8]
    assert (history >= data.episode_start[:, None]).all()


def test_metadata_is_in_lerobots_format(dataset: Path) -> None:
    info = json.loads((dataset / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["fps"]) == (3, 13, 10)
    assert info["features"]["observation.images.front"]["shape"] == [24, 32, 3]
    stats = json.loads((dataset / "meta/stats.json").read_text())
    assert set(stats["action"]) >= {"min", "max", "mean", "std", "count", "q01", "q50", "q99"}
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)


def test_an_existing_folder_is_not_overwritten(dataset: Path) -> None:
    with pytest.raises(InputError, match="already exists"):
        DatasetWriter(dataset, DatasetInfo("lift", "so101_follower", 10, NAMES, {}))


def test_an_abandoned_dataset_leaves_nothing(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "demo", DatasetInfo("lift", "so101_follower", 10, NAMES, {"front": (24, 32)}))
    writer.add(_episode(0, 3))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def _no_info(folder: Path) -> None:
    (folder / "meta/info.json").unlink()


def _old_version(folder: Path) -> None:
    _edit_info(folder, codebase_version="v2.1")


def _video(folder: Path) -> None:
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    features["observation.images.front"]["dtype"] = "video"
    _edit_info(folder, features=features)


def _truncated(folder: Path) -> None:
    data = folder / "data/chunk-000/file-000.parquet"
    data.write_bytes(data.read_bytes()[:1000])


def _edit_info(folder: Path, **changes: object) -> None:
    path = folder / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_info, "not a LeRobot dataset"),
        (_old_version, "v2.1"),
        (_video, "no column .videos"),
        (_truncated, "cannot be read"),
    ],
)
def test_damage_is_reported(dataset: Path, damage, message: str) -> None:
    damage(dataset)
    with pytest.raises(InputError, match=message):
        load_demonstrations(open_dataset(dataset))


def test_the_fingerprint_of_a_dataset_does_not_change(dataset: Path) -> None:
    """Checkpoints and cards store it: the dataset of an earlier training must still be recognised."""
    assert (
        load_demonstrations(open_dataset(dataset)).sha256
        == "f95a2cd54245c4d1924b74e7b4b6fcfddba5ec3a81319ae4603cfe9c69a43757"
    )


def test_several_files_are_read_and_fingerprinted_in_order(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "demo", DatasetInfo("lift", "so101_follower", 10, NAMES, {"front": (24, 32)}))
    for index in range(103):
        writer.add(_episode(index, 2))
    writer.close()
    data = load_demonstrations(open_dataset(tmp_path / "demo"))
    assert data.sha256 == "a5c3e9173d89681c2a9ca26f34d36eaaeba8a8e0df24843c913db83da8d43022"
    np.testing.assert_array_equal(data.images["front"][204:206], np.stack(_episode(102, 2).images["front"]))


def test_video_datasets_can_be_loaded_for_training(tmp_path: Path, make_video_dataset: Callable[..., Path]) -> None:
    data = load_demonstrations(open_dataset(make_video_dataset(tmp_path / "demo")))
    assert (len(data), data.joint_names, data.rate_hz) == (15, NAMES, 10.0)
    assert data.images["front"].shape == (15, 48, 64, 3)
    grey = data.images["front"][:, :, 40:].float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(grey, 20.0 + 8 * torch.arange(15), atol=2, rtol=0)
    assert data.joint_deg[:, 0].tolist() == list(range(15))


def test_pillow_and_opencv_decode_the_same_image() -> None:
    picture = _episode(0, 1).images["front"][0]
    np.testing.assert_array_equal(decode_picture(encode_png(picture)), picture)
    with pytest.raises(InputError, match="damaged"):
        decode_picture(encode_png(picture)[:200])
