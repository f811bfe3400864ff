"""The report of the GPU check: validation and counting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sefa_edge.profiles.latency.environment import describe_environment
from tests.gpu.gpu_report import (
    ChunkError,
    EngineFacts,
    GpuReport,
    Outcome,
    compare_chunks,
    driver_version,
    load_gpu_report,
    save_gpu_report,
    summarise_latency,
)

RESULTS = Path(__file__).resolve().parents[2] / "profiles" / "results"
LATENCY = summarise_latency(np.arange(1, 1001, dtype=np.int64) * 1000)
NEAR = ChunkError(samples=4, mean_deg=0.001, p99_deg=0.004, max_deg=0.009, budget_p99_deg=0.005)
FAR = NEAR.model_copy(update={"p99_deg": 0.006})


def outcome(**changes: object) -> Outcome:
    kept = {"contender": "tensorrt_graph", "engine": "model.onnx", "precision": "fp16", "status": "measured"}
    return Outcome.model_validate({**kept, "error": NEAR, "latency": LATENCY, **changes})


def report(*outcomes: Outcome, passed: bool) -> GpuReport:
    engine = EngineFacts(file="model.onnx", sha256="0" * 64, policy="lift", precision="fp16")
    return GpuReport(
        schema_version=1,
        gpu=None,
        environment=describe_environment(),
        libraries={},
        engines=[engine],
        seed=0,
        seconds=1.0,
        outcomes=list(outcomes),
        passed=passed,
    )


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_stored_results_can_be_read_and_come_from_a_gpu(path: Path) -> None:
    assert load_gpu_report(path).gpu is not None


def test_latency_is_nearest_ranks_in_milliseconds() -> None:
    assert (LATENCY.p50_ms, LATENCY.p99_ms, LATENCY.p999_ms, LATENCY.max_ms) == (0.5, 0.99, 0.999, 1.0)
    assert LATENCY.runs == 1000


def test_chunks_are_compared_over_all_joints_and_steps() -> None:
    reference = np.zeros((2, 16, 6), np.float32)
    chunks = reference.copy()
    chunks[1, 15, 5] = -0.5
    error = compare_chunks(chunks, reference, 0.05)
    assert (error.samples, error.max_deg, error.p99_deg) == (2, 0.5, 0.0)
    assert error.mean_deg == pytest.approx(0.5 / 192)
    chunks[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        compare_chunks(chunks, reference, 0.05)


def test_an_outcome_fails_outside_the_budget_or_if_it_did_not_run() -> None:
    assert not outcome().is_failure
    assert outcome(error=FAR).is_failure
    without = {"error": None, "latency": None, "reason": "not installed"}
    assert outcome(status="failed", **without).is_failure
    assert not outcome(status="absent", **without).is_failure


@pytest.mark.parametrize(
    "changes",
    [
        {"latency": None},
        {"status": "absent"},
        {"reason": "why?"},
        {"status": "absent", "error": None, "latency": None},
    ],
)
def test_an_outcome_cannot_contradict_itself(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"status|reason"):
        outcome(**changes)


def test_passed_cannot_contradict_the_outcomes(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="passed"):
        report(outcome(error=FAR), passed=True)
    with pytest.raises(ValidationError, match="passed"):
        report(outcome(), passed=False)
    kept = report(outcome(), passed=True)
    save_gpu_report(kept, tmp_path / "gpu.json")
    assert load_gpu_report(tmp_path / "gpu.json") == kept


def test_driver_version_comes_from_the_kernel(tmp_path: Path) -> None:
    assert driver_version(tmp_path) is None
    kept = tmp_path / "proc" / "driver" / "nvidia" / "version"
    kept.parent.mkdir(parents=True)
    kept.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n")
    assert driver_version(tmp_path) == "550.54.15"
    kept.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n")
    assert driver_version(tmp_path) == "540.4.0"
