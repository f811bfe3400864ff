"""Errors of the arm side.

FaultError
└── ArmFault
    ├── ArmTimeout       nobody answered in time
    └── ArmDisconnected  the port is gone
"""

from __future__ import annotations

from sefa_edge.profiles.errors import FaultError


class ArmFault(FaultError):
    """The arm did not do what it was told."""


class ArmTimeout(ArmFault):
    """No servo answered within the time that its answer takes on the wire."""


class ArmDisconnected(ArmFault):
    """The serial port vanished: unplugged cable, closed pty, dead adapter."""
