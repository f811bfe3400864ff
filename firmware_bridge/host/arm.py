"""What the runtime asks of an arm, whatever hangs on the other end of the cable."""

from __future__ import annotations

from typing import Protocol

from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, JointState, Preparation, TorqueReading


class Arm(Protocol):
    """An arm that is connected. Every call is bounded in time.

    Connecting and closing never change the torque: an arm that stands stays standing.
    """

    @property
    def joint_names(self) -> tuple[str, ...]: ...

    @property
    def identity(self) -> ArmIdentity:
        """Which arm it is, as its servos said when it was opened."""
        ...

    def prepare(self) -> Preparation:
        """Set up what the profile says and a power cut undoes. Torque is not touched.

        Raises:
            InputError: it would not be safe to use the arm as it is.
            ArmFault: a part of it is silent or unwilling.
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
        """Send one position command to all joints but those of `goal.left_out`. Raises ArmDisconnected."""
        ...

    def read_command(self) -> HeldCommand:
        """Ask every joint once for its torque and its goal.

        Raises:
            ArmTimeout: no joint answered.
            ArmDisconnected: the port is gone.
        """
        ...

    def check_position_limits(self) -> None:
        """Whether the torque may be switched on where the arm stands. Writes nothing.

        Raises:
            JointsOutside: joints would jump, because they stand outside the range that their servos keep to.
            ArmFault: a joint does not answer, or reports another position each time it is asked.
        """
        ...

    def read_torque(self) -> TorqueReading:
        """Which joints have their torque on, whichever program switched it on. Raises ArmDisconnected."""
        ...

    def enable_torque(self) -> None:
        """Hold the present pose: goal = present first, then torque on, then read back.

        Raises:
            ArmFault: a servo does not confirm.
        """
        ...

    def release_torque(self) -> None:
        """Torque off in every servo that hears it, read back. Raises ArmUnconfirmed: who still holds, or is silent."""
        ...

    def close(self) -> None:
        """Give the port back. Torque stays as it is."""
        ...
