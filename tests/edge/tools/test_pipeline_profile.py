"""`sefa-edge profile` on the simulated arm: the real processes, a few chunks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sefa_edge.profiles.latency.report import load_report

SEFA_EDGE = str(Path(sys.executable).with_name("sefa-edge"))


@pytest.mark.once
@pytest.mark.sim
def test_profile_of_the_simulated_arm(reach_engine: Path, tmp_path: Path) -> None:
    command = [
        SEFA_EDGE,
        "profile",
        "--engine",
        str(reach_engine),
        "--out",
        str(tmp_path / "out"),
        "--samples",
        "12",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    report = load_report(tmp_path / "out" / "latency.json")
    assert all(stage.count >= 12 for stage in (*report.stages, *report.others))
    assert all(stage.min_ns <= stage.p50_ns <= stage.p99_ns <= stage.max_ns for stage in report.stages)
    assert report.subject.backend == "ONNX Runtime"
    assert report.subject.engine == str(reach_engine)
    page = (tmp_path / "out" / "latency.html").read_text(encoding="utf-8")
    for stage in (*report.stages, *report.others):
        assert stage.title in page
        assert stage.title in done.stdout


@pytest.mark.slow
def test_profile_of_no_engine(tmp_path: Path) -> None:
    command = [SEFA_EDGE, "profile", "--engine", str(tmp_path / "none.onnx"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("error: ")
    assert "Traceback" not in done.stderr
