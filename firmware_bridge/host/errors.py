"""Errors of the arm side.

FaultError
└── ArmFault
    ├── ArmTimeout       nobody answered in time
    ├── ArmUnconfirmed   some servos did not confirm what they were told
    ├── ArmDisconnected  the port is gone
    ├── ArmInterrupted   an emergency stop goes before the request
    ├── JointsOutside    joints stand too far outside the range that their servos keep to
    └── OtherArm         the arm that answers is not the one that was opened before
"""

from __future__ import annotations

from sefa_edge.profiles.errors import FaultError


class ArmFault(FaultError):
    """The arm did not do what it was told."""


class ArmTimeout(ArmFault):
    """No servo answered within the time that its answer takes on the wire."""


class ArmUnconfirmed(ArmFault):
    """Some servos did not confirm what they were told; `joints` are their names."""

    def __init__(self, joints: tuple[str, ...], what: str) -> None:
        super().__init__(
            f"servo of {', '.join(joints)} did not {what}", "check its cable and supply; switch it off and on"
        )
        self.joints = joints


class ArmDisconnected(ArmFault):
    """The serial port vanished: unplugged cable, closed pty, dead adapter."""


class JointsOutside(ArmFault):
    """Joints stand far outside the range that their servos keep to, and would jump; `joints` are their names."""

    def __init__(self, joints: tuple[str, ...], where: str) -> None:
        super().__init__(where, "move it inside by hand, then start again")
        self.joints = joints


class OtherArm(ArmFault):
    """The arm that answers is not the one that was opened before."""


class ArmInterrupted(ArmFault):
    """A request was given up because an emergency stop was asked for."""
