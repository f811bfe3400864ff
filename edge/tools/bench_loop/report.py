"""The result of bench-loop: criteria, table and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from sefa_edge.edge.run.run_plan import RunPlan
from sefa_edge.edge.tools.bench_loop.samples import Beside, Footprint, LoopMeasurement
from sefa_edge.edge.tools.bench_loop.timer_control import TimerResult
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.latency.environment import Environment
from sefa_edge.profiles.latency.report import StageReport, summarise
from sefa_edge.profiles.page.axes import format_duration
from sefa_edge.profiles.percentiles import Percentiles, percentiles
from sefa_edge.profiles.units import ms_to_ns, us_to_ns

MAX_RATE_ERROR = 1e-4
MAX_P50_NS = us_to_ns(150)
MAX_P99_NS = ms_to_ns(1)
MAX_P999_NS = ms_to_ns(1)
MAX_P999_RATIO = 2.0
COLUMNS = ("p50_ns", "p99_ns", "p999_ns", "max_ns")


@dataclass(frozen=True, slots=True)
class Criterion:
    """A condition, met when `value` is at most `limit`. `words`: both as text."""

    name: str
    value: float
    limit: float
    words: str

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """One measurement. `grown`: change of the control process's kernel counters during it."""

    loop: LoopMeasurement
    control: TimerResult | None
    grown: Footprint | None
    beside: Beside
    refused: tuple[str, ...]
    asked_rate_hz: float


def judge(findings: Findings) -> list[Criterion]:
    """The criteria for a steady loop."""
    loop, control = percentiles(findings.loop.lateness_ns), _of_control(findings.control)
    p999_limit_ns = max(MAX_P999_NS, MAX_P999_RATIO * control.p999_ns) if control else MAX_P999_NS
    rate_error, rate_limit = rate_error_of(findings), max(MAX_RATE_ERROR, _control_rate_error(findings.control))
    return [
        Criterion("rate error", abs(rate_error), rate_limit, f"{100 * rate_error:+.4f} % of {100 * rate_limit:.2g} %"),
        _lateness("lateness p50", loop.p50_ns, MAX_P50_NS),
        _lateness("lateness p99", loop.p99_ns, MAX_P99_NS),
        _lateness("lateness p99.9", loop.p999_ns, p999_limit_ns),
    ]


def require_load(beside: Beside) -> None:
    """Check that camera and inference ran during the measurement.

    Raises:
        SefaError: there was no frame or no inference.
    """
    missing = [what for what, count in (("picture", beside.pictures), ("inference", beside.chunks)) if not count]
    if missing:
        raise SefaError(
            f"no {' and no '.join(missing)} during the measurement: it was made without load and proves nothing",
            "measure for longer (--seconds), or find out why the camera or the policy delivers nothing",
            ExitCode.FAILED,
        )


def rate_error_of(findings: Findings) -> float:
    """Relative error of the loop's rate; skipped ticks lower the rate."""
    return findings.loop.rate_hz / findings.asked_rate_hz - 1.0


def table(findings: Findings) -> Iterator[str]:
    """The lines of the printed table."""
    yield f"{'lateness':28}{'p50':>10}{'p99':>10}{'p99.9':>10}{'max':>10}{'skipped':>9}{'ticks':>8}"
    loop, control = percentiles(findings.loop.lateness_ns), _of_control(findings.control)
    yield _row("control loop", loop, findings.loop.skipped)
    if control is not None and findings.control is not None:
        yield _row(findings.control.subject, control, findings.control.skipped)
        ratios = [getattr(loop, key) / max(getattr(control, key), 1) for key in COLUMNS]
        yield f"{'ratio':28}" + "".join(f"{f'{ratio:.2g} x':>10}" for ratio in ratios)
    else:
        yield "no comparison loop: neither a C compiler nor cyclictest (`apt-get install rt-tests`) is installed"
    yield _row("period error", percentiles(findings.loop.period_error_ns), None)
    yield _row("work of a tick", percentiles(findings.loop.work_ns), None)
    for stage, durations_ns in findings.loop.stage_ns.items():
        yield _row(f"  {stage}", percentiles(durations_ns), None)
    yield from _surroundings(findings)


