"""A gate that could not have failed proves nothing: exports report that and exit with 1, unless it is allowed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import load_file, save_file

from sefa_edge.cli import main
from sefa_edge.edge.tools.inspection.command import inspect_path
from sefa_edge.export.closed_loop import evaluate_both
from sefa_edge.export.flavours import Flavour
from sefa_edge.export.gate import (
    GateError,
    LostSuccess,
    Trial,
    measure,
    require_passed,
    unproven,
    why_unproven,
    with_allowance,
    with_closed_loop,
)
from sefa_edge.export.int8.sensitivity import NOT_FINITE_DEG, Judge
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import ClosedLoop, GateResult, card_path, load_card
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.files import sha256_of

CHECKPOINT = Path(__file__).resolve().parents[2] / "models/results/lift"
ALLOWED_POINTS = 2.0
FEWEST_SEEDS_THAT_PROVE = 3
"""With fewer seeds, losing all of them may be chance."""


def gate(p99_deg: float = 0.1) -> GateResult:
    return GateResult(
        dataset_sha256=None, samples=64, mean_deg=0.01, p99_deg=p99_deg, max_deg=max(1.0, p99_deg),
        worst_joint="gripper", budget_p99_deg=0.5, passed=p99_deg <= 0.5,
    )  # fmt: skip


def played(seeds: int, reference: int, candidate: int) -> ClosedLoop:
    return ClosedLoop(
        task="lift", first_seed=0, last_seed=seeds - 1, successes=candidate, reference_successes=reference,
        interval_95=(0.0, 1.0),
    )  # fmt: skip


@pytest.mark.parametrize("seeds", [1, 3, 40, 200])
def test_nothing_is_proven_without_a_success_to_lose(seeds: int) -> None:
    reason = why_unproven(played(seeds, 0, 0), ALLOWED_POINTS)
    assert reason is not None
    assert f"0 of {seeds} seeds" in reason
    assert why_unproven(played(seeds, 0, seeds), ALLOWED_POINTS) is not None


@pytest.mark.parametrize("seeds", [1, 2, 3, 20, 40, 200])
def test_a_gate_proves_something_only_if_it_could_have_failed(seeds: int) -> None:
    """For every number of successes: unproven exactly if a file that never succeeds would pass."""
    arm = load_arm_profile("so101_sim")
    for successes in range(seeds + 1):
        never = with_closed_loop(gate(), played(seeds, successes, 0), LostSuccess(seeds, successes, 0), arm)
        would_pass = LostSuccess(seeds, successes, 0).surely_points <= arm.action_error_budget.success_points
        assert (never.unproven is not None) == would_pass
        assert not never.passed
    same = with_closed_loop(gate(), played(seeds, seeds, seeds), LostSuccess(seeds, 0, 0), arm)
    could_fail = seeds >= FEWEST_SEEDS_THAT_PROVE
    assert (same.passed, same.unproven is None) == (could_fail, could_fail)


def trial(reference: np.ndarray) -> Trial:
    """Samples whose reference chunks are `reference` [N, T, n]; `copying_flavour` returns its input."""
    return Trial(load_arm_profile("so101_sim"), [{"x": chunk} for chunk in reference], reference, None)


def copying_flavour() -> Flavour:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 6])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Flavour("model.onnx", model, "fp32", strongly_typed=False, targets=())


def test_an_action_error_that_a_constant_would_pass_proves_nothing() -> None:
    flavour = copying_flavour()
    moving, _ = measure(flavour, trial(np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32)))
    assert (moving.passed, moving.unproven) == (True, None)
    constant = np.ones((8, 4, 6), np.float32)
    for reference in (constant, constant[:1]):
        still, _ = measure(flavour, trial(reference))
        assert not still.passed
        assert f"gives the same chunk for all {len(reference)} sample(s)" in str(still.unproven)
        with pytest.raises(GateError, match=r"model\.onnx: the action error proves nothing: an engine that") as refusal:
            require_passed(flavour, still)
        assert "--allow-unproven" in refusal.value.hint
        arm = load_arm_profile("so101_sim")
        after = with_closed_loop(still, played(40, 40, 40), LostSuccess(40, 0, 0), arm)
        assert (after.passed, after.unproven) == (False, still.unproven)


def test_each_failure_has_its_own_allowance() -> None:
    too_large, proves_nothing = gate(p99_deg=0.6), unproven(gate(), "closed loop", "not evaluated: no such task")
    both, good = unproven(gate(p99_deg=0.6), "closed loop", "not evaluated: no such task"), gate()
    lost = gate().model_copy(update={"passed": False})
    for judged, worse, unproven_, overridden in (
        (too_large, False, True, False), (too_large, True, False, True), (lost, False, True, False),
        (lost, True, False, True), (proves_nothing, True, False, False), (proves_nothing, False, True, True),
        (both, True, False, False), (both, False, True, False), (both, True, True, True), (good, True, True, False),
    ):  # fmt: skip
        found = with_allowance(judged, allow_worse=worse, allow_unproven=unproven_)
        assert found.overridden is overridden
        assert found.passed is judged.passed


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_one_value_that_is_not_finite_exceeds_every_budget(wrong: float) -> None:
    """It is one of 200, which a 99th percentile would ignore."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [10, 20])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [10, 20])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.zeros((10, 20), np.float32)
    reference = x[None].copy()
    assert Judge([{"x": x}], reference).p99_deg(model) == 0
    x[3, 4] = wrong
    assert Judge([{"x": x}], reference).p99_deg(model) == NOT_FINITE_DEG


