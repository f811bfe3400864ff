"""`sefa-edge eval` plays chunks as `run` does: hand-over, noise and the time of an inference are options of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sefa_edge.cli import main

pytestmark = [pytest.mark.sim, pytest.mark.once]


def evaluate(engine: Path, tmp_path: Path, *words: str) -> dict[str, Any]:
    report = tmp_path / "report.json"
    assert main(["eval", "--engine", str(engine), "--seeds", "0:1", "--json", str(report), *words]) == 0
    return json.loads(report.read_text())


def test_the_settings_are_applied_and_reported(reach_engine: Path, tmp_path: Path) -> None:
    words = ("--handover", "blend", "--fade-ms", "90", "--ensemble-decay", "-0.5", "--noise", "shared")
    report = evaluate(reach_engine, tmp_path, *words, "--delay-ms", "150")
    assert report["settings"]["hand_over"] == {"mode": "blend", "fade_ms": 90.0, "decay": -0.5}
    assert report["settings"]["noise"] == "shared"
    (episode,) = report["episodes"]
    assert episode["late_steps"] == episode["chunks"] == 10
    assert episode["fault"] == ""


def test_a_slow_inference_costs_steps_and_no_fault(reach_engine: Path, tmp_path: Path) -> None:
    (episode,) = evaluate(reach_engine, tmp_path, "--delay-ms", "1000")["episodes"]
    assert episode["chunks"] == 8
    assert episode["late_steps"] >= 70
    assert episode["fault"] == ""
