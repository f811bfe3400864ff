"""`sefa-edge inspect`: its output and exit code for each kind of file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sefa_edge.profiles.card import card_path
from sefa_edge.profiles.files import sha256_of

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "edge/shipped/lift/model.onnx"
CHECKPOINT = ROOT / "models/results/lift"
PLAN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 30]) + bytes(100)
RTX_PLAN = b"vtrt" + bytes(20) + bytes([1, 7, 1, 116]) + bytes(100)


def inspect(*words: object) -> subprocess.CompletedProcess[str]:
    """The real command; the time limit is for endless reads."""
    command = [sys.executable, "-m", "sefa_edge", "inspect", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def as_json(*words: object) -> dict[str, object]:
    done = inspect(*words, "--json", "-")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def quantised(folder: Path) -> Path:
    """A model with a uint8 zero point: TensorRT computes it incorrectly, ONNX Runtime correctly."""
    onnx = pytest.importorskip("onnx")
    h, t = onnx.helper, onnx.TensorProto
    nodes = [
        h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantise"),
        h.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantise"),
        h.make_node("DequantizeLinear", ["w", "s"], ["wd"], "weight"),
        h.make_node("MatMul", ["d", "wd"], ["m"], "multiply"),
        h.make_node("MatMul", ["m", "f"], ["y"], "last"),
    ]
    constants = [
        h.make_tensor("s", t.FLOAT, [], [0.1]),
        h.make_tensor("z", t.UINT8, [], [0]),
        h.make_tensor("w", t.INT8, [2, 2], [1, 2, 3, 4]),
        h.make_tensor("f", t.FLOAT, [2, 2], [1, 2, 3, 4]),
    ]
    values = [h.make_tensor_value_info(name, t.FLOAT, [1, 2]) for name in "xy"]
    graph = h.make_graph(nodes, "g", values[:1], values[1:], constants)
    path = folder / "model.onnx"
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.slow
def test_shows_the_shipped_engine() -> None:
    done = inspect(SHIPPED)
    assert done.returncode == 0
    for words in (
        "17, IR version 8",
        "image_front  uint8    1 x 96 x 96 x 3",
        "19 float32",
        "1,812,058",
        "belongs to this",
    ):
        assert words in done.stdout
    assert done.stdout.count(" ok\n") == 6
    assert all(len(line) < 130 for line in done.stdout.splitlines()[1:])


@pytest.mark.slow
def test_json_says_the_same() -> None:
    report = as_json(SHIPPED)
    assert (report["schema_version"], report["kind"], report["sha256"]) == (1, "onnx", sha256_of(SHIPPED))
    onnx = report["onnx"]
    assert isinstance(onnx, dict)
    assert onnx["inputs"][0] == {"name": "image_front", "dtype": "uint8", "shape": [1, 96, 96, 3]}
    assert onnx["layers"] == {"float32": 19}
    assert onnx["parameters"] == onnx["stored"]["float32"]["values"]
    assert [verdict["broken"] for verdict in onnx["verdicts"]] == [[]] * 6
    card = report["card"]
    assert isinstance(card, dict)
    assert card["belongs"] is True
    assert card["card"] == json.loads(card_path(SHIPPED).read_text())


@pytest.mark.slow
def test_broken_rules_of_the_target_asked_for_end_with_1(tmp_path: Path) -> None:
    path = quantised(tmp_path)
    everything = inspect(path)
    assert everything.returncode == 0
    assert "quantise: its zero point 'z' means uint8" in everything.stdout
    assert "1 int8, 1 float32" in everything.stdout
    asked = inspect(path, "--target", "orin", "--json", tmp_path / "report.json")
    assert asked.returncode == 1
    assert "TensorRT 10.3" in asked.stdout
    assert "8.6" not in asked.stdout
    (first, second) = json.loads((tmp_path / "report.json").read_text())["onnx"]["verdicts"]
    assert (first["target"], second["target"]) == ("TensorRT 10.3", "TensorRT 10.16")
    assert [rule["node"] for rule in first["broken"]] == ["quantise", "dequantise"]
    assert inspect(path, "--target", "onnxruntime").returncode == 0
    assert inspect(path, "--target", "jetson").returncode == 2


@pytest.mark.slow
def test_reports_a_card_of_another_file(tmp_path: Path) -> None:
    other = quantised(tmp_path)
    shutil.copy(card_path(SHIPPED), card_path(other))
    assert "DOES NOT BELONG" in inspect(other).stdout
    (tmp_path / "model.json").write_text("{}")
    assert "DOES NOT BELONG" not in (text := inspect(other).stdout)
    assert "schema_version: this key is missing" in text


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize(("content", "words"), [(PLAN, "TensorRT 10.3.0.30"), (RTX_PLAN, "TensorRT-RTX 1.7.1.116")])
def test_shows_the_version_of_a_plan(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(content)
    done = inspect(path)
    assert done.returncode == 0
    assert f"plan of {words}, 128 bytes" in done.stdout
    assert "model.plan.json: missing" in done.stdout
    plan = as_json(path)["plan"]
    assert isinstance(plan, dict)
    assert f"{plan['library']} {plan['library_version']}" == words
    path.write_bytes(content[:26])
    cut = inspect(path)
    assert (cut.returncode, "ends inside its header" in cut.stderr) == (2, True)
    path.write_bytes(content)
    assert "--target is for ONNX files" in inspect(path, "--target", "orin").stderr


@pytest.mark.slow
def test_shows_a_card_and_whether_its_engine_is_there(tmp_path: Path) -> None:
    done = inspect(card_path(SHIPPED))
    assert done.returncode == 0
    assert "belongs to the model.onnx beside it" in done.stdout
    assert "shoulder_pan shoulder_lift" in done.stdout
    alone = Path(shutil.copy(card_path(SHIPPED), tmp_path))
    assert "model.onnx is missing" in inspect(alone).stdout
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09")
    assert "is not the file that the card describes" in inspect(alone).stdout
    renamed = alone.rename(tmp_path / "other.json")
    assert "would be model.json" in inspect(renamed).stdout


@pytest.mark.slow
def test_shows_every_part_of_a_full_card(tmp_path: Path, make_reach_engine: Callable[[Path], Path]) -> None:
    path = card_path(make_reach_engine(tmp_path))
    sha = "0" * 64
    calibration = {"method": "entropy", "dataset_sha256": sha, "episodes": 9, "samples": 512, "joint_coverage": 0.9}
    loop = {"task": "lift", "first_seed": 0, "last_seed": 199, "successes": 150, "reference_successes": 152}
    gate = {"dataset_sha256": sha, "samples": 99, "mean_deg": 0.02, "p99_deg": 0.3, "max_deg": 1.5, "passed": True}
    layers = {"int8_layers": ["a", "b"], "int8_weight_layers": ["d"], "kept_layers": ["c"], "int8_weight_share": 0.75}
    more = {
        "precision": "int8",
        "name": "evil\x1b[2J",
        "quantisation": {"calibration": calibration, **layers},
        "gate": {
            **gate,
            "worst_joint": "gripper",
            "budget_p99_deg": 0.5,
            "closed_loop": {**loop, "interval_95": [0.7, 0.8]},
        },
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    text = inspect(path).stdout
    for words in (
        "2 layers compute in INT8",
        "entropy, 512 samples",
        "passed: p99 0.3 deg of 0.5",
        "150 of 200 seeds",
    ):
        assert words in text
    assert "\x1b" not in text
    assert "evil\\x1b[2J" in text


@pytest.mark.slow
def test_shows_a_checkpoint_without_the_learning_half(tmp_path: Path) -> None:
    done = inspect(CHECKPOINT)
    assert done.returncode == 0
    assert "config.network.horizon" in done.stdout
    assert as_json(CHECKPOINT)["checkpoint"] == json.loads((CHECKPOINT / "checkpoint.json").read_text())
    shutil.copy(CHECKPOINT / "checkpoint.json", tmp_path)
    assert "model.safetensors is missing" in inspect(tmp_path).stdout
    (tmp_path / "model.safetensors").touch()
    assert "is not the file that the checkpoint describes" in inspect(tmp_path).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"schema_version": 1', "not valid JSON"),
        ('{"schema_version": NaN}', "NaN is not a number"),
        ('{"schema_version": 1}', "stage: this key is missing"),
        ("[1]", "is not an object with keys"),
        ('{"a":' * 900 + "1" + "}" * 900, "nested deeper than 32"),
    ],
)
def test_refuses_a_damaged_checkpoint(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "checkpoint.json").write_text(content)
    done = inspect(tmp_path)
    assert (done.returncode, words in done.stderr) == (2, True)


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "pipe", "nowhere", ".", "text", "empty", "deep", "cut"])
def test_unknown_files_are_one_clear_line(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "empty").touch()
    (tmp_path / "deep").write_text('{"a":' * 900 + "1" + "}" * 900)
    (tmp_path / "cut").write_bytes(SHIPPED.read_bytes()[:100_000])
    done = inspect(tmp_path / path)
    assert done.returncode == 2
    assert done.stdout == ""
    first, *rest = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert [line.split()[0] for line in rest] in ([], ["hint:"])


@pytest.mark.slow
def test_report_is_not_begun_where_it_cannot_be_written() -> None:
    done = inspect(SHIPPED, "--json", "nowhere/report.json")
    assert (done.returncode, "does not exist" in done.stderr) == (2, True)
