"""A whole `sefa-edge run` with real processes in its own process group, as from a shell."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sefa_edge.firmware_bridge.simulation.wire_log import WIRE_LOG_VARIABLE
from sefa_edge.profiles.arms import load_arm_profile
from tests.conftest import write_reach_engine
from tests.faults.control_rig import SimulatedUnit
from tests.faults.logged_arm import LoggedArm
from tests.faults.network_camera import NetworkCamera
from tests.faults.wire_limits import wire_limits
from tests.faults.wire_rules import WireSummary

PATIENCE_S = 120.0  # only ever waited for when something is broken
WIRE_LOG = "wire.log"
WORKERS = ("camera_process", "policy_process", "control_process")


class RunRig:
    """One run on a simulated arm whose servos and wire can be inspected, with a network camera."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.folder = folder
        self.unit = SimulatedUnit(folder)
        self.unit.start()
        self.stream = NetworkCamera()
        self.engine = write_reach_engine(_created(folder / "engine"))
        self.has_own_world = False
        """True: the simulated world, with MuJoCo, is a process of the run."""
        self.own_arm = LoggedArm(wire_limits(load_arm_profile("so101_sim")))
        """The judge of that world."""
        self.release_requested_ns: int | None = None
        self.port_path = self.unit.port.path
        """Path that the run opens as the arm's port."""
        self.arguments: list[str] = ["--video", "none"]
        self.environment: dict[str, str] = {}
        self.wrapper: list[str] = []
        """Command that starts the command."""
        self.injected_s = 0.0
        self.ended_s = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.pids: dict[int, str] = {}
        """Module names of the processes seen so far, by process id."""

    # -- running ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.process = self.spawn("log")

    def spawn(self, log: str) -> subprocess.Popen[bytes]:
        arm = ["--arm", "sim"] if self.has_own_world else ["--arm", str(self.unit.arm_file), "--port", self.port_path]
        camera = [] if self.has_own_world else ["--camera", self.stream.address]
        command = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(self.engine), *arm, *camera]
        command += ["--seconds", "100", "--episode-seconds", "50", *self.arguments]
        own_world = {WIRE_LOG_VARIABLE: str(self.folder / WIRE_LOG)} if self.has_own_world else {}
        with (self.folder / log).open("wb") as output:
            return subprocess.Popen(
                [*self.wrapper, *command],
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
                env=os.environ | {"TMPDIR": str(_created(self.folder / "tmp"))} | own_world | self.environment,
            )

    def wait_until_moving(self) -> None:
        """Wait until the policy has moved the arm for a random while."""
        self.wait_for("  running")
        self.pids = self.children()
        time.sleep(self.rng.uniform(0.2, 1.0))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, f"timed out waiting for {what}: {self.log()}"
            time.sleep(0.02)

    def wait_for(self, text: str) -> None:
        self.until(lambda: text in self.log() or self.exit_code is not None, f"'{text}'")
        assert text in self.log(), self.log()

    def end(self) -> int:
        assert self.process is not None
        code = self.process.wait(PATIENCE_S)
        self.ended_s = time.monotonic()
        return code

    # -- signals -----------------------------------------------------------------------------------------------

    def signal(self, name: str, number: signal.Signals) -> None:
        if number is signal.SIGQUIT and name in ("supervisor", "control_process"):
            self.ask_for_release()
        os.kill(self.pid_of(name), number)

    def signal_all(self, number: signal.Signals) -> None:
        """Signal the process group, as a terminal does; the child processes have left it."""
        assert self.process is not None
        if number is signal.SIGQUIT:
            self.ask_for_release()
        os.killpg(self.process.pid, number)

    def ask_for_release(self) -> None:
        """From now on torque off is requested, wherever the arm is."""
        self.release_requested_ns = time.monotonic_ns()
        self.unit.ask_for_release()

    def mark(self) -> None:
        """Record the time of the fault."""
        self.injected_s = time.monotonic()

    # -- state -------------------------------------------------------------------------------------------------

    @property
    def exit_code(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def log(self, name: str = "log") -> str:
        return (self.folder / name).read_text(errors="replace")

    def children(self) -> dict[int, str]:
        """Process ids and module names of the child processes."""
        assert self.process is not None
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    found[int(entry.name)] = (entry / "cmdline").read_text().split("\0")[2].rpartition(".")[2]
        return found

    def pid_of(self, name: str) -> int:
        assert self.process is not None
        if name == "supervisor":
            return self.process.pid
        return next(pid for pid, module in self.children().items() if module == name)

    def assert_no_process_is_left(self) -> None:
        self.until(lambda: not any(_is_running(pid) for pid in self.pids), f"the end of {self.pids}")
        left_behind = [path.name for path in (self.folder / "tmp").glob("sefa-*")]
        assert left_behind == [], f"left behind: {left_behind}"

    def assert_clean(self) -> None:
        """Raises AssertionError if a goal, a torque packet or a joint broke a rule, in this world or the run's own."""
        if self.has_own_world:
            self.own_arm.play(self.folder / WIRE_LOG, self.release_requested_ns)
            self.own_arm.assert_clean()
            assert self.own_arm.summary().goal_packets > 0
        self.unit.assert_clean()

    def summary(self) -> WireSummary:
        """Figures of this world and of the run's own."""
        return self.own_arm.summary() + self.unit.judge.summary()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            for pid in self.children():
                os.kill(pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(PATIENCE_S)
        self.stream.close()
        self.unit.close()


def stepped_clock(folder: Path) -> Path | None:
    """Build the library that makes the wall clock jump; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "stepped_clock.so"
    source = Path(__file__).with_name("stepped_clock.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _created(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
