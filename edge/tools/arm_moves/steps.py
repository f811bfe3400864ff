"""What center and park share: finding the present pose, and steps that a signal may end early."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.tools.arm_moves.slow_move import Stopped
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.fitted_profile import fit_profile
from sefa_edge.profiles.schema import ArmProfile


@dataclass(frozen=True, slots=True, eq=False)
class FoundArm:
    """An arm before it moves: its profile inside its own range, and where its joints [n] are."""

    profile: ArmProfile
    joint_deg: np.ndarray


def find_arm(open_arm: Callable[[], Arm], profile: ArmProfile) -> FoundArm:
    """Open the arm, read its pose, and print the notes about its range. Raises SefaError."""
    with closing(open_arm()) as arm:
        fitted = fit_profile(profile, arm.identity.calibration)
        for note in fitted.notes:
            print(f"note: {note}", file=sys.stderr, flush=True)
        return FoundArm(fitted.profile, arm.read_state().joint_deg)


def perform(steps: Iterable[Callable[[], Stopped | None]]) -> Stopped | None:
    """Take the steps until a signal stops them. Raises FaultError."""
    for step in steps:
        stopped = step()
        if stopped is not None:
            return stopped
    return None


def report_end(stopped: Stopped | None, arrived: str) -> int:
    """Print how it ended; returns the exit code."""
    print(arrived if stopped is None else stopped.message, flush=True)
    return 0 if stopped is None else stopped.exit_code
