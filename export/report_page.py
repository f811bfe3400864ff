"""The export report as one self-contained page: errors, sensitivity of the layers, the worst frames."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from sefa_edge.export.flavours import CPU
from sefa_edge.export.report import ExportReport, FlavourReport, LayerReport
from sefa_edge.profiles.files import write_atomic
from sefa_edge.profiles.page_style import page_style

WIDTH, ROW_HEIGHT, LABEL_WIDTH, VALUE_WIDTH = 940, 26, 230, 190
PLOT_HEIGHT, PLOT_LEFT, PLOT_BOTTOM = 200, 60, 30
DECISIONS = {"int8": "INT8", "unsigned": "INT8, unsigned weights", "weights": "INT8 weights only", "kept": "kept"}
COLOURS = ("var(--median)", "var(--late)", "var(--good)", "var(--soft)")


def save_page(report: ExportReport, pictures: Sequence[Path], path: Path) -> None:
    """Write the page, all or nothing; pictures become part of it."""
    write_atomic(path, render_page(report, pictures).encode())


def render_page(report: ExportReport, pictures: Sequence[Path]) -> str:
    """The whole HTML document."""
    template = resources.files("sefa_edge.export").joinpath("report.html").read_text(encoding="utf-8")
    first = report.flavours[0]
    return Template(template).substitute(
        style=page_style(),
        title=escape(f"Export of “{report.task}-{report.stage}”: {first.precision}"),
        subtitle=escape(
            f"{report.checkpoint}, {report.network_calls} network call(s) per chunk, {report.date_utc[:10]}"
        ),
        tiles="".join(_tiles(report)),
        files="".join(_file_row(flavour) for flavour in report.flavours),
        joints_of=escape(f"{first.file} on {first.gate.samples} observations"),
        joints="".join(_joint_rows(first)),
        steps=draw_steps(report.flavours),
        layers=_layers(report),
        worst=_worst(pictures),
        facts="".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(report)),
    )


def _tiles(report: ExportReport) -> list[str]:
    first = report.flavours[0]
    share = first.gate.p99_deg / first.gate.budget_p99_deg
    meter = f'<div class="meter {"over" if share > 1 else "within"}"><i style="width:{min(share, 1):.1%}"></i></div>'
    tiles = [
        _tile("Action error, p99", f"{first.gate.p99_deg:.3g}", "deg", f"budget {first.gate.budget_p99_deg:g}{meter}"),
        _tile("Size", f"{first.file_bytes / 1e6:.2f}", "MB", f"{first.share_of_fp32:.1%} of fp32"),
    ]
    if (played := report.closed_loop) is not None:
        low, high = played.interval_95
        words = f"of {played.seeds} seeds; fp32: {played.reference_successes}. 95 %: {low:.0%} to {high:.0%}"
        tiles.append(_tile("Success in the simulated world", str(played.successes), "", words))
    if first.gate.unproven is not None:
        tiles.append(_tile(first.gate.unproven_part.capitalize(), "proves nothing", "", escape(first.gate.unproven)))
    return tiles


def _tile(title: str, value: str, unit: str, words: str) -> str:
    return (
        f'<article class="tile"><h3>{title}</h3><p class="big">{value}<span> {unit}</span></p><p>{words}</p></article>'
    )


def _file_row(flavour: FlavourReport) -> str:
    gate = flavour.gate
    typing = "for a CPU" if flavour.file == CPU else "strongly typed" if flavour.strongly_typed else "weakly typed"
    over = "" if gate.passed else ' class="over"'
    return (
        f'<tr><th class="name">{escape(flavour.file)}</th><td class="name">{flavour.precision}, {typing}</td>'
        f"<td>{flavour.opset}</td><td>{flavour.file_bytes / 1e6:.2f} MB</td><td>{flavour.share_of_fp32:.1%}</td>"
        f"<td>{gate.mean_deg:.4f}</td><td{over}>{gate.p99_deg:.4f}</td><td>{gate.max_deg:.3f}</td>"
        f"<td>{gate.budget_p99_deg:g}</td></tr>"
    )


def _joint_rows(flavour: FlavourReport) -> list[str]:
    rows = []
    for joint in flavour.error.joints:
        numbers = (
            joint.joint.mean,
            joint.joint.p99,
            joint.joint.max,
            joint.ticks.mean,
            joint.ticks.p99,
            joint.ticks.max,
        )
        cells = "".join(f"<td>{number:.3f}</td>" for number in numbers)
        rows.append(f"<tr><th>{escape(joint.name)}, {escape(joint.unit)}</th>{cells}</tr>")
    return rows


def draw_steps(flavours: Sequence[FlavourReport]) -> str:
    """One line per file that differs at all from torch."""
    shown = [flavour for flavour in flavours if flavour.precision != "fp32"] or list(flavours)
    top = max(max(step.p99 for step in flavour.error.steps) for flavour in shown) * 1.1 or 1.0
    count = len(shown[0].error.steps)
    right, base = WIDTH - VALUE_WIDTH, PLOT_HEIGHT - PLOT_BOTTOM
    parts = [f'<svg viewBox="0 0 {WIDTH} {PLOT_HEIGHT}" role="img" aria-label="Error along the chunk">']
    for share in (0, 0.5, 1):
        y = base - share * (base - 10)
        parts.append(f'<line class="grid" x1="{PLOT_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{PLOT_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share * top:.3g}</text>'
        )

    def x_of(step: int) -> float:
        return PLOT_LEFT + (right - PLOT_LEFT) * step / max(count - 1, 1)

    for index, flavour in enumerate(shown):
        heights = [spread.p99 / top * (base - 10) for spread in flavour.error.steps]
        points = [f"{x_of(step):.1f},{base - height:.1f}" for step, height in enumerate(heights)]
        colour, y = COLOURS[index % len(COLOURS)], 24 + 22 * index
        parts.append(f'<polyline class="step" style="stroke:{colour}" points="{" ".join(points)}"/>')
        parts.append(
            f'<line style="stroke:{colour};stroke-width:3" x1="{right + 14}" x2="{right + 34}" y1="{y}" y2="{y}"/>'
        )
        parts.append(f'<text x="{right + 42}" y="{y + 4}">{escape(flavour.file)}</text>')
    for step in range(0, count, max(1, count // 8)):
        parts.append(f'<text class="tick" x="{x_of(step):.1f}" y="{base + 20}" text-anchor="middle">step {step}</text>')
    return "".join([*parts, "</svg>"])


def _layers(report: ExportReport) -> str:
    if not report.layers:
        return ""
    budget_deg = report.flavours[0].gate.budget_p99_deg
    rows = "".join(
        f"<tr><th>{escape(layer.name)}</th><td>{layer.op}</td><td>{layer.macs / 1e6:.3f}</td><td>{layer.weights}</td>"
        f"<td>{layer.int8_p99_deg:.3f}</td><td>{layer.weights_p99_deg:.3f}</td><td>{DECISIONS[layer.decision]}</td>"
        f"<td>{layer.cpu_int8_p99_deg:.3f}</td><td>{DECISIONS[layer.cpu_decision]}</td></tr>"
        for layer in report.layers
    )
    return (
        "<h2>What each layer does to the action</h2>"
        "<p>99th percentile of the action error when only this layer is quantised: input and weights (dark), weights "
        f"only (light). Dashed: the budget for all of them together, {budget_deg:g}.</p>"
        f'<div class="card">{draw_layers(report.layers, budget_deg)}</div>'
        '<div class="card" style="margin-top:16px"><table>'
        "<thead><tr><th>layer</th><th>kind</th><th>MMAC</th><th>weights</th><th>p99, INT8</th>"
        f"<th>p99, weights only</th><th>decision</th><th>p99, CPU</th><th>decision</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def draw_layers(layers: Sequence[LayerReport], budget_deg: float) -> str:
    """Two bars per layer, one over the other."""
    width = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    top = max([budget_deg, *(layer.int8_p99_deg for layer in layers)])
    height = ROW_HEIGHT * len(layers) + 10
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Sensitivity of every layer">']
    for row, layer in enumerate(layers):
        y = row * ROW_HEIGHT
        bars = (("median", layer.int8_p99_deg, 4, 12), ("tail", layer.weights_p99_deg, 16, 5))
        parts.append(f'<text class="label" x="{LABEL_WIDTH - 12}" y="{y + 16}">{escape(layer.name)}</text>')
        for kind, value, dy, bar_height in bars:
            length = max(value / top * width, 1)
            parts.append(
                f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{y + dy}" width="{length:.1f}" height="{bar_height}"/>'
            )
        words = f"{layer.int8_p99_deg:.3f} · {DECISIONS[layer.decision]}"
        parts.append(f'<text class="value" x="{WIDTH - 4}" y="{y + 16}">{words}</text>')
    x = LABEL_WIDTH + budget_deg / top * width
    parts.append(f'<line class="budget" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 6}"/></svg>')
    return "".join(parts)


def _worst(pictures: Sequence[Path]) -> str:
    if not pictures:
        return ""
    figures = "".join(
        f'<figure style="margin-bottom:16px"><img alt="{escape(path.stem)}" '
        f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></figure>'
        for path in pictures
    )
    return (
        "<h2>Where it differs most</h2><p>The held-out frames with the largest difference: what the camera saw, and "
        f"both chunks, joint by joint.</p>{figures}"
    )


def _facts(report: ExportReport) -> list[tuple[str, str]]:
    facts = [
        ("recordings", report.dataset or "none: judged on random observations"),
        ("form of the graph", ", ".join(f"{name} {form}" for name, form in report.graph_form.items())),
        ("took", f"{report.seconds:.0f} s"),
    ]
    if (seen := report.calibration) is not None:
        facts.insert(
            1,
            (
                "calibration",
                f"{seen.method}, {seen.samples} samples of {seen.episodes} episodes; they visit "
                f"{seen.joint_coverage:.0%} of the trained range of the joint that moves least",
            ),
        )
    return [*facts, *(("note", note) for note in report.notes)]
