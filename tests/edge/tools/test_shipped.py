"""The shipped policy lifts the cube, but not with a blanked camera: the README's figures with few seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sefa_edge.cli import main
from sefa_edge.profiles.card import load_card, sha256_of

pytestmark = [pytest.mark.sim, pytest.mark.once]
ROOT = Path(__file__).parents[3]
ENGINE = ROOT / "edge/shipped/lift/model.onnx"
CHECKPOINT = ROOT / "models/results/lift"
SEEDS = 8


def _successes(tmp_path: Path, *options: str) -> int:
    report = tmp_path / "report.json"
    words = ["eval", "--engine", str(ENGINE), "--seeds", f"0:{SEEDS}", "--json", str(report), *options]
    assert main(words) == 0
    return json.loads(report.read_text())["successes"]


def test_it_lifts_the_cube_and_needs_the_camera(tmp_path: Path) -> None:
    assert _successes(tmp_path) >= SEEDS // 2
    assert _successes(tmp_path, "--blank-camera") <= SEEDS // 4


def test_it_is_a_student_of_one_call_and_comes_from_the_shipped_checkpoint() -> None:
    card = load_card(ENGINE)
    assert (card.provenance.stage, card.provenance.network_calls, card.task) == ("sefa", 1, "lift")
    assert card.provenance.checkpoint_sha256 == sha256_of(CHECKPOINT / "model.safetensors")


def test_the_published_numbers_are_of_this_engine() -> None:
    report = json.loads((CHECKPOINT / "eval_sefa.json").read_text())
    assert report["engine_sha256"] == load_card(ENGINE).engine_sha256
    assert report["seeds"] == [0, 200]
    assert report["success_rate"] >= 0.75
