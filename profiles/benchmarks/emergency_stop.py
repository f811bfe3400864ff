"""Time from Ctrl-\\ until the torque is off. A program to run, not a module to import:

    python profiles/benchmarks/emergency_stop.py --repeats 6 --json out/emergency_stop.json

Runs `sefa-edge run` in a separate terminal (a session with a controlling pseudo-terminal), on servos behind another
pseudo-terminal, presses Ctrl-\\ while the policy moves the arm, and times the first torque-off packet that the servos
receive. It also prints when the last goal arrived and how the run ended. Situations:

    plain      a terminal that is read
    piped      `run 2>&1 | tee log`: Ctrl-\\ also ends tee
    full       a terminal that is not read and whose buffer is full; the signal is sent from another terminal
    ctrl-s     output stopped with Ctrl-S before Ctrl-\\
    hung-up    the terminal hangs up; the signal is sent from another one while the arm is parked
    stopped    the control process is stopped with SIGSTOP before

Exit code 1 if a median is over its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from program import keep, run_program
from simulated_unit import ENGINE, OVERLOADED, write_images

from sefa_edge.profiles.errors import FaultError
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM
from sefa_edge.profiles.units import ns_to_ms

LIMIT_MS = {"plain": 100.0, "piped": 100.0, "full": 100.0, "ctrl-s": 100.0, "hung-up": 100.0, "stopped": 450.0}
PATIENCE_S = 60.0
CTRL_BACKSLASH, CTRL_S = b"\x1c", b"\x13"

SERVOS = """
import sys, time
from pathlib import Path
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM

class Bus(SimulatedBus):
    def receive(self, data, now_ns):
        for start in range(len(data) - 7):
            if data[start:start + 2] == b"\\xff\\xff" and data[start + 4] == 0x83:
                if data[start + 5] == 40:
                    print("off" if data[start + 8] == 0 else "on", now_ns, flush=True)
                elif data[start + 5] in (41, 42):
                    print("goal", now_ns, flush=True)
        return super().receive(data, now_ns)

profile = load_arm_profile(SIMULATED_ARM)
port = PtyPort(Bus.of_arm(profile, KinematicPlant.of_arm(profile)), Path(sys.argv[1]))
while True:
    port.serve_until(time.monotonic_ns() + 10**9)
"""
"""Program of the servos' process; prints every sync write of torque and goals with its time of arrival."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One emergency stop; times in milliseconds since the key was pressed."""

    situation: str
    torque_off_ms: float
    last_goal_ms: float
    exit_code: int
    words: str


