"""The GPU check without a GPU: it reports that, and runs and reports the back ends that need none."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sefa_edge.profiles.card import card_path
from tests.gpu.gpu_report import load_gpu_report

ROOT = Path(__file__).resolve().parents[2]
GPU_CONTENDERS = {
    *("onnxruntime_cuda", "onnxruntime_cuda_graph", "torch_cuda", "torch_cuda_compiled", "torch_cuda_layer"),
    *("tensorrt_graph", "tensorrt_enqueue", "tensorrt_rtx"),
}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")


def run_check(report: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`tests/gpu/run.sh`, with any GPU of this machine hidden."""
    variables = {"PYTHON": sys.executable, "OUT": str(report), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [str(ROOT / "tests" / "gpu" / "run.sh"), *options],
        env=os.environ | variables | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_gpu_it_exits_with_4_and_the_reason(tmp_path: Path) -> None:
    done = run_check(tmp_path / "gpu.json")
    assert done.returncode == 4, done.stderr
    assert done.stderr.splitlines()[0].startswith("error: no NVIDIA GPU: ")
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.learn
@needs_torch
def test_back_ends_without_a_gpu_are_measured_and_the_others_listed_with_the_reason(tmp_path: Path) -> None:
    done = run_check(tmp_path / "gpu.json", "--allow-no-gpu", "--runs", "1000")
    assert done.returncode == 0, done.stderr + done.stdout
    report = load_gpu_report(tmp_path / "gpu.json")
    outcomes = {outcome.contender: outcome for outcome in report.outcomes}
    assert report.gpu is None
    assert report.passed
    for measured in (outcomes.pop("onnxruntime_cpu"), outcomes.pop("torch_cpu")):
        assert measured.error is not None
        assert measured.error.is_within_budget
        assert measured.latency is not None
        assert measured.latency.runs == 1000
    assert set(outcomes) == GPU_CONTENDERS
    assert all(outcome.status == "absent" and "no NVIDIA GPU" in outcome.reason for outcome in outcomes.values())


@pytest.mark.learn
@needs_torch
def test_a_back_end_that_acts_differently_fails_the_check(
    tmp_path: Path, make_reach_engine: Callable[[Path], Path]
) -> None:
    engine = make_reach_engine(tmp_path)
    shipped = json.loads((ROOT / "edge" / "shipped" / "lift" / "model.json").read_text())
    card = json.loads(card_path(engine).read_text())
    card_path(engine).write_text(json.dumps(card | {"provenance": shipped["provenance"]}))
    done = run_check(tmp_path / "gpu.json", "--allow-no-gpu", "--runs", "1000", ENGINES=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "torch_cpu" in done.stdout
    assert "OUTSIDE the budget of 0.005 deg" in done.stdout
    report = load_gpu_report(tmp_path / "gpu.json")
    assert not report.passed
    assert [outcome.contender for outcome in report.outcomes if outcome.is_failure] == ["torch_cpu"]


def test_an_engine_of_another_checkpoint_is_not_compared_with_it(
    tmp_path: Path, make_reach_engine: Callable[[Path], Path]
) -> None:
    make_reach_engine(tmp_path)
    done = run_check(tmp_path / "gpu.json", "--allow-no-gpu", "--runs", "1000", ENGINES=str(tmp_path))
    assert done.returncode == 0, done.stderr
    outcomes = {outcome.contender: outcome for outcome in load_gpu_report(tmp_path / "gpu.json").outcomes}
    assert outcomes["onnxruntime_cpu"].status == "measured"
    assert outcomes["torch_cpu"].status == "absent"


def test_another_engine_can_be_the_reference(tmp_path: Path, make_reach_engine: Callable[[Path], Path]) -> None:
    make_reach_engine(tmp_path)
    shipped = ROOT / "edge" / "shipped" / "lift" / "model.onnx"
    options = ("--allow-no-gpu", "--runs", "1000", "--only", "onnxruntime_cpu", "--reference", str(shipped))
    done = run_check(tmp_path / "gpu.json", *options, ENGINES=str(tmp_path))
    assert done.returncode == 1, done.stderr
    report = load_gpu_report(tmp_path / "gpu.json")
    assert report.reference == "model.onnx"
    assert [outcome.contender for outcome in report.outcomes if outcome.is_failure] == ["onnxruntime_cpu"]
    assert len(report.outcomes) == 1


def test_wrong_arguments_are_reported_in_one_line(tmp_path: Path) -> None:
    few = run_check(tmp_path / "gpu.json", "--allow-no-gpu", "--runs", "10")
    assert (few.returncode, few.stderr.splitlines()[0]) == (2, "error: 10 runs are too few for a p99.9")
    empty = run_check(tmp_path / "gpu.json", "--allow-no-gpu", ENGINES=str(tmp_path))
    assert empty.returncode == 2
    assert "holds no engine with its card" in empty.stderr
    bare = run_check(tmp_path / "gpu.json", "--allow-no-gpu", "--dataset", str(tmp_path))
    assert bare.returncode == 2
    assert bare.stderr.startswith("error: ")
