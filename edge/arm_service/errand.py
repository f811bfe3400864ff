"""What center and park have in common: a look at where the arm is, and steps that a person may cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing

import numpy as np

from sefa_edge.edge.arm_service.slow_move import Stopped
from sefa_edge.firmware_bridge.host.arm import Arm


def present_deg(open_arm: Callable[[], Arm]) -> np.ndarray:
    """Where the joints [n] are. Reads only. Raises SefaError."""
    with closing(open_arm()) as arm:
        return arm.read_state().joint_deg


def perform(steps: Iterable[Callable[[], Stopped | None]]) -> Stopped | None:
    """Take the steps until a person stops them. Raises FaultError."""
    for step in steps:
        stopped = step()
        if stopped is not None:
            return stopped
    return None


def tell(stopped: Stopped | None, arrived: str) -> int:
    """Say how it ended; the exit code."""
    print(arrived if stopped is None else stopped.message, flush=True)
    return 0 if stopped is None else stopped.exit_code
