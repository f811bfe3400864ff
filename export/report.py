"""The results of an export: written next to the engines as `report.json` and `report.html`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sefa_edge.export.flavours import Flavour, Int8Result
from sefa_edge.export.int8.quantise import COMPUTES_IN_INT8, Mode
from sefa_edge.profiles.action_error import ActionError
from sefa_edge.profiles.card import CalibrationSummary, ClosedLoop, GateResult
from sefa_edge.profiles.strict import StrictModel

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class FlavourReport(StrictModel):
    """One file, its size and its errors against the network in torch."""

    file: str
    precision: Literal["fp32", "fp16", "int8"]
    strongly_typed: bool
    opset: int
    file_bytes: int
    share_of_fp32: NotNegative
    gate: GateResult
    error: ActionError


class LayerReport(StrictModel):
    """One layer that may be INT8: its work, its own effect on the action, and the decision."""

    name: str
    op: str
    macs: int
    weights: int
    int8_p99_deg: NotNegative
    weights_p99_deg: NotNegative
    decision: Mode
    cpu_int8_p99_deg: NotNegative
    """In the CPU form, whose activations are unsigned and so have twice the resolution after a ReLU."""
    cpu_decision: Mode
    """`unsigned`: in INT8, with unsigned weights of 8 bits instead of signed ones of 7."""


class ExportReport(StrictModel):
    """Everything that one export measured."""

    schema_version: Literal[1] = 1
    checkpoint: str
    task: str
    stage: str
    network_calls: int
    graph_form: dict[str, str]
    dataset: str | None
    date_utc: str
    seconds: NotNegative
    flavours: list[FlavourReport]
    layers: list[LayerReport]
    calibration: CalibrationSummary | None
    closed_loop: ClosedLoop | None
    notes: list[str]


def flavour_report(flavour: Flavour, gate: GateResult, error: ActionError, fp32_bytes: int) -> FlavourReport:
    size = flavour.model.ByteSize()
    return FlavourReport(
        file=flavour.file,
        precision=flavour.precision,
        strongly_typed=flavour.strongly_typed,
        opset=flavour.opset,
        file_bytes=size,
        share_of_fp32=size / fp32_bytes,
        gate=gate,
        error=error,
    )


def layer_reports(result: Int8Result) -> list[LayerReport]:
    return [
        LayerReport(
            name=found.layer.name,
            op=found.layer.op,
            macs=found.layer.macs,
            weights=found.layer.weights,
            int8_p99_deg=found.p99_deg["int8"],
            weights_p99_deg=found.p99_deg["weights"],
            decision=result.tensorrt.recipe[found.layer.name],
            cpu_int8_p99_deg=on_cpu.p99_deg["int8"],
            cpu_decision=result.cpu.recipe[found.layer.name],
        )
        for found, on_cpu in zip(result.tensorrt.sensitivities, result.cpu.sensitivities, strict=True)
    ]


def report_text(report: ExportReport) -> str:
    """The result for a person at a terminal."""
    lines = [f"{'file':18} {'MB':>6} {'of fp32':>7} {'mean':>8} {'p99':>8} {'max':>8} {'budget':>7}"]
    for flavour in report.flavours:
        gate = flavour.gate
        failed = "PROVES NOTHING" if gate.unproven and gate.p99_deg <= gate.budget_p99_deg else "OVER"
        verdict = "" if gate.passed else f"  {failed}, kept on request" if gate.overridden else f"  {failed}"
        lines.append(
            f"{flavour.file:18} {flavour.file_bytes / 1e6:6.2f} {flavour.share_of_fp32:7.3f} {gate.mean_deg:8.4f} "
            f"{gate.p99_deg:8.4f} {gate.max_deg:8.3f} {gate.budget_p99_deg:7.3f}{verdict}"
        )
    judged = report.flavours[0].gate
    where = "held-out observations" if judged.dataset_sha256 else "random observations (no --calibration given)"
    lines.append(f"differences to torch in joint units on {judged.samples} {where}; worst joint {judged.worst_joint}")
    if report.layers:
        lines += ["", *layer_table(report)]
    if report.closed_loop is not None:
        closed_loop = report.closed_loop
        lines.append(
            f"\nclosed loop, task {closed_loop.task}: {closed_loop.successes} of {closed_loop.seeds} seeds, "
            f"fp32 {closed_loop.reference_successes} of the same"
        )
    if judged.unproven is not None:
        lines.append(f"the {judged.unproven_part} proves nothing: {judged.unproven}")
    return "\n".join([*lines, *report.notes])


def layer_table(report: ExportReport) -> list[str]:
    """The sensitivity of every layer, one line each."""
    lines = [
        f"{'p99 when only it is quantised':30} {'MMAC':>7} {'weights':>8} {'INT8':>7} {'weights':>8}  {'decision':8} "
        f"{'CPU':>7}  decision"
    ]
    lines += [
        f"{layer.name:30} {layer.macs / 1e6:7.3f} {layer.weights:8d} {layer.int8_p99_deg:7.3f} "
        f"{layer.weights_p99_deg:8.3f}  {layer.decision:8} {layer.cpu_int8_p99_deg:7.3f}  {layer.cpu_decision}"
        for layer in report.layers
    ]
    total = max(1, sum(layer.macs for layer in report.layers))
    shares = [
        sum(layer.macs for layer in report.layers if decided(layer) in COMPUTES_IN_INT8) / total
        for decided in (lambda layer: layer.decision, lambda layer: layer.cpu_decision)
    ]
    lines.append(f"INT8 computes {shares[0]:.0%} of their multiplications for TensorRT, {shares[1]:.0%} for CPUs")
    return lines
