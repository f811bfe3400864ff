"""`sefa-edge bench-loop`: measures the control loop on this device, with camera and inference running.

It measures a real run: the processes, priorities, cores, sockets and limits of `sefa-edge run`, with the policy
inferring from frames and the arm being read (and, when simulated, moved) in every tick. An idle loop in C runs on the
same core at the same time: its lateness is that of the machine. A real arm is only read.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

from sefa_edge.edge.engines.find_engine import engine_at
from sefa_edge.edge.ipc.records import Privilege
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.edge.run.command import add_realtime_arguments, default_arguments
from sefa_edge.edge.run.cores import split_cores
from sefa_edge.edge.run.run_plan import RunPlan, make_plan
from sefa_edge.edge.run.status import Status, StatusLine
from sefa_edge.edge.run.supervisor import Ending, Supervisor
from sefa_edge.edge.tools.bench_loop.report import Findings, as_json, judge, require_load, table, verdict
from sefa_edge.edge.tools.bench_loop.samples import (
    Beside,
    Footprint,
    LoopMeasurement,
    elapsed_ns,
    footprint_of,
    record_ticks,
)
from sefa_edge.edge.tools.bench_loop.servos import simulated_servos
from sefa_edge.edge.tools.bench_loop.timer_control import TimerControl, TimerRequest, TimerResult, timer_control
from sefa_edge.edge.tools.run_records import RunRecords
from sefa_edge.profiles.card import load_card
from sefa_edge.profiles.console import limit_waiting
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode, is_of_signal
from sefa_edge.profiles.files import check_report_argument, path_argument, writable, write_atomic, write_report
from sefa_edge.profiles.latency.environment import describe_environment
from sefa_edge.profiles.quantities import CONTROL_RATE_HZ, PICTURE_RATE_HZ, THREADS, Real
from sefa_edge.profiles.simulated_arm import SIMULATED, SIMULATED_ARM
from sefa_edge.profiles.units import NS_PER_S, period_ns

MEASURED_S = Real("a time", 1.0, 3600.0, "s")
BAR_CELLS = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sefa-edge bench-loop`."""
    parser.add_argument("--seconds", type=MEASURED_S.parse, default=30.0, metavar="S", help="how long to measure")
    parser.add_argument(
        "--rate", type=CONTROL_RATE_HZ.parse, metavar="HZ", help="control rate (default: the arm profile's)"
    )
    parser.add_argument("--engine", type=engine_at, metavar="E", help="engine to run (default: the shipped one)")
    parser.add_argument("--camera", action="append", metavar="[NAME=]C", help="as in `run` (default: a test picture)")
    parser.add_argument(
        "--camera-rate", type=PICTURE_RATE_HZ.parse, default=30.0, metavar="HZ", help="frames per second"
    )
    parser.add_argument("--threads", type=THREADS.parse, default=1, metavar="N", help="threads for inference")
    parser.add_argument(
        "--arm", metavar="ARM", help="a real arm, which is read but never energised (default: simulated servos)"
    )
    parser.add_argument("--port", metavar="P", help="serial port of that arm")
    parser.add_argument("--calibration", metavar="FILE|ID", help="LeRobot calibration of that arm")
    parser.add_argument("--json", metavar="F", help="write the measurement as JSON; - means standard output")
    parser.add_argument("--picture", type=path_argument, metavar="F", help="draw a histogram of the lateness (.png)")
    add_realtime_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure and report; returns 1 when a criterion is missed. Raises SefaError when the run ended early."""
    _check(args)
    limit_waiting()
    environment = describe_environment()
    with _arm(args) as (arm, port):
        plan = _plan(args, arm, port)
        ending, findings = Bench(plan, args.seconds).measure()
    if findings is None or is_of_signal(ending.exit_code):
        print(ending.message, file=sys.stderr)
        return ending.exit_code
    require_load(findings.beside)
    criteria = judge(findings)
    write_report(args.json, as_json(findings, criteria, plan, environment))
    if args.picture is not None:
        _draw(findings, args.picture)
    print("\n".join([*table(findings), *verdict(criteria)]), file=sys.stderr if args.json == "-" else sys.stdout)
    return ExitCode.DONE if all(criterion.met for criterion in criteria) else ExitCode.FAILED


class Bench:
    """One measured run, and the measurements alongside it."""

    def __init__(self, plan: RunPlan, seconds: float) -> None:
        self._plan = plan
        self._timer: TimerControl | None = None
        self._timer_result: TimerResult | None = None
        self._before: Footprint | None = None
        self._grown: Footprint | None = None
        self._records = record_ticks(Mode.IDLE if plan.untouched else Mode.RUNNING, seconds, self)
        self._supervisor = Supervisor(plan, ProgressLine(self._records, seconds), self._records)

    def measure(self) -> tuple[Ending, Findings | None]:
        """Run and measure; no findings when the user stopped it. Raises SefaError when the run ended early."""
        with timer_control(self._timer_request()) as self._timer:
            ending = self._supervisor.run()
        if is_of_signal(ending.exit_code):
            return ending, None
        if ending.is_early or not self._records.satisfied:
            raise SefaError(ending.message, ending.hint, ending.exit_code or ExitCode.FAULT)
        return ending, self._findings()

    def begin(self) -> None:
        self._before = self._footprint()
        if self._timer is not None:
            self._timer.start()

    def end(self) -> None:
        after = self._footprint()
        if after is not None and self._before is not None:
            self._grown = after.since(self._before)
        if self._timer is not None:
            self._timer_result = self._timer.finish()

    def _footprint(self) -> Footprint | None:
        pid = self._supervisor.control_pid
        return None if pid is None else footprint_of(pid)

    def _timer_request(self) -> TimerRequest:
        realtime = self._plan.realtime
        cores, _ = split_cores(os.sched_getaffinity(0), realtime.cpu)
        # One above the loop, so that only the machine can delay it.
        priority = min(99, realtime.priority + 1) if realtime.priority else 0
        return TimerRequest(period_ns(self._plan.control_rate_hz), min(cores, default=None), priority)

    def _findings(self) -> Findings:
        refused = self._supervisor.refused
        return Findings(
            loop=LoopMeasurement.of(self._records.ticks, self._plan.control_rate_hz),
            control=self._timer_result,
            grown=self._grown,
            beside=Beside.of(self._records),
            refused=tuple(privilege.name or "" for privilege in Privilege if privilege & refused),
            asked_rate_hz=self._plan.control_rate_hz,
        )


class ProgressLine(StatusLine):
    """The status line of a run, preceded by the progress of the measurement."""

    def __init__(self, records: RunRecords, seconds: float) -> None:
        super().__init__(sys.stderr)
        self._records, self._seconds = records, seconds

    def update(self, status: Status, now_ns: int) -> None:
        done_s = min(elapsed_ns(self._records) / NS_PER_S, self._seconds)
        filled = int(BAR_CELLS * done_s / self._seconds)
        bar = f"[{'#' * filled}{'.' * (BAR_CELLS - filled)}] {done_s:.0f}/{self._seconds:g} s"
        super().update(replace(status, episode=bar, successes=""), now_ns)


def _check(args: argparse.Namespace) -> None:
    if (args.arm is None) != (args.port is None) or args.arm == SIMULATED:
        raise InputError(
            "a real arm needs both --arm and --port", "--arm so101 --port /dev/ttyACM0; without both, it is simulated"
        )
    check_report_argument(args.json)
    if args.picture is not None and args.picture.suffix != ".png":
        raise InputError(f"--picture {args.picture}: unsupported extension", "use .png")
    if args.picture is not None:
        writable(args.picture)


def _plan(args: argparse.Namespace, arm: str, port: str) -> RunPlan:
    engine = args.engine or Path(str(resources.files("sefa_edge.edge") / "shipped" / "lift" / "model.onnx"))
    camera = args.camera or [f"{camera.name}=test" for camera in load_card(engine).cameras]
    words = (
        default_arguments(engine)
        | vars(args)
        | {"engine": engine, "camera": camera, "arm": arm, "port": port, "seconds": None}
    )
    return replace(make_plan(argparse.Namespace(**words)), untouched=args.arm is not None)


@contextlib.contextmanager
def _arm(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Name and port of the arm: the real one if given, else simulated servos that stop with this context."""
    if args.arm is not None:
        yield args.arm, args.port
        return
    _, cores = split_cores(os.sched_getaffinity(0), args.cpu)
    with simulated_servos(SIMULATED_ARM, cores) as port:
        yield SIMULATED_ARM, str(port)


def _draw(findings: Findings, path: Path) -> None:
    from sefa_edge.edge.pictures import encode_png
    from sefa_edge.edge.tools.bench_loop.picture import draw_lateness

    series = {"control loop": findings.loop.lateness_ns}
    if findings.control is not None:
        series[findings.control.subject] = findings.control.lateness_ns
    title = f"lateness of each tick, {findings.asked_rate_hz:g} Hz, {len(findings.loop.lateness_ns)} ticks"
    write_atomic(path, encode_png(draw_lateness(series, title)))
