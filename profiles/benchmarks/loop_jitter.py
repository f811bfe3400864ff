"""How steady is the control loop? A program to run, not a module to import:

    python profiles/benchmarks/loop_jitter.py --seconds 20 --json out/loop_jitter.json

Runs the real control process (edge/control_process.py) on simulated servos: the arm is armed, moves to its
start pose and holds it; every tick reads and commands all joints. Measured is how late each tick wakes up,
quiet and under load. Beside it, on the same machine at the same time, runs Debian's `cyclictest` (in C, with
SCHED_FIFO 80) where it is installed. Compare the two: an absolute number says more about the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sefa_edge.edge.control_process import ControlConfig
from sefa_edge.edge.modes import Command, Mode
from sefa_edge.edge.process import Child, ChildSpec
from sefa_edge.edge.records import ControlCommand, Final, Privilege, Ready, TickReport, unpack_for_supervisor
from sefa_edge.edge.transport import Channel, ChannelClosed, channel_pair
from sefa_edge.profiles.errors import FaultError, SefaError
from sefa_edge.profiles.latency.environment import describe_environment
from sefa_edge.profiles.latency.report import StageReport, summarise
from sefa_edge.profiles.schema import load_arm_profile
from sefa_edge.profiles.units import NS_PER_MS, NS_PER_US, ns_to_us, s_to_ns

ARM = "so101_sim"
SERVO_PRIORITY = 40
PATIENCE_S = 20.0
LOAD = "import numpy as np\na = np.ones((700, 700), np.float32)\nwhile True:\n    a @ a; a.copy().tobytes()\n"
"""Arithmetic, and much memory moved."""

SERVOS = f"""
import sys, time
from pathlib import Path
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.schema import load_arm_profile
profile = load_arm_profile("{ARM}")
port = PtyPort(SimulatedBus.of_arm(profile, KinematicPlant.of_arm(profile)), Path(sys.argv[1]))
while True:
    port.serve_until(time.monotonic_ns() + 10**9)
"""
"""The simulated servos, in a process of their own as the real ones are hardware of their own."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one control process did; lateness_ns is int64[N], one per tick."""

    lateness_ns: np.ndarray
    skipped_ticks: int
    refused: str
    """What the operating system did not grant, e.g. `FIFO|MEMORY_LOCK`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result."""

    load: str
    subject: str
    over_1ms: int
    skipped_ticks: int
    lateness: StageReport


def main(words: Sequence[str]) -> int:
    options = _parse(words)
    cores = sorted(os.sched_getaffinity(0))
    loads: dict[str, list[int]] = {"quiet": []}
    if not options.quiet_only:
        loads |= {"load on the other cores": cores[1:], "load on every core": cores}
    rows: list[Row] = []
    print(
        f"{options.rate:g} Hz, {options.seconds:g} s each, loop on core {cores[0]}; lateness in µs",
        flush=True,
    )
    print(f"{'':38}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9}{'> 1 ms':>10}{'skipped':>9}")
    for load, loaded_cores in loads.items():
        if load == "quiet" or loaded_cores:
            measured = _measure(load, loaded_cores, cores[0], options.rate, options.seconds)
            rows += measured
            _print_rows(measured)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(_as_json(rows, options.rate, options.seconds))
    return 0


def _measure(load: str, loaded_cores: list[int], core: int, rate_hz: float, seconds: float) -> list[Row]:
    with _loaded(loaded_cores), _cyclictest(core, rate_hz, seconds) as reference:
        run = _run_loop(core, rate_hz, seconds)
        subject = f"control process, without {run.refused}" if run.refused else "control process"
        rows = [_row(load, subject, run.lateness_ns, run.skipped_ticks)]
        if reference is not None:
            rows.insert(0, _row(load, "cyclictest (C)", _wakeups_ns(reference), 0))
    return rows


def _run_loop(core: int, rate_hz: float, seconds: float) -> Run:
    """Start a control process, arm it, watch it for that long in ARMED at the start pose, stop it."""
    joints = len(load_arm_profile(ARM).joints)
    supervisor, supervisor_child = channel_pair()
    policy, policy_child = channel_pair()
    with _servos() as port, contextlib.closing(supervisor), contextlib.closing(policy):
        config = ControlConfig(
            arm=ARM,
            port=str(port),
            calibration=None,
            horizon=1,
            supervisor_fd=supervisor_child.fileno(),
            policy_fd=policy_child.fileno(),
            control_rate_hz=rate_hz,
            cpu=core,
        )
        fds = (supervisor_child.fileno(), policy_child.fileno())
        child = Child(ChildSpec("control", "sefa_edge.edge.control_process", config.model_dump_json(), fds))
        supervisor_child.close()
        policy_child.close()
        try:
            return _watch(supervisor, policy, joints, seconds)
        except ChannelClosed:
            child.wait(PATIENCE_S)
            raise child.failure() from None
        finally:
            child.stop(PATIENCE_S)
            child.close()


