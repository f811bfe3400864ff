"""Errors of an arm.

FaultError
└── ArmFault
    ├── ArmTimeout       no servo answered in time
    ├── ArmUnconfirmed   some servos did not confirm a command
    ├── ArmDisconnected  the port is gone
    ├── ArmInterrupted   refused because of an emergency stop
    ├── JointsOutside    joints are too far outside the position limits of their servos
    └── OtherArm         the arm that answers is not the one that was opened before
"""

from __future__ import annotations

from sefa_edge.profiles.errors import FaultError


class ArmFault(FaultError):
    """The arm did not carry out a command."""


class ArmTimeout(ArmFault):
    """No servo answered within the time that its answer takes on the wire."""


class ArmUnconfirmed(ArmFault):
    """Some servos did not confirm a command; `joints` are their names."""

    def __init__(self, joints: tuple[str, ...], what: str) -> None:
        super().__init__(
            f"servo of {', '.join(joints)} did not {what}", "check its cable and supply; switch it off and on"
        )
        self.joints = joints


class ArmDisconnected(ArmFault):
    """The serial port vanished: unplugged cable, closed pty, dead adapter."""


class JointsOutside(ArmFault):
    """Joints are far outside the position limits of their servos and would jump; `joints` are their names."""

    def __init__(self, joints: tuple[str, ...], where: str) -> None:
        super().__init__(where, "move it inside by hand, then start again")
        self.joints = joints


class OtherArm(ArmFault):
    """The arm that answers is not the one that was opened before."""


class ArmInterrupted(ArmFault):
    """A request was refused because an emergency stop was requested."""
