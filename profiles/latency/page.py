"""The latency report as one self-contained page: no script, no request, readable on paper and in the dark."""

from __future__ import annotations

from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from sefa_edge.profiles.files import write_atomic
from sefa_edge.profiles.latency.drawing import draw_histogram, draw_waterfall, format_duration
from sefa_edge.profiles.latency.environment import Environment
from sefa_edge.profiles.latency.report import LatencyReport, StageReport, Subject
from sefa_edge.profiles.page_style import page_style


def save_page(report: LatencyReport, path: Path) -> None:
    """Write the page, all or nothing."""
    write_atomic(path, render_page(report).encode())


def render_page(report: LatencyReport) -> str:
    """The whole HTML document."""
    template = resources.files("sefa_edge.profiles.latency").joinpath("page.html").read_text(encoding="utf-8")
    subject, measured = report.subject, [*report.others, *report.stages]
    headlines = [stage for stage in measured if stage.budget_ns is not None]
    return Template(template).substitute(
        style=page_style(),
        title=escape(f"Latency of “{subject.policy}”"),
        subtitle=escape(_subtitle(subject, report.environment)),
        tiles="".join(_tile(stage) for stage in headlines),
        waterfall=draw_waterfall(report.stages),
        histograms="".join(_figure(stage) for stage in (*report.stages, *report.others)),
        rows="".join(_row(stage) for stage in report.stages),
        other_rows="".join(_row(stage) for stage in report.others),
        facts="".join(_fact(name, value) for name, value in _facts(subject, report.environment)),
    )


def _subtitle(subject: Subject, environment: Environment) -> str:
    return (
        f"{subject.backend} {subject.precision} on {subject.arm}, camera {subject.camera}: "
        f"{subject.seconds:.0f} s at {subject.control_rate_hz:g} Hz control, {environment.date_utc[:10]}"
    )


def _tile(stage: StageReport) -> str:
    """A headline number, with the share of its budget that the 99th percentile takes."""
    value, unit = format_duration(stage.p50_ns).split(" ")
    meter = ""
    if stage.budget_ns is not None:
        share = stage.p99_ns / stage.budget_ns
        state = "over" if share > 1 else "within"
        budget = format_duration(stage.budget_ns)
        meter = (
            f'<div class="meter {state}"><i style="width:{min(share, 1):.1%}"></i></div>'
            f"<small>p99 is {share:.0%} of {budget}</small>"
        )
    return (
        f'<article class="tile"><h3>{escape(stage.title)}</h3><p class="big">{value}<span> {unit}</span></p>'
        f"<p>p99 {format_duration(stage.p99_ns)} · max {format_duration(stage.max_ns)}</p>{meter}</article>"
    )


def _figure(stage: StageReport) -> str:
    return (
        f"<figure><figcaption><b>{escape(stage.title)}</b> <span>{escape(stage.process)}</span></figcaption>"
        f"{draw_histogram(stage)}<p>{escape(stage.meaning)}</p></figure>"
    )


def _row(stage: StageReport) -> str:
    numbers = (stage.p50_ns, stage.p90_ns, stage.p99_ns, stage.p999_ns, stage.max_ns, stage.mean_ns)
    cells = "".join(f"<td>{format_duration(number)}</td>" for number in numbers)
    return f"<tr><th>{escape(stage.title)}</th>{cells}<td>{stage.count}</td></tr>"


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


def _fact(name: str, value: str) -> str:
    return f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
