"""The interface between the runtime and an arm of any kind."""

from __future__ import annotations

from typing import Protocol

from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, JointState, Preparation, TorqueReading


class Arm(Protocol):
    """A connected arm. Every call is bounded in time.

    Opening and closing never change the torque: an arm that holds its pose keeps holding it.
    """

    @property
    def joint_names(self) -> tuple[str, ...]: ...

    @property
    def identity(self) -> ArmIdentity:
        """Which arm it is, as its servos reported when it was opened."""
        ...

    def prepare(self) -> Preparation:
        """Write the settings of the profile that a power cut resets. Torque is not touched.

        Raises:
            InputError: it would not be safe to use the arm as it is.
            ArmFault: a servo does not answer or does not confirm a write.
        """
        ...

    def read_state(self) -> JointState:
        """Read every joint once.

        Raises:
            ArmTimeout: no joint answered.
            ArmDisconnected: the port is gone.
        """
        ...

    def send(self, goal: JointGoal) -> None:
        """Send one position command to all joints except those in `goal.left_out`. Raises ArmDisconnected."""
        ...

    def read_command(self) -> HeldCommand:
        """Read torque state and goal of every joint once.

        Raises:
            ArmTimeout: no joint answered.
            ArmDisconnected: the port is gone.
        """
        ...

    def check_position_limits(self) -> None:
        """Check that torque may be switched on at the present position. Writes nothing.

        Raises:
            JointsOutside: joints are outside the position limits of their servos and would jump.
            ArmFault: a joint does not answer, or two readings of its position do not agree.
        """
        ...

    def read_torque(self) -> TorqueReading:
        """Which joints have their torque on, whatever program switched it on. Raises ArmDisconnected."""
        ...

    def enable_torque(self) -> None:
        """Hold the present pose: goal = present first, then torque on, then read back.

        Raises:
            ArmFault: a servo does not confirm.
        """
        ...

    def release_torque(self) -> None:
        """Torque off in every servo, read back. Raises ArmUnconfirmed with the joints that hold or do not answer."""
        ...

    def close(self) -> None:
        """Close the port. Torque stays as it is."""
        ...