class Wire:
    """The packets that the servos received, newest last; a thread reads their output."""

    def __init__(self, servos: subprocess.Popen[str]) -> None:
        self.events: list[tuple[str, int]] = []
        self._servos = servos
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_for(self, what: str, since_ns: int) -> int:
        """Time of the first such packet after `since_ns`. Raises FaultError."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            for name, at_ns in list(self.events):
                if name == what and at_ns > since_ns:
                    return at_ns
            time.sleep(0.005)
        raise FaultError(f"no '{what}' on the wire", OVERLOADED)

    def _listen(self) -> None:
        assert self._servos.stdout is not None
        for line in self._servos.stdout:
            name, at_ns = line.split()
            self.events.append((name, int(at_ns)))


class Terminal:
    """A pseudo-terminal with a program in a separate session; its output is read until `fill` or `hang_up`."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.master, self.slave = pty.openpty()
        self.output = b""
        self.read = True
        self._lock = threading.Lock()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, cwd=folder,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def fill(self) -> None:
        """Stop reading the terminal and fill its buffer."""
        with self._lock:
            self.read = False
        own = os.open(os.ttyname(self.slave), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(own, b"." * 256)
        os.close(own)

    def hang_up(self) -> None:
        with self._lock:
            self.read = False
            os.close(self.slave)
            os.close(self.master)
            self.master = self.slave = -1

    def end(self) -> int:
        with self._lock:
            self.read = True
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        with self._lock:
            self.read = False
            for descriptor in (self.master, self.slave):
                if descriptor >= 0:
                    os.close(descriptor)
            self.master = self.slave = -1

    def _read(self) -> None:
        while True:
            with self._lock:
                if self.master < 0:
                    return
                if self.read and select.select([self.master], [], [], 0)[0]:
                    self.output += os.read(self.master, 4096)
            time.sleep(0.005)


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    stops: list[Stop] = []
    print(f"{'situation':12}{'torque off ms':>14}{'last goal ms':>14}{'exit':>6}  last words")
    for situation in options.situations:
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory(prefix="sefa-edge-stop-") as folder:
                stop = _stop(situation, Path(folder), options.engine)
            stops.append(stop)
            numbers = f"{stop.torque_off_ms:14.1f}{stop.last_goal_ms:14.1f}{stop.exit_code:6}"
            print(f"{situation:12}{numbers}  {stop.words}", flush=True)
    keep(options.json, {"stops": [asdict(stop) for stop in stops]})
    return 0 if _verdict(stops) else 1


def _stop(situation: str, folder: Path, engine: Path) -> Stop:
    with _servos(folder / "arm") as wire:
        terminal = Terminal(_command(situation, folder, engine), folder)
        try:
            on_ns = wire.wait_for("on", 0)
            wire.wait_for("goal", on_ns + 4_000_000_000)
            pressed_ns = _press(situation, terminal)
            off_ns = wire.wait_for("off", pressed_ns)
            code = terminal.end()
        finally:
            terminal.close()
        goals = [at_ns for name, at_ns in wire.events if name == "goal"]
        log = folder / "log"
        output = (log.read_text() if log.exists() else terminal.output.decode(errors="replace")).split("\n")
        lines = [line.strip() for line in output if "emergency" in line.lower() or "error" in line]
        last = lines[-1] if lines else ""
        return Stop(situation, ns_to_ms(off_ns - pressed_ns), ns_to_ms(goals[-1] - pressed_ns), code, last)


def _press(situation: str, terminal: Terminal) -> int:
    """Press the key; returns the time."""
    supervisor, control = _processes(terminal.process.pid)
    if situation == "full":
        terminal.fill()
        time.sleep(1.0)
    elif situation == "ctrl-s":
        terminal.press(CTRL_S)
        time.sleep(1.0)
    elif situation == "hung-up":
        terminal.hang_up()
        time.sleep(0.3)
    elif situation == "stopped":
        os.kill(control, signal.SIGSTOP)
        time.sleep(0.1)
    pressed_ns = time.monotonic_ns()
    if situation in ("full", "hung-up"):
        os.kill(supervisor, signal.SIGQUIT)
    else:
        terminal.press(CTRL_BACKSLASH)
    return pressed_ns


def _command(situation: str, folder: Path, engine: Path) -> list[str]:
    run = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(engine), "--video", "none", "--arm", SIMULATED_ARM]
    run += ["--port", str(folder / "arm"), "--camera", f"images:{folder / 'pictures'}", "--seconds", "100"]
    return ["sh", "-c", f"{' '.join(run)} 2>&1 | tee log"] if situation == "piped" else run


def _processes(root: int) -> tuple[int, int]:
    """Process ids of supervisor and control, below `root`."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(entry.name)] = (entry / "cmdline").read_text().split("\0")[2]

    def below(pid: int) -> bool:
        return pid == root or (pid in parents and parents[pid] > 1 and below(parents[pid]))

    mine = {pid: commands.get(pid, "") for pid in parents if below(pid)}
    supervisor = next(pid for pid, module in mine.items() if module == "sefa_edge")
    control = next(pid for pid, module in mine.items() if module.endswith("control_process"))
    return supervisor, control


@contextlib.contextmanager
def _servos(port: Path) -> Iterator[Wire]:
    pictures = port.with_name("pictures")
    pictures.mkdir()
    write_images(pictures)
    servos = subprocess.Popen([sys.executable, "-c", SERVOS, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        give_up_s = time.monotonic() + PATIENCE_S
        while not port.exists() and time.monotonic() < give_up_s:
            time.sleep(0.02)
        yield Wire(servos)
    finally:
        servos.kill()
        servos.wait()


def _verdict(stops: Sequence[Stop]) -> bool:
    kept = True
    print(f"\n{'':12}{'median ms':>12}{'worst ms':>12}{'limit ms':>12}")
    for situation, limit in LIMIT_MS.items():
        times = [stop.torque_off_ms for stop in stops if stop.situation == situation]
        if times:
            median = statistics.median(times)
            kept &= median <= limit
            over = "" if median <= limit else "OVER"
            print(f"{situation:12}{median:12.1f}{max(times):12.1f}{limit:12.0f} {over}")
    return kept


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time from Ctrl-\\ until the torque is off")
    parser.add_argument("--repeats", type=int, default=6, help="emergency stops in each situation")
    parser.add_argument("--situations", nargs="+", default=list(LIMIT_MS), choices=list(LIMIT_MS), metavar="S")
    parser.add_argument("--engine", type=Path, default=ENGINE, metavar="E", help="model.onnx, its card beside it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_program(main)
