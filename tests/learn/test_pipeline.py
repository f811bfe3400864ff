"""Record, train three stages, export, evaluate: the whole learning half through the command line, on a small scale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from sefa_edge.cli import main
from sefa_edge.profiles.card import load_card
from sefa_edge.profiles.recording.dataset import open_dataset

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "lift"
    assert main(["record", "--expert", "lift", "--episodes", "3", "--size", "48", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def checkpoints(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    steps = ["--base-steps", "60", "--student-steps", "60", "--threads", "1"]
    assert main(["train", "--dataset", str(dataset), "-o", str(folder), *steps]) == 0
    return folder


@pytest.fixture(scope="module")
def engine(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    assert main(["export", str(checkpoints / "sefa"), "-o", str(folder)]) == 0
    return folder / "model.onnx"


def test_training_lowers_the_loss(checkpoints: Path) -> None:
    base = json.loads((checkpoints / "base/checkpoint.json").read_text())
    student = json.loads((checkpoints / "sefa/checkpoint.json").read_text())
    assert base["final_loss"] < 1.85  # about 1.92 at the first step
    assert student["stage"] == "sefa"
    assert student["replaced_fraction"] == pytest.approx(0.5, abs=0.01)


def test_training_is_reproducible(dataset: Path, checkpoints: Path, tmp_path: Path) -> None:
    steps = ["--base-steps", "60", "--stage", "base", "--threads", "1"]
    assert main(["train", "--dataset", str(dataset), "-o", str(tmp_path), *steps]) == 0
    again, first = (json.loads((folder / "base/checkpoint.json").read_text()) for folder in (tmp_path, checkpoints))
    assert again["weights_sha256"] == first["weights_sha256"]


def test_the_engine_is_one_static_graph_without_randomness(engine: Path) -> None:
    graph = onnx.load(engine).graph
    assert not {node.op_type for node in graph.node} & {
        "RandomNormal",
        "RandomNormalLike",
        "NonZero",
        "Loop",
        "If",
    }
    for value in (*graph.input, *graph.output):
        assert all(dimension.dim_value > 0 for dimension in value.type.tensor_type.shape.dim)


def test_the_card_describes_the_engine(engine: Path) -> None:
    card = load_card(engine)
    session = onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"])
    assert {node.name: list(node.shape) for node in session.get_inputs()} == {
        "image_front": [1, 48, 48, 3],
        "joints": [1, 6],
        "noise": [16, 6],
    }
    assert card.provenance.network_calls == 1
    assert card.joint_names[-1] == "gripper"


def test_a_base_flow_is_exported_with_its_steps_unrolled(checkpoints: Path, tmp_path: Path) -> None:
    assert main(["export", str(checkpoints / "base"), "-o", str(tmp_path), "--network-calls", "3"]) == 0
    assert load_card(tmp_path / "model.onnx").provenance.network_calls == 3


def test_evaluation_is_deterministic_and_complete(engine: Path, tmp_path: Path) -> None:
    reports = []
    for name in ("a.json", "b.json"):
        assert main(["eval", "--engine", str(engine), "--seeds", "3:5", "--json", str(tmp_path / name)]) == 0
        reports.append(json.loads((tmp_path / name).read_text()))
    assert reports[0] == reports[1]
    assert [episode["seed"] for episode in reports[0]["episodes"]] == [3, 4]
    low, high = reports[0]["interval_95"]
    assert low <= reports[0]["success_rate"] <= high


def test_a_policy_below_the_required_rate_exits_with_one(engine: Path) -> None:
    assert main(["eval", "--engine", str(engine), "--seeds", "0:1", "--blank-camera", "--require", "1.0"]) == 1


@pytest.mark.parametrize("seeds", ["5", "5:5", "9:3", "-1:4", "a:b", "0:999999"])
def test_bad_seeds_are_refused(engine: Path, seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--engine", str(engine), f"--seeds={seeds}"]) == 2
    assert "A:B" in capsys.readouterr().err


def test_an_engine_that_was_changed_is_refused(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(engine.read_bytes()[:-1])
    (tmp_path / "model.json").write_bytes(engine.with_suffix(".json").read_bytes())
    assert main(["eval", "--engine", str(copy), "--seeds", "0:1"]) == 2
    assert "not the file that its card describes" in capsys.readouterr().err


def test_images_in_the_dataset_are_lossless_renders(dataset: Path) -> None:
    from sefa_edge.models.dataset import load_demonstrations

    data = load_demonstrations(open_dataset(dataset))
    assert data.images["front"].shape[1:] == (48, 48, 3)
    assert np.unique(data.images["front"][0].numpy()).size > 20
