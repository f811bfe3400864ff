"""A setpoint source for programs that set targets at their own rate, such as LeRobot's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.control.safety import Commanded, Envelope
from sefa_edge.edge.control.shaping import Setpoint, resting
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import NONE_NS


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A pose, float64 [n], to come to rest at."""

    joint_deg: np.ndarray

    def setpoint(self, now_ns: int) -> Setpoint:
        return resting(self.joint_deg)


class Targets:
    """The newest target applies, however old it is. Without one the arm does not move.

    `set_target` may be called from another thread than the loop's: it replaces one reference.
    """

    awaits_first = False

    def __init__(self) -> None:
        self._target: Target | None = None
        self.fed_ns = 0

    def set_target(self, target_deg: np.ndarray) -> None:
        """Replace the target, float64 [n] degrees."""
        self._target = Target(target_deg)

    def first_deg(self, start_pose_deg: np.ndarray, present_deg: np.ndarray) -> np.ndarray:
        """The present pose: nothing moves when the torque is switched on."""
        return present_deg

    def start(self, now_ns: int) -> None:
        self.fed_ns = now_ns

    def update(self, chunk: ActionChunk | None, commanded: Commanded, envelope: Envelope, now_ns: int) -> Fault | None:
        """A target does not expire: the program may pause for any length of time."""
        self.fed_ns = now_ns
        return None

    def choose(self, now_ns: int) -> Target | None:
        return self._target

    def playing(self, now_ns: int) -> tuple[int, int, int]:
        """No chunk plays."""
        return NONE_NS, NONE_NS, NONE_NS