def _watch(supervisor: Channel, policy: Channel, joints: int, seconds: float) -> Run:
    supervisor.send(ControlCommand(Command.ARM).pack())
    ticks: list[TickReport] = []
    refused, deadline_ns = "", sys.maxsize
    for record in _records(supervisor, policy, joints):
        if isinstance(record, Ready):
            refused = "|".join(privilege.name or "" for privilege in Privilege if privilege & record.refused)
        elif isinstance(record, Final):
            if record.exit_code:
                raise FaultError(record.message, record.hint)
            break
        elif record.mode is Mode.ARMED and record.settled:
            if not ticks:
                deadline_ns = record.start_ns + s_to_ns(seconds)
            ticks.append(record)
            if record.start_ns >= deadline_ns:
                supervisor.send(ControlCommand(Command.STOP).pack())
                deadline_ns = sys.maxsize
    return Run(
        lateness_ns=np.array([tick.lateness_ns for tick in ticks], np.int64),
        skipped_ticks=ticks[-1].skipped_ticks - ticks[0].skipped_ticks,
        refused=refused,
    )


def _records(supervisor: Channel, policy: Channel, joints: int) -> Iterator[Ready | TickReport | Final]:
    """Everything that the control process says, until it stops saying anything."""
    while supervisor.wait(PATIENCE_S):
        for record in supervisor.drain():
            yield unpack_for_supervisor(record, joints)
        with contextlib.suppress(ChannelClosed):  # it goes first; its supervisor hears why
            policy.newest()
    raise SefaError("the control process fell silent", "is this machine overloaded?")


@contextlib.contextmanager
def _servos() -> Iterator[Path]:
    """A serial port with simulated servos on it; where permitted, no load slows them down."""
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder) / "arm"
        process = subprocess.Popen([sys.executable, "-c", SERVOS, str(port)])
        try:
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(SERVO_PRIORITY))
            _wait_for(port)
            yield port
        finally:
            process.kill()
            process.wait()


def _wait_for(path: Path) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > give_up_s:
            raise SefaError(f"{path.name} did not appear", "cyclictest needs root or a real-time limit (`ulimit -r`)")
        time.sleep(0.05)


@contextlib.contextmanager
def _loaded(cores: Sequence[int]) -> Iterator[None]:
    """One process at full work on each of these cores."""
    workers = []
    try:
        for core in cores:
            worker = subprocess.Popen([sys.executable, "-c", LOAD], env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
            workers.append(worker)
            os.sched_setaffinity(worker.pid, {core})
        time.sleep(0.5 if cores else 0)
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@contextlib.contextmanager
def _cyclictest(core: int, rate_hz: float, seconds: float) -> Iterator[Path | None]:
    """The control measurement beside ours; yields where its histogram will be, None without it."""
    program = shutil.which("cyclictest")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "cyclictest.json"
        words = [
            f"--interval={round(1e6 / rate_hz)}",
            f"--loops={round(seconds * rate_hz)}",
            f"--affinity={core}",
        ]
        command = [program, "--quiet", "--priority=80", "--histogram=1000000", f"--json={result}", *words]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield result
        finally:
            process.kill()
            process.wait()


def _wakeups_ns(result: Path) -> np.ndarray:
    """Latencies int64[N] out of cyclictest's histogram, waited for."""
    _wait_for(result)
    time.sleep(0.5)  # it writes the file in one go, at its end
    histogram = json.loads(result.read_text())["thread"]["0"]["histogram"]
    latency_us, counts = [int(latency) for latency in histogram], list(histogram.values())
    return np.repeat(np.array(latency_us, np.int64) * NS_PER_US, counts)


def _row(load: str, subject: str, lateness_ns: np.ndarray, skipped_ticks: int) -> Row:
    lateness = summarise(
        lateness_ns,
        key="lateness",
        title=subject,
        process="control",
        meaning="From the grid point to the wake-up.",
    )
    return Row(load, subject, int((lateness_ns > NS_PER_MS).sum()), skipped_ticks, lateness)


def _print_rows(rows: list[Row]) -> None:
    print(rows[0].load)
    for row in rows:
        found = row.lateness
        numbers = [ns_to_us(value) for value in (found.p50_ns, found.p99_ns, found.p999_ns, found.max_ns)]
        columns = "".join(f"{number:9.1f}" for number in numbers)
        print(f"  {row.subject:36}{columns}{f'{row.over_1ms}/{found.count}':>10}{row.skipped_ticks:9d}")
    if len(rows) == 2:
        columns = "".join(f"{ratio:9.2g}" for ratio in _ratios(rows))
        print(f"  {'ratio':36}{columns}", flush=True)


def _ratios(rows: list[Row]) -> list[float]:
    reference, ours = rows[0].lateness, rows[1].lateness
    fields = ("p50_ns", "p99_ns", "p999_ns", "max_ns")
    return [getattr(ours, field) / max(getattr(reference, field), 1) for field in fields]


def _as_json(rows: list[Row], rate_hz: float, seconds: float) -> str:
    results = [
        {
            "load": row.load,
            "subject": row.subject,
            "over_1ms": row.over_1ms,
            "skipped_ticks": row.skipped_ticks,
            "lateness": row.lateness.model_dump(mode="json"),
        }
        for row in rows
    ]
    environment = describe_environment().model_dump(mode="json")
    content = {"rate_hz": rate_hz, "seconds": seconds, "results": results, "environment": environment}
    return json.dumps(content, indent=1) + "\n"


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How steady is the control loop?")
    parser.add_argument("--seconds", type=float, default=20.0, help="per row of the result")
    parser.add_argument("--rate", type=float, default=100.0, help="control rate in Hz")
    parser.add_argument("--quiet-only", action="store_true", help="leave out the rows with load")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    return parser.parse_args(words)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except SefaError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
