"""The latency report as one self-contained page: no scripts, no requests; for print and dark mode too."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from sefa_edge.profiles.files import write_atomic
from sefa_edge.profiles.latency.environment import Environment
from sefa_edge.profiles.latency.report import LatencyReport, StageReport, Subject
from sefa_edge.profiles.page.axes import format_duration, format_tick
from sefa_edge.profiles.page.histogram import draw_histogram
from sefa_edge.profiles.page.parts import card, facts, meter, render_page, section, table, tile
from sefa_edge.profiles.page.rows import Bar, Row, RowsLayout, draw_waterfall
from sefa_edge.profiles.page.shapes import Drawing
from sefa_edge.profiles.page.svg import svg_of
from sefa_edge.profiles.percentiles import DurationBin

ROW_HEIGHT, LABEL_WIDTH, VALUE_WIDTH = 34, 190, 150
COLUMNS = ("stage", "p50", "p90", "p99", "p99.9", "max", "mean", "samples")
KEY_HTML = (
    '<span class="key"><i style="background:var(--median)"></i>median&ensp;'
    '<i style="background:var(--tail)"></i>up to the 99th percentile</span>&ensp; '
    "Each stage starts where the median of the one before it ends."
)


def save_latency_page(report: LatencyReport, path: Path) -> None:
    """Write the page atomically."""
    write_atomic(path, latency_page(report).encode())


def latency_page(report: LatencyReport) -> str:
    """The HTML document."""
    subject, measured = report.subject, [*report.others, *report.stages]
    figures = "".join(_figure(stage) for stage in (*report.stages, *report.others))
    return render_page(
        f"Latency of “{subject.policy}”",
        _subtitle(subject, report.environment),
        [_tile(stage, stage.budget_ns) for stage in measured if stage.budget_ns is not None],
        [
            section("From frame to command", KEY_HTML, card(svg_of(waterfall_of(report.stages)))),
            section(
                "The numbers",
                "Percentiles are durations that were measured: 99 of 100 samples did not exceed p99.",
                card(table(COLUMNS, map(_row, report.stages), map(_row, report.others))),
            ),
            section(
                "Distributions",
                "Each histogram has its own logarithmic time axis; a bar is at least two pixels high.",
                f'<div class="grid-2">{figures}</div>',
            ),
            section("Measured on", "", card(facts(_facts(subject, report.environment)))),
        ],
    )


def waterfall_of(stages: Sequence[StageReport]) -> Drawing:
    """One row per stage, each starting where the median of the one before it ends."""
    starts = [sum(stage.p50_ns for stage in stages[:row]) for row in range(len(stages))]
    end_ns = max(1, *(start + stage.p99_ns for start, stage in zip(starts, stages, strict=True)))
    rows = [_waterfall_row(stage, start) for stage, start in zip(stages, starts, strict=True)]
    layout = RowsLayout(ROW_HEIGHT, LABEL_WIDTH, VALUE_WIDTH, end_ns)
    return draw_waterfall("From frame to command: median and 99th percentile of every stage", rows, layout, format_tick)


def histogram_of(stage: StageReport) -> Drawing:
    """The distribution of one stage with median, 99th percentile and maximum marked."""
    title = f"{stage.title}: median {format_duration(stage.p50_ns)}, maximum {format_duration(stage.max_ns)}"
    bins = [DurationBin(bin.low_ns, bin.high_ns, bin.count) for bin in stage.histogram]
    return draw_histogram(title, bins, {"p50": stage.p50_ns, "p99": stage.p99_ns, "max": stage.max_ns})


def _subtitle(subject: Subject, environment: Environment) -> str:
    return (
        f"{subject.backend} {subject.precision} on {subject.arm}, camera {subject.camera}: "
        f"{subject.seconds:.0f} s at {subject.control_rate_hz:g} Hz control, {environment.date_utc[:10]}"
    )


def _tile(stage: StageReport, budget_ns: int) -> str:
    """The median, and the 99th percentile as a share of the budget."""
    value, unit = format_duration(stage.p50_ns).split(" ")
    share = stage.p99_ns / budget_ns
    spread = f"<p>p99 {format_duration(stage.p99_ns)} · max {format_duration(stage.max_ns)}</p>"
    budget = f"<small>p99 is {share:.0%} of {format_duration(budget_ns)}</small>"
    return tile(stage.title, value, unit, spread + meter(share) + budget)


def _waterfall_row(stage: StageReport, start_ns: float) -> Row:
    p50, p99 = format_duration(stage.p50_ns), format_duration(stage.p99_ns)
    spans = (("tail", max(stage.p99_ns, stage.p50_ns)), ("median", stage.p50_ns))
    bars = tuple(Bar(kind, start_ns, length_ns, 7, ROW_HEIGHT - 14, 3) for kind, length_ns in spans)
    return Row(stage.title, bars, p50, f" · {p99}", f"{stage.title}: median {p50}, p99 {p99}")


def _figure(stage: StageReport) -> str:
    return (
        f"<figure><figcaption><b>{escape(stage.title)}</b> <span>{escape(stage.process)}</span></figcaption>"
        f"{svg_of(histogram_of(stage))}<p>{escape(stage.meaning)}</p></figure>"
    )


def _row(stage: StageReport) -> list[str]:
    numbers = (stage.p50_ns, stage.p90_ns, stage.p99_ns, stage.p999_ns, stage.max_ns, stage.mean_ns)
    return [stage.title, *map(format_duration, numbers), str(stage.count)]


def _facts(subject: Subject, environment: Environment) -> list[tuple[str, str]]:
    facts = [
        ("engine", f"{subject.engine} ({subject.precision}, sha256 {subject.engine_sha256[:12]}…)"),
        ("other load", subject.load),
        ("machine", f"{environment.machine}, {environment.cpu}"),
        ("cores, memory", f"{environment.cores}, {environment.memory_mb} MB"),
        ("system", f"{environment.operating_system}, kernel {environment.kernel}"),
        ("python", environment.python),
        ("packages", ", ".join(f"{name} {version}" for name, version in environment.packages.items())),
        ("governor", environment.governor or "not shown by this kernel"),
        ("load average at start", f"{environment.load_average:g}"),
        ("date", environment.date_utc),
    ]
    if environment.jetson:
        facts += [("Jetson", environment.jetson), ("power mode", environment.power_mode or "unknown")]
    return facts
