"""What center and park have in common: a look at where the arm is, and steps that a person may cut short."""

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
    """Open the arm, read where it is, and say what a person should know about its range. Raises SefaError."""
    with closing(open_arm()) as arm:
        fitted = fit_profile(profile, arm.identity.calibration)
        for note in fitted.notes:
            print(f"note: {note}", file=sys.stderr, flush=True)
        return FoundArm(fitted.profile, arm.read_state().joint_deg)


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
