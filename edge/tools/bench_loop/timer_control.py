"""The reference for the measurement: a loop in C on the same core at the same time, or Debian's cyclictest.

Both wait for points in time of CLOCK_MONOTONIC and do nothing else. Their lateness is caused by the machine; any
additional lateness of the control loop is its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.units import NS_PER_US, ns_to_us

COMPILERS = ("cc", "gcc", "clang")
COMPILE_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
CYCLICTEST_BINS = 1_000_000
CYCLICTEST_AT_MOST_S = 2 * 3600
"""Limit for cyclictest in case this process is killed; our loop in C notices that and exits."""
MAX_SAMPLES = 100_000_000


@dataclass(frozen=True, slots=True)
class TimerRequest:
    """Period, core (None: any) and SCHED_FIFO priority (0: none) of the reference loop."""

    period_ns: int
    cpu: int | None
    priority: int


@dataclass(frozen=True, slots=True, eq=False)
class TimerResult:
    """The measurement: lateness_ns int64[N], one per tick, in steps of a microsecond."""

    subject: str
    fifo: bool | None
    """Whether it had SCHED_FIFO; None: unknown."""
    lateness_ns: np.ndarray
    skipped: int | None
    """Periods that it missed; None: unknown."""


class TimerControl:
    """A program that measures from `start` to `finish`."""

    def __init__(self, subject: str, command: list[str], report: Path | None) -> None:
        """Created by `timer_control`; `report` None: the program prints its result to standard output."""
        self.subject = subject
        self._command = command
        self._report = report
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # not interrupted by Ctrl-C
        )

    def finish(self) -> TimerResult:
        """Stop it and return its result. Raises SefaError when there is none."""
        assert self._process is not None
        self._process.terminate()
        try:
            output, _ = self._process.communicate(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise SefaError(f"{self.subject} does not stop", "is this machine overloaded?", ExitCode.FAULT) from None
        if self._process.returncode != 0:
            raise SefaError(
                f"{self.subject} ended with exit code {self._process.returncode}", "run it by hand", ExitCode.FAULT
            )
        return _of_cyclictest(self._report) if self._report else parse_timer_loop(output)

    def kill(self) -> None:
        """Kill it if it is still running."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._process.communicate()


@contextmanager
def timer_control(request: TimerRequest) -> Iterator[TimerControl | None]:
    """The best reference loop available, not started yet: ours if there is a C compiler, else cyclictest, else None.

    Its files and process are removed at the end.
    """
    with tempfile.TemporaryDirectory(prefix="sefa-edge-") as folder:
        control = _timer_loop(request, Path(folder)) or _cyclictest(request, Path(folder))
        try:
            yield control
        finally:
            if control is not None:
                control.kill()


def _timer_loop(request: TimerRequest, folder: Path) -> TimerControl | None:
    # Compiled for every measurement, which takes 0.1 s: a stored program could have been replaced by another user.
    program = folder / "timer_loop"
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None or not _compile(compiler, program):
        return None
    cpu = -1 if request.cpu is None else request.cpu
    command = [str(program), str(request.period_ns), str(cpu), str(request.priority)]
    return TimerControl("timer loop in C", command, None)


def _compile(compiler: str, program: Path) -> bool:
    source = program.with_suffix(".c")
    source.write_bytes((resources.files("sefa_edge.edge.tools.bench_loop") / "timer_loop.c").read_bytes())
    try:
        command = [compiler, "-std=c11", "-O2", "-o", str(program), str(source)]
        done = subprocess.run(command, capture_output=True, timeout=COMPILE_TIMEOUT_S, check=False)
        # The compiler may lack the C library's headers, or its programs may not be executable in this folder.
        return done.returncode == 0 and subprocess.run([str(program)], capture_output=True, check=False).returncode == 2
    except (OSError, subprocess.TimeoutExpired):
        return False


def _cyclictest(request: TimerRequest, folder: Path) -> TimerControl | None:
    program, report = shutil.which("cyclictest"), folder / "cyclictest.json"
    if program is None:
        return None
    command = [program, "--quiet", "--mlockall", f"--histogram={CYCLICTEST_BINS}", f"--json={report}"]
    command.append(f"--duration={CYCLICTEST_AT_MOST_S}")
    command.append(f"--interval={round(ns_to_us(request.period_ns))}")
    if request.priority:
        command.append(f"--priority={request.priority}")
    if request.cpu is not None:
        command.append(f"--affinity={request.cpu}")
    return TimerControl("cyclictest", command, report)


def parse_timer_loop(output: str) -> TimerResult:
    """Parse the output of `timer_loop`. Raises SefaError when it is invalid."""
    try:
        rows = [line.split() for line in output.splitlines()]
        facts = {row[0]: int(row[1]) for row in rows[:5]}
        lateness_ns = _samples([int(row[0]) for row in rows[5:]], [int(row[1]) for row in rows[5:]])
        if len(lateness_ns) == 0 or len(lateness_ns) != facts["ticks"]:
            raise ValueError(f"{len(lateness_ns)} samples of {facts['ticks']} ticks")
        lateness_ns[-1] = max(int(lateness_ns[-1]), facts["max_ns"])
        return TimerResult("timer loop in C", bool(facts["fifo"]), lateness_ns, facts["skipped"])
    except (IndexError, KeyError, ValueError) as error:
        raise SefaError(f"the timer loop in C gave no result: {error}", "run it by hand", ExitCode.FAULT) from None


def _of_cyclictest(report: Path) -> TimerResult:
    try:
        thread = json.loads(report.read_text())["thread"]["0"]
        histogram = {int(latency_us): int(count) for latency_us, count in thread["histogram"].items()}
        lateness_ns = _samples(sorted(histogram), [histogram[latency_us] for latency_us in sorted(histogram)])
        return TimerResult("cyclictest", None, lateness_ns, None)
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise SefaError(
            f"cyclictest gave no result: {error}", "run it by hand: `cyclictest --help`", ExitCode.FAULT
        ) from None


def _samples(latency_us: list[int], counts: list[int]) -> np.ndarray:
    """The samples int64[N] of a histogram, in rising order."""
    if min(counts, default=0) < 0 or sum(counts) > MAX_SAMPLES:
        raise ValueError("impossible counts")
    return np.repeat(np.array(latency_us, np.int64) * NS_PER_US, counts)
