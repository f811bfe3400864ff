"""`sefa-edge export` from the command line: the shipped checkpoint in every precision, tested, refused if worse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from sefa_edge.cli import main
from sefa_edge.export.gate import LostSuccess
from sefa_edge.export.graph.parts import Parts
from sefa_edge.export.report import ExportReport
from sefa_edge.export.session import run_chunks
from sefa_edge.models.checkpoint import load_checkpoint
from sefa_edge.models.policy import FlowPolicy
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import load_card
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.strict import parse_json

pytestmark = pytest.mark.sim
CHECKPOINT = Path(__file__).resolve().parents[2] / "models/results/lift"
INT8_FILES = ["model.cpu.onnx", "model.fp16.onnx", "model.fp32.onnx", "model.onnx", "model.typed.onnx"]
QUICK = ["--samples", "48", "--closed-loop", "none"]


def test_every_flavour_is_written_with_its_card_and_passed_the_gate(int8_export: Path) -> None:
    assert sorted(path.name for path in int8_export.glob("model*.onnx")) == INT8_FILES
    cards = {name: load_card(int8_export / name) for name in INT8_FILES}
    assert [(c.precision, c.strongly_typed) for c in cards.values()] == [
        ("int8", False), ("fp16", True), ("fp32", False), ("int8", False), ("int8", True),
    ]  # fmt: skip
    assert cards["model.onnx"].opset == 17
    assert cards["model.typed.onnx"].opset >= 19
    assert len({card.provenance.checkpoint_sha256 for card in cards.values()}) == 1
    for card in cards.values():
        assert card.gate is not None
        assert card.gate.passed
        assert not card.gate.overridden
    quantisation = cards["model.onnx"].quantisation
    assert quantisation == cards["model.typed.onnx"].quantisation
    assert quantisation is not None
    assert quantisation.int8_layers
    assert set(quantisation.kept_layers) == {"encoders.0.trunk.0", "velocity.enter", "velocity.leave.1"}


def test_int8_files_have_about_a_quarter_of_the_size(int8_export: Path) -> None:
    full = (int8_export / "model.fp32.onnx").stat().st_size
    assert (int8_export / "model.onnx").stat().st_size <= 0.27 * full
    assert (int8_export / "model.typed.onnx").stat().st_size <= 0.27 * full


def test_both_typings_hold_the_same_integers(int8_export: Path) -> None:
    weak, typed = (onnx.load(int8_export / name).graph.initializer for name in ("model.onnx", "model.typed.onnx"))
    integers = [{t.name: t.raw_data for t in tensors if t.name.endswith("weight.int8")} for tensors in (weak, typed)]
    assert len(integers[0]) == 15
    assert integers[0] == integers[1]


def test_the_report_is_complete(int8_export: Path) -> None:
    report = parse_json(int8_export / "report.json", ExportReport)
    assert [flavour.file for flavour in report.flavours] == [
        "model.onnx", "model.typed.onnx", "model.cpu.onnx", "model.fp16.onnx", "model.fp32.onnx",
    ]  # fmt: skip
    assert len(report.layers) == 15
    assert {layer.decision for layer in report.layers} == {"int8", "weights"}
    assert report.closed_loop is not None
    assert (report.closed_loop.first_seed, report.closed_loop.last_seed) == (0, 2)
    assert load_card(int8_export / "model.onnx").gate == report.flavours[0].gate
    page = (int8_export / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") == len(list((int8_export / "worst").glob("*.png"))) == 8
    assert "http" not in page.replace("http-equiv", "")
    assert not list(int8_export.glob(".staged-*"))


def test_verify_and_inspect_agree_with_the_gate(
    int8_export: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = [str(int8_export / "model.fp32.onnx"), str(int8_export / "model.fp16.onnx")]
    assert main(["verify", *engines, "--dataset", str(recordings), "--samples", "64"]) == 0
    assert "within the budget" in capsys.readouterr().out
    for name in INT8_FILES:
        for target, takes_it in (("tensorrt-10.3", name != "model.cpu.onnx"), ("onnxruntime", True)):
            assert main(["inspect", str(int8_export / name), "--target", target]) == (0 if takes_it else 1)
    assert main(["inspect", str(int8_export / "model.onnx"), "--target", "tensorrt-8.6"]) == 0
    assert "compute in INT8" in capsys.readouterr().out


def test_the_file_for_cpus_holds_more_int8(int8_export: Path) -> None:
    weak, cpu = (load_card(int8_export / name).quantisation for name in ("model.onnx", "model.cpu.onnx"))
    assert weak is not None
    assert cpu is not None
    assert len(cpu.int8_layers) > len(weak.int8_layers)  # its activations are twice as fine behind a ReLU
    assert not cpu.int8_weight_layers


def test_the_integrated_parts_give_the_chunk_of_the_engine(int8_export: Path) -> None:
    parts = parse_json(int8_export / "parts.json", Parts)
    encoder, velocity = (onnx.load(int8_export / part.file) for part in (parts.encoder, parts.velocity))
    assert sha256_of(int8_export / parts.velocity.file) == parts.velocity.sha256
    policy, _ = load_checkpoint(CHECKPOINT)
    rng = np.random.default_rng(0)
    seen = {
        "image_front": rng.integers(0, 256, (1, 96, 96, 3), np.uint8),
        "joints": rng.normal(size=(1, 6)).astype(np.float32),
    }
    noise = rng.normal(size=(16, 6)).astype(np.float32)
    condition = run_chunks(encoder, [seen])[0]
    flow = run_chunks(velocity, [{"x": noise, "t": np.zeros(1, np.float32), "condition": condition}])[0]
    chunk = _restored(policy, noise + flow)
    whole = run_chunks(onnx.load(int8_export / "model.fp32.onnx"), [{**seen, "noise": noise}])[0]
    np.testing.assert_allclose(chunk, whole, atol=1e-3)


def _restored(policy: FlowPolicy, chunk: np.ndarray) -> np.ndarray:
    import torch

    return policy.action_range.restore(torch.from_numpy(chunk)).numpy()


def test_a_file_that_acts_worse_is_not_kept(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*_strict(tmp_path), "--calibration", str(recordings), *QUICK]
    assert main(["export", str(CHECKPOINT), "-o", str(tmp_path / "out"), "--precision", "fp16", *arguments]) == 1
    error = capsys.readouterr().err
    assert "model.onnx: 99 % of the actions are within" in error
    assert "hint: export with --precision fp32" in error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


def test_a_file_that_acts_worse_is_kept_on_request_and_marked(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*_strict(tmp_path), "--calibration", str(recordings), *QUICK, "--allow-worse"]
    assert main(["export", str(CHECKPOINT), "-o", str(tmp_path / "out"), "--precision", "fp16", *arguments]) == 0
    assert "OVER, kept on request" in capsys.readouterr().out
    gate = load_card(tmp_path / "out/model.onnx").gate
    assert gate is not None
    assert (gate.passed, gate.overridden) == (False, True)


def _strict(folder: Path) -> list[str]:
    """An arm with an error budget that no fp16 file meets."""
    profile = load_arm_profile("so101_sim").model_dump()
    profile["action_error_budget"] |= {"fp16_p99_deg": 1e-4}
    path = folder / "strict.yaml"
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")
    return ["--arm", str(path)]


def test_without_recordings_the_gate_uses_random_observations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(CHECKPOINT), "-o", str(tmp_path), "--precision", "fp16", "--closed-loop", "none"]) == 0
    assert "random observations" in capsys.readouterr().out
    gate = load_card(tmp_path / "model.onnx").gate
    assert gate is not None
    assert gate.dataset_sha256 is None


def test_files_of_an_earlier_export_are_removed(tmp_path: Path) -> None:
    arguments = ["export", str(CHECKPOINT), "-o", str(tmp_path), "--closed-loop", "none"]
    assert main([*arguments, "--precision", "fp16"]) == 0
    assert (tmp_path / "model.fp32.json").exists()
    assert main(arguments) == 0
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model.json", "model.onnx"]


def test_a_base_flow_is_exported_with_unrolled_steps(tmp_path: Path) -> None:
    assert main(["export", str(CHECKPOINT), "-o", str(tmp_path), "--network-calls", "3", "--film", "separate"]) == 0
    assert load_card(tmp_path / "model.onnx").provenance.network_calls == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8"], "INT8 needs demonstrations"),
        (["--calibration", "/nowhere"], "/nowhere"),
        (["--closed-loop", "5"], "--closed-loop: expected seeds A:B"),
        (["--network-calls", "0"], "--network-calls"),
        (["--network-calls", "101"], "--network-calls"),
        (["--execute-steps", "17"], "--execute-steps"),
        (["--samples", "3"], "--samples"),
        (["--arm", "nobody"], "no arm is called"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(CHECKPOINT), "-o", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(CHECKPOINT, broken, ignore=shutil.ignore_patterns("eval_*"))
    weights = load_file(broken / "model.safetensors")
    weights["velocity_net.enter.weight"][3, 4] = np.nan
    save_file(weights, broken / "model.safetensors")
    description = json.loads((broken / "checkpoint.json").read_text())
    description["weights_sha256"] = sha256_of(broken / "model.safetensors")
    (broken / "checkpoint.json").write_text(json.dumps(description))
    assert main(["export", str(broken), "-o", str(tmp_path / "out")]) == 2
    assert "velocity.enter" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_nothing_behind(recordings: Path, tmp_path: Path) -> None:
    arguments = [
        "export",
        str(CHECKPOINT),
        "-o",
        str(tmp_path),
        "--precision",
        "int8",
        "--calibration",
        str(recordings),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "sefa_edge", *arguments], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    while process.poll() is None and not list(tmp_path.glob(".staged-*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_lost_success_is_compared_seed_by_seed() -> None:
    assert LostSuccess(200, 0, 0).surely_points == 0
    assert LostSuccess(200, 6, 4).points == 1
    assert LostSuccess(200, 6, 4).surely_points < 0  # chance alone can explain that
    assert LostSuccess(200, 30, 0).surely_points > 10
