"""`--choose fastest`: build, compare and time every flavour on the device, and keep the fastest within the budget.

The result differs by board and release: INT8 is not always faster than FP16 at batch 1, nor always accurate enough.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sefa_edge.export.plan.build_choice import REFERENCE, PlanRecipe, Source, fastest_candidates
from sefa_edge.export.plan.build_messages import LibraryEvent
from sefa_edge.export.program import error_message, run_sefa_edge
from sefa_edge.profiles.card import PolicyCard, save_card
from sefa_edge.profiles.errors import InputError, MissingError, SefaError
from sefa_edge.profiles.files import staged
from sefa_edge.profiles.units import ns_to_ms
from sefa_edge.profiles.verification import VerificationReport, parse_verification


class BuildsPlans(Protocol):
    """The part of `Builder` that is used here."""

    @property
    def library(self) -> LibraryEvent: ...

    def build(self, recipe: PlanRecipe, plan: Path) -> PolicyCard: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A flavour, its plan if it could be built, and its measurement."""

    recipe: PlanRecipe
    plan: Path
    card: PolicyCard | None
    measured: VerificationReport | None
    problem: str = ""

    @property
    def is_within_budget(self) -> bool:
        return self.measured is not None and self.measured.passed


@dataclass(frozen=True, slots=True)
class Choice:
    """The card of the plan that was kept (None: none is within the budget), and the table of all."""

    card: PolicyCard | None
    table: str


def choose_fastest(builder: BuildsPlans, sources: list[Source], dataset: Path, output: Path) -> Choice:
    """Build every flavour, compare each with the fp32 engine on `dataset`, keep the fastest within the budget.

    Raises:
        InputError: no fp32 reference in the folder, or nothing to choose from.
    """
    reference = next((source.onnx for source in sources if source.onnx.name == REFERENCE), None)
    recipes = fastest_candidates(sources, builder.library)
    if reference is None or not recipes:
        raise InputError(
            f"--choose fastest compares with {REFERENCE}, and needs something to choose from",
            "export with --precision int8, which writes every flavour",
        )
    with tempfile.TemporaryDirectory(prefix=".candidates-", dir=output.parent) as folder:
        candidates = []
        for index, recipe in enumerate(recipes):
            plan = Path(folder) / f"{index}-{recipe.precision}.plan"
            candidates.append(measure(builder, recipe, plan, lambda path: verify(reference, path, dataset)))
        best = fastest(candidates)
        return Choice(keep(best, output) if best else None, table(candidates, best))


def measure(
    builder: BuildsPlans, recipe: PlanRecipe, plan: Path, compare: Callable[[Path], VerificationReport]
) -> Candidate:
    """Build one flavour and compare it; one that does not build or run is a candidate with a problem."""
    card = None
    try:
        card = builder.build(recipe, plan)
        return Candidate(recipe, plan, card, compare(plan))
    except MissingError:
        raise  # it is missing for all others too
    except SefaError as error:
        return Candidate(recipe, plan, card, None, str(error))


def fastest(candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the lowest median latency among those within their budget."""
    allowed = [candidate for candidate in candidates if candidate.is_within_budget]
    return min(
        allowed, key=lambda candidate: candidate.measured.candidate.p50_ns if candidate.measured else 0, default=None
    )


def keep(best: Candidate, output: Path) -> PolicyCard:
    """Move the chosen plan and its log to their final paths, and write its card."""
    assert best.card is not None
    best.plan.with_name(best.plan.name + ".log").replace(output.with_name(output.name + ".log"))
    with staged(output) as temporary:
        best.plan.replace(temporary)
    card = best.card.model_copy(update={"engine_file": output.name})
    save_card(card, output)
    return card


def table(candidates: Sequence[Candidate], best: Candidate | None) -> str:
    """All candidates, one line each."""
    lines = [f"  {'flavour':<36} {'p99 error':>10} {'budget':>8} {'p50':>9} {'p99':>9}"]
    for candidate in candidates:
        mark = "*" if candidate is best else " "
        start = f"{mark} {candidate.recipe.source.onnx.name:<18} {candidate.recipe.label:<17}"
        done = candidate.measured
        if done is None:
            lines.append(f"{start} {candidate.problem}")
            continue
        error = f"{done.error.overall.p99:>10.4f} {done.budget_p99_deg:>8.3f}"
        p50_ms, p99_ms = ns_to_ms(done.candidate.p50_ns), ns_to_ms(done.candidate.p99_ns)
        unproven = "" if done.unproven is None else f"  PROVES NOTHING: {done.unproven}"
        lines.append(f"{start} {error} {p50_ms:>6.3f} ms {p99_ms:>6.3f} ms{unproven}")
    return "\n".join(lines)


def verify(reference: Path, candidate: Path, dataset: Path) -> VerificationReport:
    """Run `sefa-edge verify` as a program: export may not import the runtime.

    Raises:
        SefaError: it could not compare; has its reason and exit code.
    """
    arguments = ["verify", str(reference), str(candidate), "--dataset", str(dataset), "--json", "-"]
    done = run_sefa_edge(arguments)
    if done.stdout and done.returncode in (0, 1):  # 1: outside the budget
        return parse_verification(done.stdout)
    reason = error_message(done.stderr) or f"exit code {done.returncode}"
    kind = MissingError if done.returncode == MissingError.exit_code else SefaError
    raise kind(f"the plan could not be compared: {reason}", "sefa-edge " + " ".join(arguments))
