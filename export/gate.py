"""The accuracy gate: whether an exported file still acts like the trained network, in joint units and in success."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sefa_edge.export.flavours import Flavour
from sefa_edge.export.session import Inputs, run_chunks
from sefa_edge.models.policy import EnginePolicy, FlowPolicy
from sefa_edge.profiles.action_error import ActionError, action_error
from sefa_edge.profiles.action_error import why_unproven as why_constant_passes
from sefa_edge.profiles.card import ClosedLoop, GateResult
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.schema import ArmProfile

ONE_SIDED_95 = 1.645
"""Standard deviations."""
UNPROVEN_HINTS = {
    "closed loop": (
        "--closed-loop A:B evaluates more seeds; --closed-loop none uses only the action error; --allow-unproven "
        "keeps the files, and their card says so"
    ),
    "action error": (
        "test with more and other demonstrations (--calibration, --samples), or lower action_error_budget in the arm "
        "profile; --allow-unproven keeps the files, and their card says so"
    ),
}
HINTS = {
    "fp32": "this is a bug in the export: report it with the checkpoint",
    "fp16": "export with --precision fp32, or raise action_error_budget in the arm profile",
    "int8": (
        "calibrate on more demonstrations (--samples, another --calibration), try --method percentile, "
        "or raise action_error_budget in the arm profile; --allow-worse keeps the files anyway"
    ),
}


class GateError(SefaError):
    """The engine does not act like the network."""

    exit_code = ExitCode.FAILED


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The samples for testing every file of an export, and the chunks of the float32 network on them."""

    arm: ArmProfile
    samples: Sequence[Inputs]
    reference: np.ndarray
    """Chunks float32 [N, T, n] of the network in torch."""
    dataset_sha256: str | None


def torch_chunks(policy: FlowPolicy, network_calls: int, samples: Sequence[Inputs]) -> np.ndarray:
    """Chunks float32 [N, T, n] of the trained network."""
    network = EnginePolicy(policy, network_calls).eval()
    with torch.no_grad():
        return np.stack([network(*(torch.from_numpy(v) for v in sample.values())).numpy() for sample in samples])


def measure(flavour: Flavour, trial: Trial) -> tuple[GateResult, ActionError]:
    """Run one file on the trial's samples.

    Raises:
        NotFiniteError: it returns NaN or infinity.
    """
    error = action_error(trial.reference, run_chunks(flavour.model, trial.samples, flavour.kernels), trial.arm.joints)
    budget_deg = trial.arm.action_error_budget.p99_deg(flavour.precision)
    result = GateResult(
        dataset_sha256=trial.dataset_sha256,
        samples=error.samples,
        mean_deg=error.overall.mean,
        p99_deg=error.overall.p99,
        max_deg=error.overall.max,
        worst_joint=error.worst_joint,
        budget_p99_deg=budget_deg,
        passed=error.overall.p99 <= budget_deg,
    )
    reason = why_constant_passes(trial.reference, budget_deg)
    return (result if reason is None else unproven(result, reason)), error


def with_closed_loop(gate: GateResult, closed_loop: ClosedLoop, lost: LostSuccess, arm: ArmProfile) -> GateResult:
    """The gate's result including success in the simulated world."""
    allowed_points = arm.action_error_budget.success_points
    result = gate.model_copy(
        update={"closed_loop": closed_loop, "passed": gate.passed and lost.surely_points <= allowed_points}
    )
    reason = why_unproven(closed_loop, allowed_points)
    return result if reason is None else unproven(result, reason)


def unproven(gate: GateResult, reason: str) -> GateResult:
    """The result of a gate that could not have failed: not passed. The first reason is kept."""
    return gate.model_copy(update={"passed": False, "unproven": gate.unproven or reason})


def why_unproven(closed_loop: ClosedLoop, allowed_points: float) -> str | None:
    """Why this comparison could not have failed; None if it could."""
    seeds, successes = closed_loop.seeds, closed_loop.reference_successes
    counted = f"the fp32 engine itself succeeds in {successes} of {seeds} seeds of task {closed_loop.task}"
    if successes == 0:
        return f"{counted}, so there is no success to lose"
    worst = LostSuccess(seeds, only_reference=successes, only_candidate=0)
    if worst.surely_points <= allowed_points:
        return f"{counted}: so few that a file which never succeeds would pass"
    return None


@dataclass(frozen=True, slots=True)
class LostSuccess:
    """Seeds on which only one of two engines succeeded."""

    seeds: int
    only_reference: int
    only_candidate: int

    @property
    def points(self) -> float:
        """Percentage points of success that the candidate lost; negative if it gained."""
        return 100 * (self.only_reference - self.only_candidate) / self.seeds

    @property
    def surely_points(self) -> float:
        """Lower end of the one-sided 95 % interval of the lost points.

        Both engines used the same seeds, so only seeds with different outcomes count (McNemar).
        """
        deviation = math.sqrt(self.only_reference + self.only_candidate)
        return self.points - 100 * ONE_SIDED_95 * deviation / self.seeds


def with_allowance(gate: GateResult, *, allow_worse: bool, allow_unproven: bool) -> GateResult:
    """The result, overridden if it failed only in ways that are allowed."""
    is_unproven = gate.unproven is not None
    is_worse = gate.p99_deg > gate.budget_p99_deg or not (gate.passed or is_unproven)
    allowed = (allow_worse or not is_worse) and (allow_unproven or not is_unproven)
    return gate.model_copy(update={"overridden": not gate.passed and allowed})


def require_passed(flavour: Flavour, gate: GateResult) -> None:
    """Raises GateError if the gate failed or proves nothing; the hint says what to try."""
    if gate.passed:
        return
    if gate.p99_deg > gate.budget_p99_deg:
        raise GateError(
            f"{flavour.file}: 99 % of the actions are within {gate.p99_deg:.3g} of the network's, the budget is "
            f"{gate.budget_p99_deg:g} (worst joint: {gate.worst_joint})",
            HINTS[flavour.precision],
        )
    if gate.unproven is not None:
        part = gate.unproven_part
        raise GateError(f"{flavour.file}: the {part} proves nothing: {gate.unproven}", UNPROVEN_HINTS[part])
    closed_loop = gate.closed_loop
    assert closed_loop is not None
    raise GateError(
        f"{flavour.file}: {closed_loop.successes} successes in the simulated world, the fp32 engine has "
        f"{closed_loop.reference_successes} on the same seeds",
        HINTS[flavour.precision],
    )
