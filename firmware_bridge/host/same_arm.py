"""Reconnecting to an arm: only the arm that was opened first is accepted."""

from __future__ import annotations

from collections.abc import Callable

from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.errors import OtherArm


class SameArm:
    """Opens an arm again each time its port comes back, and refuses any arm but the first.

    The port may come back with another arm on it, which would jump if it were energised with the first one's goals and
    calibration.
    """

    def __init__(self, open_arm: Callable[[], Arm], expected: ArmIdentity | None = None) -> None:
        """`expected`: the arm that must answer; None: the first one that is opened."""
        self._open_arm = open_arm
        self.expected = expected
        """The arm that must answer; None: none was opened yet."""

    def __call__(self) -> Arm:
        """Open the arm. Nothing is written to it.

        Raises:
            OtherArm: it is not the arm from before; its port is closed again.
            SefaError: opening it failed.
        """
        arm = self._open_arm()
        if self.expected is None:
            self.expected = arm.identity
        difference = self.expected.difference(arm.identity, arm.joint_names)
        if difference:
            arm.close()
            raise OtherArm(
                f"another arm answers on this port: {difference}",
                "plug the first arm in again; to use this one, start a new run",
            )
        return arm
