"""The export report as one self-contained page: errors, sensitivity of the layers, the worst frames."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from sefa_edge.export.flavours import CPU
from sefa_edge.export.report import ExportReport, FlavourReport, LayerReport
from sefa_edge.profiles.files import write_atomic
from sefa_edge.profiles.page.curves import draw_curves
from sefa_edge.profiles.page.parts import Cell, card, facts, meter, render_page, section, table, tile
from sefa_edge.profiles.page.rows import Bar, Row, RowsLayout, draw_rows
from sefa_edge.profiles.page.shapes import Drawing
from sefa_edge.profiles.page.svg import svg_of

ROW_HEIGHT, LABEL_WIDTH, VALUE_WIDTH = 26, 230, 190
DECISIONS = {"int8": "INT8", "unsigned": "INT8, unsigned weights", "weights": "INT8 weights only", "kept": "kept"}
FILE_COLUMNS = (Cell("file", "name"), Cell("precision", "name"))
FILE_COLUMNS += tuple(map(Cell, ("opset", "size", "of fp32", "mean", "p99", "max", "budget")))
JOINT_COLUMNS = ("joint", "mean", "p99", "max", "ticks: mean", "p99", "max")
LAYER_COLUMNS = (
    *("layer", "kind", "MMAC", "weights", "p99, INT8", "p99, weights only", "decision", "p99, CPU", "decision"),
)


def save_page(report: ExportReport, pictures: Sequence[Path], path: Path) -> None:
    """Write the page atomically, with the images embedded."""
    write_atomic(path, export_page(report, pictures).encode())


def export_page(report: ExportReport, pictures: Sequence[Path]) -> str:
    """The HTML document."""
    first = report.flavours[0]
    return render_page(
        f"Export of “{report.task}-{report.stage}”: {first.precision}",
        f"{report.checkpoint}, {report.network_calls} network call(s) per chunk, {report.date_utc[:10]}",
        _tiles(report),
        [
            section(
                "The files",
                "Differences to the trained network in torch, in degrees (the gripper in percent), on the same "
                "observations and noise.",
                card(table(FILE_COLUMNS, map(_file_row, report.flavours))),
            ),
            section(
                "Joint by joint",
                f"{escape(first.file)} on {first.gate.samples} observations. Ticks are steps of the servo's encoder: "
                "a difference below one has no effect.",
                card(table(JOINT_COLUMNS, _joint_rows(first))),
            ),
            section(
                "Along the chunk",
                "99th percentile of the difference at each step, all joints together.",
                card(svg_of(steps_of(report.flavours))),
            ),
            *_layers(report),
            *_worst(pictures),
            section("How it was made", "", card(facts(_facts(report)))),
        ],
    )


def _tiles(report: ExportReport) -> Iterator[str]:
    first = report.flavours[0]
    budget = f"<p>budget {first.gate.budget_p99_deg:g}</p>{meter(first.gate.p99_deg / first.gate.budget_p99_deg)}"
    yield tile("Action error, p99", f"{first.gate.p99_deg:.3g}", "deg", budget)
    yield tile("Size", f"{first.file_bytes / 1e6:.2f}", "MB", f"<p>{first.share_of_fp32:.1%} of fp32</p>")
    if (closed_loop := report.closed_loop) is not None:
        low, high = closed_loop.interval_95
        text = f"of {closed_loop.seeds} seeds; fp32: {closed_loop.reference_successes}. 95 %: {low:.0%} to {high:.0%}"
        yield tile("Success in the simulated world", str(closed_loop.successes), "", f"<p>{text}</p>")
    if first.gate.unproven is not None:
        yield tile(first.gate.unproven_part.capitalize(), "proves nothing", "", f"<p>{escape(first.gate.unproven)}</p>")


def _file_row(flavour: FlavourReport) -> list[Cell]:
    gate = flavour.gate
    typing = "for a CPU" if flavour.file == CPU else "strongly typed" if flavour.strongly_typed else "weakly typed"
    return [
        Cell(flavour.file, "name"),
        Cell(f"{flavour.precision}, {typing}", "name"),
        Cell(str(flavour.opset)),
        Cell(f"{flavour.file_bytes / 1e6:.2f} MB"),
        Cell(f"{flavour.share_of_fp32:.1%}"),
        Cell(f"{gate.mean_deg:.4f}"),
        Cell(f"{gate.p99_deg:.4f}", "" if gate.passed else "over"),
        Cell(f"{gate.max_deg:.3f}"),
        Cell(f"{gate.budget_p99_deg:g}"),
    ]


def _joint_rows(flavour: FlavourReport) -> Iterator[list[str]]:
    for joint in flavour.error.joints:
        spreads = (joint.joint, joint.ticks)
        numbers = [f"{number:.3f}" for spread in spreads for number in (spread.mean, spread.p99, spread.max)]
        yield [f"{joint.name}, {joint.unit}", *numbers]


def steps_of(flavours: Sequence[FlavourReport]) -> Drawing:
    """One curve per file that differs from torch."""
    shown = [flavour for flavour in flavours if flavour.precision != "fp32"] or list(flavours)
    curves = {flavour.file: [step.p99 for step in flavour.error.steps] for flavour in shown}
    return draw_curves("Error along the chunk", curves, max(map(max, curves.values())) * 1.1 or 1.0)


def _layers(report: ExportReport) -> Iterator[str]:
    if not report.layers:
        return
    budget_deg = report.flavours[0].gate.budget_p99_deg
    yield section(
        "Effect of each layer on the action",
        "99th percentile of the action error when only this layer is quantised: input and weights (dark), weights "
        f"only (light). Dashed: the budget for all of them together, {budget_deg:g}.",
        card(svg_of(layers_of(report.layers, budget_deg))),
        card(table(LAYER_COLUMNS, map(_layer_row, report.layers))),
    )


def _layer_row(layer: LayerReport) -> list[str]:
    return [
        layer.name,
        layer.op,
        f"{layer.macs / 1e6:.3f}",
        str(layer.weights),
        f"{layer.int8_p99_deg:.3f}",
        f"{layer.weights_p99_deg:.3f}",
        DECISIONS[layer.decision],
        f"{layer.cpu_int8_p99_deg:.3f}",
        DECISIONS[layer.cpu_decision],
    ]


def layers_of(layers: Sequence[LayerReport], budget_deg: float) -> Drawing:
    """Two bars per layer, one above the other."""
    end = max([budget_deg, *(layer.int8_p99_deg for layer in layers)])
    rows = [
        Row(
            layer.name,
            (Bar("median", 0.0, layer.int8_p99_deg, 4, 12), Bar("tail", 0.0, layer.weights_p99_deg, 16, 5)),
            f"{layer.int8_p99_deg:.3f} · {DECISIONS[layer.decision]}",
        )
        for layer in layers
    ]
    layout = RowsLayout(ROW_HEIGHT, LABEL_WIDTH, VALUE_WIDTH, end)
    return draw_rows("Sensitivity of every layer", rows, layout, budget_deg)


def _worst(pictures: Sequence[Path]) -> Iterator[str]:
    if not pictures:
        return
    figures = "".join(
        f'<figure class="wide"><img alt="{escape(path.stem)}" '
        f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></figure>'
        for path in pictures
    )
    yield section(
        "Largest differences",
        "The held-out frames with the largest difference: the camera image, and both chunks, joint by joint.",
        figures,
    )


def _facts(report: ExportReport) -> list[tuple[str, str]]:
    facts = [
        ("dataset", report.dataset or "none: tested on random observations"),
        ("form of the graph", ", ".join(f"{name} {form}" for name, form in report.graph_form.items())),
        ("duration", f"{report.seconds:.0f} s"),
    ]
    if (seen := report.calibration) is not None:
        facts.insert(
            1,
            (
                "calibration",
                f"{seen.method}, {seen.samples} samples of {seen.episodes} episodes; they cover "
                f"{seen.joint_coverage:.0%} of the trained range of the joint that moves least",
            ),
        )
    return [*facts, *(("note", note) for note in report.notes)]