def verdict(criteria: list[Criterion]) -> Iterator[str]:
    for criterion in criteria:
        yield f"{'ok    ' if criterion.met else 'MISSED'}  {criterion.name}: {criterion.words}"


def as_json(findings: Findings, criteria: list[Criterion], plan: RunPlan, environment: Environment) -> str:
    """The complete measurement as JSON."""
    control = findings.control
    content = {
        "schema_version": 1,
        "passed": all(criterion.met for criterion in criteria),
        "criteria": [asdict(criterion) | {"met": criterion.met} for criterion in criteria],
        "asked_rate_hz": findings.asked_rate_hz,
        "rate_hz": findings.loop.rate_hz,
        "ticks": len(findings.loop.lateness_ns),
        "skipped_ticks": findings.loop.skipped,
        "lost_reports": findings.loop.lost_reports,
        "lateness": _stage("lateness", findings.loop.lateness_ns),
        "period_error": _stage("period_error", findings.loop.period_error_ns),
        "work": _stage("work", findings.loop.work_ns),
        "stages": [_stage(stage, durations_ns) for stage, durations_ns in findings.loop.stage_ns.items()],
        "control": None
        if control is None
        else {
            "subject": control.subject,
            "fifo": control.fifo,
            "skipped_ticks": control.skipped,
            "lateness": _stage("control_lateness", control.lateness_ns),
        },
        "grown": None if findings.grown is None else asdict(findings.grown),
        "not_permitted": list(findings.refused),
        "beside": {
            "cameras": {name: camera.kind for name, camera in plan.cameras.items()},
            "pictures": findings.beside.pictures,
            "chunks": findings.beside.chunks,
            "inference_p50_ns": int(np.median(findings.beside.inference_ns)) if findings.beside.inference_ns else None,
        },
        "engine": plan.card.name,
        "arm": plan.arm_name,
        "spin_us": plan.realtime.spin_us,
        "realtime_priority": plan.realtime.priority,
        "environment": environment.model_dump(mode="json"),
    }
    return json.dumps(content, indent=1) + "\n"


def _surroundings(findings: Findings) -> Iterator[str]:
    loop = findings.loop
    seconds = (len(loop.lateness_ns) + loop.skipped + loop.lost_reports) / findings.asked_rate_hz
    beside = findings.beside
    inference = f", {format_duration(float(np.median(beside.inference_ns)))} each" if beside.inference_ns else ""
    yield (
        f"load: {beside.pictures / seconds:.1f} frames and {beside.chunks / seconds:.1f} inferences per second"
        f"{inference}"
    )
    if (grown := findings.grown) is not None:
        yield (
            f"control process during the measurement: {grown.page_faults} page faults, {grown.resident_kb:+d} kB, "
            f"preempted {grown.involuntary_switches} times"
        )
    if loop.lost_reports:
        yield f"{loop.lost_reports} tick reports were lost: their lateness is unknown"


def _lateness(name: str, value_ns: int, limit_ns: float) -> Criterion:
    return Criterion(name, value_ns, limit_ns, f"{format_duration(value_ns)} of {format_duration(limit_ns)}")


def _of_control(control: TimerResult | None) -> Percentiles | None:
    return None if control is None else percentiles(control.lateness_ns)


def _control_rate_error(control: TimerResult | None) -> float:
    """The share of periods that the C loop missed: no loop can do better on this machine."""
    if control is None or not control.skipped:
        return 0.0
    return control.skipped / (control.skipped + len(control.lateness_ns))


def _row(name: str, found: Percentiles, skipped: int | None) -> str:
    numbers = "".join(f"{format_duration(getattr(found, key)):>10}" for key in COLUMNS)
    return f"{name:28}{numbers}{'' if skipped is None else skipped:>9}{found.count:8}"


def _stage(key: str, durations_ns: np.ndarray) -> dict[str, object]:
    stage: StageReport = summarise(durations_ns, key=key, title=key, process="control", meaning="")
    return stage.model_dump(mode="json", exclude={"title", "process", "meaning", "budget_ns"})
