"""What center and park have in common: a look at where the arm is, and steps that a person may cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing

import numpy as np

from sefa_edge.edge.arm_service.slow_move import SlowMove, Stopped
from sefa_edge.firmware_bridge.host.arm import Arm


def present_deg(open_arm: Callable[[], Arm]) -> np.ndarray:
    """Where the joints [n] are. Reads only. Raises SefaError."""
    with closing(open_arm()) as arm:
        return arm.read_state().joint_deg


def perform(steps: Iterable[Callable[[], Stopped | None]], move: SlowMove) -> int:
    """Take the steps, tell how the arm is left; the exit code. Raises FaultError."""
    for step in steps:
        stopped = step()
        if stopped is not None:
            print(stopped.message, flush=True)
            return stopped.exit_code
    print(move.words, flush=True)
    return 0
