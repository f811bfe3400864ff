"""`sefa-edge profile`: percentiles of the latency of every stage of a real run.

Everything runs as in `sefa-edge run`: the same processes, sockets, rings and limits, on the same arm, which moves. The
only difference: the policy plans a new chunk at every step instead of every few, for more samples in the same time. The
time stamps are part of the normal records; edge/tools/profiling/samples.py combines them.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sefa_edge.edge.engines.engine import engine_kind
from sefa_edge.edge.run.command import add_setup_arguments, default_arguments
from sefa_edge.edge.run.run_plan import RunPlan, make_plan
from sefa_edge.edge.run.status import Status, StatusLine
from sefa_edge.edge.run.supervisor import Ending, Supervisor
from sefa_edge.edge.tools.profiling.samples import PipelineSamples, stage_reports
from sefa_edge.profiles.card import save_card
from sefa_edge.profiles.console import limit_waiting
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.exit_codes import ExitCode, is_of_signal
from sefa_edge.profiles.files import output_folder, path_argument
from sefa_edge.profiles.latency.environment import describe_environment
from sefa_edge.profiles.latency.page import save_latency_page
from sefa_edge.profiles.latency.report import LatencyReport, StageReport, Subject, save_report
from sefa_edge.profiles.page.axes import format_duration
from sefa_edge.profiles.plan_libraries import PLAN_LIBRARIES
from sefa_edge.profiles.quantities import Whole
from sefa_edge.profiles.units import period_ns

BACK_ENDS = {"onnx": "ONNX Runtime", **{word: library.title for word, library in PLAN_LIBRARIES.items()}}
BAR_CELLS = 24
SAMPLES = Whole("a number of samples", 1, 1_000_000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sefa-edge profile`: those of `run` that select what runs, and what to measure."""
    add_setup_arguments(parser)
    parser.add_argument(
        "--out", type=path_argument, required=True, metavar="DIR", help="folder for latency.json and latency.html"
    )
    parser.add_argument(
        "--samples", type=SAMPLES.parse, default=1000, metavar="N", help="number of chunks to measure; the arm moves"
    )


def main(args: argparse.Namespace) -> int:
    """Measure, write report and page, print the table. Raises SefaError when the run ended early."""
    plan = make_plan(argparse.Namespace(**default_arguments(args.engine) | vars(args)))
    limit_waiting()
    with output_folder(args.out):
        return _measure(args, plan)


def _measure(args: argparse.Namespace, plan: RunPlan) -> int:
    samples, environment = PipelineSamples(args.samples), describe_environment()
    with _chunk_every_step(plan) as measured:
        ending = _listen(measured, samples)
    if is_of_signal(ending.exit_code):
        print(ending.message, file=sys.stderr)
        return ending.exit_code
    if ending.exit_code:
        raise SefaError(ending.message, ending.hint, ending.exit_code)
    stages, others = stage_reports(samples, _budgets_ns(plan))
    report = LatencyReport(
        schema_version=1,
        subject=_subject(plan, samples),
        stages=stages,
        others=others,
        environment=environment,
    )
    save_report(report, args.out / "latency.json")
    save_latency_page(report, args.out / "latency.html")
    print("\n".join(_table([*stages, *others])))
    print(f"report: {args.out / 'latency.json'}\npage:   {args.out / 'latency.html'}")
    return 0


def _listen(plan: RunPlan, samples: PipelineSamples) -> Ending:
    """Run until everything is measured. When a simulated arm hits the table, another run continues the measurement."""
    while True:
        measured_before = len(samples.chunks)
        ending = Supervisor(plan, ProgressLine(samples), samples.begin_run()).run()
        may_continue = plan.world is not None and ending.exit_code == ExitCode.FAULT
        if samples.satisfied or not may_continue or len(samples.chunks) == measured_before:
            return ending


class ProgressLine(StatusLine):
    """The status line of a run, preceded by the progress of the measurement."""

    def __init__(self, samples: PipelineSamples) -> None:
        super().__init__(sys.stderr)
        self._samples = samples

    def update(self, status: Status, now_ns: int) -> None:
        done, wanted = min(len(self._samples.chunks), self._samples.wanted), self._samples.wanted
        filled = BAR_CELLS * done // wanted
        bar = f"[{'#' * filled}{'.' * (BAR_CELLS - filled)}] {done}/{wanted}"
        super().update(replace(status, episode=bar, successes=""), now_ns)


@contextlib.contextmanager
def _chunk_every_step(plan: RunPlan) -> Iterator[RunPlan]:
    """The same engine with a card that requests an inference at every policy step."""
    timing = plan.card.timing.model_copy(update={"execute_steps": 1})
    card = plan.card.model_copy(update={"timing": timing})
    with tempfile.TemporaryDirectory(prefix="sefa-edge-") as folder:
        engine = Path(folder) / plan.engine.name
        engine.symlink_to(plan.engine.resolve())
        save_card(card, engine)
        schedule = replace(plan.schedule, episodes=None, total_s=None)
        yield replace(plan, engine=engine, card=card, schedule=schedule)


def _budgets_ns(plan: RunPlan) -> dict[str, int]:
    """Time limits of stages. From capture to command: a chunk's first step is due that long after the capture."""
    step_ns = period_ns(plan.card.timing.policy_rate_hz)
    return {
        "frame_to_command_ns": step_ns * max(plan.card.timing.first_step_offset, 1),
        "inference_ns": step_ns,
        "tick_ns": period_ns(plan.control_rate_hz),
    }


def _subject(plan: RunPlan, samples: PipelineSamples) -> Subject:
    cameras = (f"{name}={camera.kind}" for name, camera in plan.cameras.items())
    return Subject(
        policy=plan.card.name,
        engine=str(plan.engine),
        engine_sha256=plan.card.engine_sha256,
        backend=BACK_ENDS[engine_kind(plan.engine)],
        precision=plan.card.precision,
        arm=plan.arm_name,
        camera=" ".join(cameras),
        control_rate_hz=plan.control_rate_hz,
        policy_rate_hz=plan.card.timing.policy_rate_hz,
        seconds=round(len(samples.ticks) / plan.control_rate_hz, 3),
    )


def _table(stages: list[StageReport]) -> Iterator[str]:
    yield f"{'':20}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'max':>10}{'samples':>9}"
    for stage in stages:
        numbers = (stage.p50_ns, stage.p90_ns, stage.p99_ns, stage.p999_ns, stage.max_ns)
        yield f"{stage.title:20}" + "".join(f"{format_duration(n):>10}" for n in numbers) + f"{stage.count:9}"
