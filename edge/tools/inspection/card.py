"""The contents of a policy card, and whether it belongs to the engine beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.profiles.card import GateResult, PlanSpec, PolicyCard, QuantisationSummary, card_path, load_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.strict import parse_json

Lines = Iterator[tuple[str, str]]
"""A label and its text."""


@dataclass(frozen=True, slots=True)
class CardState:
    """A policy card, and whether it belongs to its engine."""

    file: str
    belongs: bool
    problem: str
    """Why it does not belong; empty when it does."""
    card: PolicyCard | None
    """None when it is missing or cannot be read."""


def card_of(engine: Path) -> CardState:
    """The card beside an engine. Problems are returned, not raised."""
    path = card_path(engine)
    if not path.is_file():
        return CardState(path.name, False, "missing", None)
    try:
        return CardState(path.name, True, "", load_card(engine))
    except InputError as error:
        return CardState(path.name, False, str(error), _readable(path))


def state_of_card(path: Path) -> CardState:
    """A card, and whether its engine is beside it.

    Raises:
        InputError: it is not a policy card.
    """
    card = parse_json(path, PolicyCard)
    engine = path.parent / card.engine_file
    if not engine.is_file():
        problem = f"{card.engine_file} is missing"
    elif card_path(engine).name != path.name:
        problem = f"the card of {card.engine_file} would be {card_path(engine).name}"
    elif sha256_of(engine) != card.engine_sha256:
        problem = f"{card.engine_file} is not the file that the card describes"
    else:
        problem = ""
    return CardState(path.name, not problem, problem, card)


def card_lines(card: PolicyCard) -> Lines:
    """The main facts of a card."""
    typing = ", strongly typed" if card.strongly_typed else ""
    yield "policy", f"{card.name}: task {card.task}, arm {card.arm}"
    yield "engine", f"{card.engine_file}: {card.format}, {card.precision}{typing}, opset {card.opset}"
    yield "cameras", ", ".join(f"{camera.name} {camera.width} x {camera.height}" for camera in card.cameras)
    yield "joints", " ".join(card.joint_names)
    timing = card.timing
    yield (
        "timing",
        f"{timing.policy_rate_hz:g} Hz; observes {timing.n_obs_steps}, plans {timing.horizon}, "
        f"plays {timing.execute_steps} steps",
    )
    origin = card.provenance
    yield (
        "origin",
        f"{origin.stage}, {origin.network_calls} network call{'s' if origin.network_calls > 1 else ''}, "
        f"seed {origin.seed}, checkpoint {origin.checkpoint_sha256[:12]}, sefa-edge {origin.sefa_edge_version}",
    )
    if card.quantisation is not None:
        yield from _quantisation_lines(card.quantisation)
    yield "gate", "not measured" if card.gate is None else _gate(card.gate)
    if card.gate is not None and (loop := card.gate.closed_loop) is not None:
        low, high = loop.interval_95
        yield (
            "closed loop",
            f"{loop.successes} of {loop.seeds} seeds of {loop.task} (95 %: {low:.1%}..{high:.1%}), "
            f"fp32 {loop.reference_successes}",
        )
    if card.gate is not None and card.gate.unproven is not None:
        yield "unproven", f"the {card.gate.unproven_part} proves nothing: {card.gate.unproven}"
    if card.plan is not None:
        yield from _plan_lines(card.plan)


def _quantisation_lines(quantisation: QuantisationSummary) -> Lines:
    share = f"{quantisation.int8_weight_share:.1%} of the weights"
    yield (
        "int8",
        f"{len(quantisation.int8_layers)} layers compute in INT8, {len(quantisation.int8_weight_layers)} more store it "
        f"({share}); {len(quantisation.kept_layers)} kept higher",
    )
    calibration = quantisation.calibration
    yield (
        "calibration",
        f"{calibration.method}, {calibration.samples} samples of {calibration.episodes} episodes, "
        f"joint coverage {calibration.joint_coverage:.0%}",
    )


def _gate(gate: GateResult) -> str:
    verdict = "passed" if gate.passed else "failed, but exported" if gate.overridden else "failed"
    return (
        f"{verdict}: p99 {gate.p99_deg:.3g} deg of {gate.budget_p99_deg:g} allowed, mean {gate.mean_deg:.3g}, "
        f"max {gate.max_deg:.3g} ({gate.worst_joint}), {gate.samples} samples"
    )


def _plan_lines(plan: PlanSpec) -> Lines:
    where = ", ".join(filter(None, (plan.board, plan.l4t and f"L4T {plan.l4t}", plan.power_mode)))
    yield "built for", f"{plan.gpu_name} (SM {plan.compute_capability}){': ' + where if where else ''}"
    yield (
        "built with",
        f"version {plan.library_version}, CUDA {plan.cuda_version}, level {plan.optimisation_level}, "
        f"{plan.workspace_mib} MiB workspace, {plan.build_seconds:.1f} s",
    )
    yield "built from", f"ONNX {plan.onnx_sha256[:12]}"


def _readable(path: Path) -> PolicyCard | None:
    try:
        return parse_json(path, PolicyCard)
    except InputError:
        return None
