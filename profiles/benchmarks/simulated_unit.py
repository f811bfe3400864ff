"""Shared by the benchmarks of whole runs: a simulated arm, camera images, and the memory of processes.

Not a program. The programs beside it import it by its name, because the folder of a program is on the path.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sefa_edge.edge.pictures import write_picture
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM

ENGINE = Path(__file__).resolve().parents[2] / "edge/shipped/lift/model.onnx"
PICTURES = 30
CAMERA_SIZE = (480, 640)
SERVO_PRIORITY = 40
PATIENCE_S = 30.0
OVERLOADED = "is this machine overloaded?"

SERVOS = f"""
import sys, time
from pathlib import Path
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.arms import load_arm_profile

class Plant(KinematicPlant):
    powered = frozenset()

    def set_torque(self, index, on):
        if on and not self.powered:
            print(time.monotonic_ns(), flush=True)
        self.powered = self.powered | {{index}} if on else self.powered - {{index}}
        super().set_torque(index, on)

profile = load_arm_profile("{SIMULATED_ARM}")
port = PtyPort(SimulatedBus.of_arm(profile, Plant.of_arm(profile)), Path(sys.argv[1]))
while True:
    port.serve_until(time.monotonic_ns() + 10**9)
"""
"""Program of the servos' process, separate because real servos are separate hardware. Prints when torque goes on."""


@dataclass(frozen=True, slots=True)
class Unit:
    """An arm behind a serial port, and a folder with its camera's images, 640 x 480."""

    port: Path
    pictures: Path
    servos: subprocess.Popen[str]

    def run_command(self, engine: Path, *arguments: str) -> list[str]:
        """The command of a `sefa-edge run` on this unit."""
        command = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(engine), "--video", "none"]
        return [
            *command,
            "--arm",
            SIMULATED_ARM,
            "--port",
            str(self.port),
            "--camera",
            f"images:{self.pictures}",
            *arguments,
        ]

    def wait_for_torque(self) -> int:
        """Wait until the servos receive torque on; returns the time (CLOCK_MONOTONIC, ns)."""
        assert self.servos.stdout is not None
        return int(self.servos.stdout.readline())


@contextlib.contextmanager
def simulated_unit() -> Iterator[Unit]:
    """A unit that runs until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="sefa-edge-unit-") as folder:
        port, pictures = Path(folder) / "arm", Path(folder) / "pictures"
        pictures.mkdir()
        write_images(pictures)
        servos = subprocess.Popen([sys.executable, "-c", SERVOS, str(port)], stdout=subprocess.PIPE, text=True)
        with contextlib.suppress(PermissionError):  # other load on the machine does not slow down real servos
            os.sched_setscheduler(servos.pid, os.SCHED_FIFO, os.sched_param(SERVO_PRIORITY))
        try:
            _wait_for(port)
            yield Unit(port, pictures, servos)
        finally:
            servos.kill()
            servos.wait()


def error_in(output: str) -> str:
    """The error line in the output of a run, if there is one."""
    return next((line for line in output.splitlines() if line.startswith("error: ")), "")


def write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    height, width = CAMERA_SIZE
    for number in range(PICTURES):
        picture = rng.integers(80, 110, (height, width, 3), np.uint8)
        left = number * (width - 80) // PICTURES
        picture[200:280, left : left + 80] = (200, 30, 30)
        write_picture(folder / f"{number:03}.jpg", picture)


def _wait_for(path: Path) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > give_up_s:
            raise SefaError("the simulated servos do not start", OVERLOADED)
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of one process. `rss_kb` counts a shared page for every process that maps it, `pss_kb` its share of it."""

    pid: int
    name: str
    rss_kb: int
    pss_kb: int
    anonymous_kb: int
    files_kb: dict[tuple[str, str], int]
    """Resident pages of files and shared memory, by device and inode with offset."""
    descriptors: int
    threads: int

    def as_row(self) -> dict[str, object]:
        """Its numbers, without the map of its files."""
        return {key: value for key, value in asdict(self).items() if key != "files_kb"}


def runtime_processes(supervisor_pid: int) -> list[int]:
    """A supervisor and its children, oldest first."""
    children = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == supervisor_pid:
                children.append(int(entry.name))
    return [supervisor_pid, *sorted(children)]


def footprint(pid: int) -> Footprint:
    """The memory, descriptors and threads of a process now. Raises OSError if it has ended."""
    folder = Path(f"/proc/{pid}")
    totals, files = defaultdict(int), defaultdict(int)
    mapping = ("", "")
    for line in (folder / "smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            mapping = (f"{words[3]} {words[4]}", words[2])
        elif words[0] in ("Rss:", "Pss:", "Anonymous:"):
            totals[words[0]] += int(words[1])
            files[mapping] += {"Rss:": 1, "Anonymous:": -1}.get(words[0], 0) * int(words[1])
    command = (folder / "cmdline").read_text().split("\0")
    if len(command) < 3:
        raise ProcessLookupError(f"process {pid} has ended")
    module = command[2].rpartition(".")[2]
    return Footprint(
        pid=pid,
        name="supervisor" if module == "sefa_edge" else module.removesuffix("_process"),
        rss_kb=totals["Rss:"],
        pss_kb=totals["Pss:"],
        anonymous_kb=totals["Anonymous:"],
        files_kb={key: size for key, size in files.items() if size > 0},
        descriptors=len(os.listdir(folder / "fd")),
        threads=len(os.listdir(folder / "task")),
    )


def resident_once_kb(footprints: Sequence[Footprint]) -> int:
    """Memory that these processes keep resident, a page of a file counted once.

    PSS is smaller if any other process maps the same libraries, so the limit applies to this number.
    """
    shared: dict[tuple[str, str], int] = {}
    for process in footprints:
        for key, size in process.files_kb.items():
            shared[key] = max(shared.get(key, 0), size)
    return sum(process.anonymous_kb for process in footprints) + sum(shared.values())
