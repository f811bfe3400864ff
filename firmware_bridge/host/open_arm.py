"""From an arm profile and a port to an `Arm`: the only place that knows which kinds of bus exist.

`feetech` is built in. Another distribution adds a kind with an entry point in the group `sefa_edge.buses`, named like
`bus: {kind: ...}` of the profile, whose object is an `ArmBus`; every process of a run loads it automatically.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Protocol

from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.calibration import Calibration
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.profiles.errors import MissingError
from sefa_edge.profiles.schema import ArmProfile

GROUP = "sefa_edge.buses"


class ArmBus(Protocol):
    """A kind of bus. Only `release` changes the torque."""

    def open(self, profile: ArmProfile, port: str, calibration: Calibration | None, emergency: Emergency | None) -> Arm:
        """Open the arm; nothing is written to it.

        Args:
            calibration: of this arm; None: the one stored in the arm itself.
            emergency: takes precedence over everything that is sent to this arm.

        Raises:
            MissingError: no such port, no permission, or another program uses it.
            InputError: it is not the arm of the profile.
            ArmFault: it does not answer, or the port vanished.
        """
        ...

    def read_torque(self, profile: ArmProfile, port: str) -> TorqueReading:
        """Which joints have their torque on; the arm need not be calibrated.

        Raises:
            ArmDisconnected: the port vanished.
            MissingError: the port cannot be opened.
        """
        ...

    def release(self, profile: ArmProfile, port: str) -> None:
        """One attempt at torque off, sent before anything is read, then read back; the arm need not be calibrated.

        Raises:
            ArmUnconfirmed: the joints that did not confirm.
            ArmDisconnected: the port vanished.
            MissingError: the port cannot be opened.
        """
        ...


def open_arm(
    profile: ArmProfile, port: str, calibration: Calibration | None, emergency: Emergency | None = None
) -> Arm:
    """Open the arm of a profile, on any kind of bus; see `ArmBus.open`."""
    return bus_of(profile).open(profile, port, calibration, emergency)


def bus_of(profile: ArmProfile) -> ArmBus:
    """The bus of a profile. Raises MissingError if no installed distribution provides its kind."""
    kind = profile.bus.kind
    if kind == "feetech":
        from sefa_edge.firmware_bridge.host.feetech.bus import FeetechServos

        return FeetechServos()
    for entry in entry_points(group=GROUP, name=kind):
        return entry.load()
    raise MissingError(
        f"the arm {profile.name} needs a bus of kind '{kind}', which is not installed",
        f"install the package that provides it (entry point '{kind}' of {GROUP}), or use `kind: feetech`",
    )
