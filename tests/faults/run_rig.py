"""A whole `sefa-edge run` with real processes, in a process group of its own, as from a shell."""

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
from tests.faults.picture_stream import PictureStream
from tests.faults.wire_limits import wire_limits
from tests.faults.wire_rules import WireSummary

PATIENCE_S = 120.0  # only ever waited for when something is broken
WIRE_LOG = "wire.log"
WORKERS = ("camera_process", "policy_process", "control_process")


class RunRig:
    """One run on a simulated unit whose motors remember what they were told, with a network camera."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.dice = np.random.default_rng(seed)
        self.folder = folder
        self.unit = SimulatedUnit(folder)
        self.unit.start()
        self.stream = PictureStream()
        self.engine = write_reach_engine(_made(folder / "engine"))
        self.has_own_world = False
        """True: the simulated world is a process of the run, MuJoCo and all."""
        self.own_arm = LoggedArm(wire_limits(load_arm_profile("so101_sim")))
        """The judge of that world."""
        self.release_asked_ns: int | None = None
        self.port_path = self.unit.port.path
        """What the run opens as the arm's port."""
        self.words: list[str] = ["--video", "none"]
        self.environment: dict[str, str] = {}
        self.wrapper: list[str] = []
        """What the command is started through."""
        self.injected_s = 0.0
        self.ended_s = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.pids: dict[int, str] = {}
        """Everybody who was seen, by process id."""

    # -- running ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.process = self.spawn("log")

    def spawn(self, log: str) -> subprocess.Popen[bytes]:
        arm = ["--arm", "sim"] if self.has_own_world else ["--arm", str(self.unit.arm_file), "--port", self.port_path]
        camera = [] if self.has_own_world else ["--camera", self.stream.address]
        command = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(self.engine), *arm, *camera]
        command += ["--seconds", "100", "--episode-seconds", "50", *self.words]
        own_world = {WIRE_LOG_VARIABLE: str(self.folder / WIRE_LOG)} if self.has_own_world else {}
        with (self.folder / log).open("wb") as output:
            return subprocess.Popen(
                [*self.wrapper, *command],
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
                env=os.environ | {"TMPDIR": str(_made(self.folder / "tmp"))} | own_world | self.environment,
            )

    def wait_until_moving(self) -> None:
        """The policy moves the arm, for a while that the seed chooses."""
        self.wait_for("  running")
        self.pids = self.children()
        time.sleep(self.dice.uniform(0.2, 1.0))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, f"waited in vain for {what}: {self.log()}"
            time.sleep(0.02)

    def wait_for(self, words: str) -> None:
        self.until(lambda: words in self.log() or self.exit_code is not None, f"'{words}'")
        assert words in self.log(), self.log()

    def end(self) -> int:
        assert self.process is not None
        code = self.process.wait(PATIENCE_S)
        self.ended_s = time.monotonic()
        return code

    # -- what is done to it ------------------------------------------------------------------------------------

    def signal(self, name: str, number: signal.Signals) -> None:
        if number is signal.SIGQUIT and name in ("supervisor", "control_process"):
            self.ask_for_release()
        os.kill(self.pid_of(name), number)

    def signal_all(self, number: signal.Signals) -> None:
        """As a terminal does: to the process group, which its children have left."""
        assert self.process is not None
        if number is signal.SIGQUIT:
            self.ask_for_release()
        os.killpg(self.process.pid, number)

    def ask_for_release(self) -> None:
        """Somebody asks for torque off, wherever the arm is."""
        self.release_asked_ns = time.monotonic_ns()
        self.unit.ask_for_release()

    def mark(self) -> None:
        """The fault strikes now."""
        self.injected_s = time.monotonic()

    # -- how it stands -----------------------------------------------------------------------------------------

    @property
    def exit_code(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def log(self, name: str = "log") -> str:
        return (self.folder / name).read_text(errors="replace")

    def children(self) -> dict[int, str]:
        """Process ids and module names of those it started."""
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

    def assert_nobody_is_left(self) -> None:
        self.until(lambda: not any(_is_running(pid) for pid in self.pids), f"the end of {self.pids}")
        left_behind = [path.name for path in (self.folder / "tmp").glob("sefa-*")]
        assert left_behind == [], f"left behind: {left_behind}"

    def assert_clean(self) -> None:
        """No goal, torque packet or joint broke a rule, in whichever world. Raises AssertionError."""
        if self.has_own_world:
            self.own_arm.play(self.folder / WIRE_LOG, self.release_asked_ns)
            self.own_arm.assert_clean()
            assert self.own_arm.summary().goal_packets > 0
        self.unit.assert_clean()

    def summary(self) -> WireSummary:
        """Figures of whichever world."""
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
    """The library that makes the wall clock jump; None where there is no C compiler."""
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


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
