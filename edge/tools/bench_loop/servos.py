"""Simulated servos on a serial port, in a separate process, as real servos are separate hardware.

    python -m sefa_edge.edge.tools.bench_loop.servos --config FD

There is no world and no physics engine: every joint follows its goal with a first-order lag.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sefa_edge.edge.ipc.process import Child, ChildSpec, child_main
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import FaultError
from sefa_edge.profiles.strict import StrictModel
from sefa_edge.profiles.units import s_to_ns

REALTIME_PRIORITY = 40
"""Below the control process. Where permitted, it keeps the servos' replies on time under load."""

START_TIMEOUT_S = 20.0
POLL_S = 0.02


class ServosConfig(StrictModel):
    """Configuration of the process: an arm profile, and the path for its serial port."""

    arm: str
    port: str


def main(content: bytes) -> int:
    """Serve until killed. Raises InputError when the port cannot be created."""
    config = ServosConfig.model_validate_json(content)
    profile = load_arm_profile(config.arm)
    port = PtyPort(SimulatedBus.of_arm(profile, KinematicPlant.of_arm(profile)), Path(config.port))
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(REALTIME_PRIORITY))
    while True:
        port.serve_until(time.monotonic_ns() + s_to_ns(1.0))


@contextlib.contextmanager
def simulated_servos(arm: str, cpus: frozenset[int]) -> Iterator[Path]:
    """Start servos of an arm profile in a process on these cores (empty: any) and yield their serial port.

    Raises:
        SefaError: the servos do not start.
    """
    with tempfile.TemporaryDirectory(prefix="sefa-edge-") as folder:
        port = Path(folder) / "arm"
        config = ServosConfig(arm=arm, port=str(port)).model_dump_json()
        servos = Child(ChildSpec("simulated servos", "sefa_edge.edge.tools.bench_loop.servos", config, ()))
        servos.pin(cpus)
        try:
            _await_port(servos, port)
            yield port
        finally:
            servos.stop(patience_s=1.0)
            servos.close()


def _await_port(servos: Child, port: Path) -> None:
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while not port.is_symlink():
        if servos.wait(POLL_S) is not None:
            raise servos.failure()
        if time.monotonic() > give_up_s:
            raise FaultError("the simulated servos do not start", "is this machine overloaded?")


if __name__ == "__main__":
    raise SystemExit(child_main(main))
