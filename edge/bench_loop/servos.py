"""Simulated servos on a serial port, in a process of their own as real ones are hardware of their own.

    python -m sefa_edge.edge.bench_loop.servos --config FD

No world around them and no physics engine: every joint follows its goal like a first-order lag.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from sefa_edge.edge.process import child_main
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.schema import load_arm_profile
from sefa_edge.profiles.strict import StrictModel
from sefa_edge.profiles.units import s_to_ns

REALTIME_PRIORITY = 40
"""Below the control process: where it is permitted, no load makes the servos answer late."""


class ServosConfig(StrictModel):
    """What the process is told: an arm profile, and where its serial port is to appear."""

    arm: str
    port: str


def main(content: bytes) -> int:
    """Serve until killed. Raises InputError when the port cannot be made."""
    config = ServosConfig.model_validate_json(content)
    profile = load_arm_profile(config.arm)
    port = PtyPort(SimulatedBus.of_arm(profile, KinematicPlant.of_arm(profile)), Path(config.port))
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(REALTIME_PRIORITY))
    while True:
        port.serve_until(time.monotonic_ns() + s_to_ns(1.0))


if __name__ == "__main__":
    raise SystemExit(child_main(main))
