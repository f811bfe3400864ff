"""The arm that comes back is the arm that left."""

from __future__ import annotations

from collections.abc import Callable

from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.errors import OtherArm


class SameArm:
    """Opens an arm as often as its port comes back, and refuses another one than the first.

    A port may return as another arm's: energised with the first one's goals and calibration, that one would jump.
    """

    def __init__(self, open_arm: Callable[[], Arm], expected: ArmIdentity | None = None) -> None:
        """`expected`: who must answer the first time, too; None: whoever does."""
        self._open_arm = open_arm
        self.expected = expected
        """The arm that was opened first; None: none has been yet."""

    def __call__(self) -> Arm:
        """The arm, opened. Nothing is written to it.

        Raises:
            OtherArm: it is another one than before; its port is closed again.
            SefaError: what opening it raises.
        """
        arm = self._open_arm()
        if self.expected is None:
            self.expected = arm.identity
        difference = self.expected.difference(arm.identity, arm.joint_names)
        if difference:
            arm.close()
            raise OtherArm(
                f"another arm answers on this port: {difference}",
                "plug the first arm in again; to use this one, start anew",
            )
        return arm