def test_engines_that_cannot_be_evaluated_give_no_result(tmp_path: Path) -> None:
    with pytest.raises(SefaError):
        evaluate_both(tmp_path / "none.onnx", tmp_path / "neither.onnx", "0:2")


def changed_checkpoint(folder: Path, *, task: str = "lift", moves: bool = True) -> Path:
    """The shipped checkpoint under another task's name, or with a last layer of zeros."""
    shutil.copytree(CHECKPOINT, folder, ignore=shutil.ignore_patterns("eval_*", "export_*"))
    weights = load_file(folder / "model.safetensors")
    if not moves:
        weights |= {name: np.zeros_like(value) for name, value in weights.items() if ".leave." in name}
        save_file(weights, folder / "model.safetensors")
    description = json.loads((folder / "checkpoint.json").read_text())
    description |= {"task": task, "weights_sha256": sha256_of(folder / "model.safetensors")}
    (folder / "checkpoint.json").write_text(json.dumps(description))
    return folder


@pytest.mark.sim
def test_a_policy_that_never_succeeds_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = changed_checkpoint(tmp_path / "still", moves=False)
    arguments = ["export", str(still), "-o", str(tmp_path / "out"), "--precision", "fp16", "--closed-loop", "0:2"]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "the closed loop proves nothing: the fp32 engine itself succeeds in 0 of 2 seeds" in printed.err
    assert "--allow-unproven" in printed.err
    assert "PROVES NOTHING" in printed.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]
    assert "proves nothing" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


@pytest.mark.sim
def test_a_task_that_the_simulator_lacks_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = changed_checkpoint(tmp_path / "other", task="lift5")
    out = tmp_path / "out"
    arguments = ["export", str(other), "-o", str(out), "--precision", "fp16"]
    assert main([*arguments, "--allow-worse"]) == 1
    error = capsys.readouterr().err
    assert "model.onnx: the closed loop proves nothing: not evaluated" in error
    assert "lift5" in error
    assert not (out / "model.onnx").exists()

    assert main([*arguments, "--allow-unproven"]) == 0
    assert "PROVES NOTHING, kept on request" in capsys.readouterr().out
    card = load_card(out / "model.onnx")
    assert card.schema_version == 3
    assert card.gate is not None
    assert (card.gate.passed, card.gate.overridden) == (False, True)
    assert "lift5" in str(card.gate.unproven)
    assert "proves nothing" in inspect_path(out / "model.onnx").text
    assert load_card(out / "model.fp32.onnx").schema_version == 2

    assert main([*arguments, "--closed-loop", "none"]) == 0
    assert load_card(out / "model.onnx").schema_version == 2
    assert "unproven" not in json.loads(card_path(out / "model.onnx").read_text())["gate"]
