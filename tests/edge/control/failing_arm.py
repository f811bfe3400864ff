"""An arm that raises a chosen error at a chosen call, for failures that a simulated bus produces only by chance."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

import numpy as np

from sefa_edge.firmware_bridge.host.errors import (
    ArmDisconnected,
    ArmFault,
    ArmInterrupted,
    ArmTimeout,
    ArmUnconfirmed,
    JointsOutside,
)
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, JointState, Preparation, TorqueReading
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.plant_arm import PlantArm
from sefa_edge.profiles.schema import ArmProfile

TIMEOUT = ArmTimeout("no servo answers", "check the cables")
GONE = ArmDisconnected("the port is gone", "check the USB cable")
INTERRUPTED = ArmInterrupted("an emergency stop comes first", "")
ELBOW = ("elbow_flex",)
UNCONFIRMED = ArmUnconfirmed(ELBOW, "confirm its torque")
OUTSIDE = JointsOutside(ELBOW, "elbow_flex at 99 deg")


class FailingArm(PlantArm):
    """`errors[name]` are raised by the next calls of the method `name`; None in it lets one call pass."""

    def __init__(self, profile: ArmProfile, clock_ns: Callable[[], int]) -> None:
        super().__init__(profile, KinematicPlant.of_arm(profile, clock_ns), clock_ns)
        self.errors: defaultdict[str, deque[ArmFault | None]] = defaultdict(deque)
        self.calls: list[str] = []
        self.held: HeldCommand | None = None
        """What the registers hold; None: as they are."""
        self.valid = np.ones(len(self.joint_names), bool)

    def fail(self, name: str, *errors: ArmFault | None) -> None:
        self.errors[name].extend(errors)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        error = self.errors[name].popleft() if self.errors[name] else None
        if error is not None:
            raise error

    def prepare(self) -> Preparation:
        self._called("prepare")
        return super().prepare()

    def read_state(self) -> JointState:
        self._called("read_state")
        state = super().read_state()
        state.valid_mask[:] = self.valid
        return state

    def read_command(self) -> HeldCommand:
        self._called("read_command")
        return self.held or super().read_command()

    def send(self, goal: JointGoal) -> None:
        self._called("send")
        super().send(goal)

    def check_position_limits(self) -> None:
        self._called("check_position_limits")

    def read_torque(self) -> TorqueReading:
        self._called("read_torque")
        return super().read_torque()

    def enable_torque(self) -> None:
        self._called("enable_torque")
        super().enable_torque()

    def release_torque(self) -> None:
        self._called("release_torque")
        super().release_torque()

    def close(self) -> None:
        self._called("close")
