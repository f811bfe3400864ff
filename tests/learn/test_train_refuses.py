"""`sefa-edge train` refuses what `export` would refuse, before it decodes an image or trains a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sefa_edge.cli import main
from sefa_edge.edge.tools.demonstrations.dataset_writer import DatasetInfo, DatasetWriter, Episode
from sefa_edge.profiles.arms import load_arm_profile

NAMES = load_arm_profile("so101").joint_names


def write_dataset(folder: Path, names: tuple[str, ...], episodes: int, sizes: dict[str, tuple[int, int]]) -> Path:
    writer = DatasetWriter(folder, DatasetInfo("lift", "so101_follower", 10, names, sizes))
    for index in range(episodes):
        episode = Episode()
        for frame in range(3):
            images = {camera: np.full((*size, 3), 40 * frame, np.uint8) for camera, size in sizes.items()}
            episode.append(np.full(len(names), index + frame), np.full(len(names), index), images)
        writer.add(episode)
    writer.close()
    return folder


@pytest.mark.parametrize(
    ("names", "episodes", "sizes", "message"),
    [
        (tuple(f"main_{name}" for name in NAMES), 2, {"front": (24, 32)}, "before June 2025, with the old calibration"),
        (("arm1_j1", "arm1_j2"), 2, {"front": (24, 32)}, "moves arm1_j1, arm1_j2; the arm"),
        (NAMES, 1, {"front": (24, 32)}, "the dataset has one episode"),
        (NAMES, 2, {"front": (24, 32), "wrist": (48, 32)}, "differ in size: front 32x24, wrist 32x48"),
        (NAMES, 2, {"front": (8, 32)}, "expected 16 to 2048 pixels per side"),
    ],
)
def test_a_dataset_that_export_would_refuse_is_refused_before_training(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: tuple[str, ...],
    episodes: int,
    sizes: dict[str, tuple[int, int]],
    message: str,
) -> None:
    dataset = write_dataset(tmp_path / "demo", names, episodes, sizes)
    assert main(["train", "--dataset", str(dataset), "-o", str(tmp_path / "out")]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert message in error
    assert hint.startswith("hint: ")
    assert not (tmp_path / "out" / "base").exists()


def test_a_users_own_arm_may_have_any_joint_names(tmp_path: Path) -> None:
    profile = (Path(__file__).parents[2] / "profiles/arms/so101.yaml").read_text()
    for name in NAMES:
        profile = profile.replace(f"name: {name}\n", f"name: my_{name}\n")
    (tmp_path / "mine.yaml").write_text(profile)
    dataset = write_dataset(tmp_path / "demo", tuple(f"my_{name}" for name in NAMES), 2, {"front": (24, 32)})
    arguments = ["--arm", str(tmp_path / "mine.yaml"), "--base-steps", "1", "--stage", "base", "--threads", "1"]
    assert main(["train", "--dataset", str(dataset), "-o", str(tmp_path / "out"), *arguments]) == 0
    assert (tmp_path / "out/base/model.safetensors").is_file()
