"""The only place that knows which kinds of bus there are: from an arm profile and a port to an `Arm`.

`feetech` is built in. Another distribution adds a kind with an entry point of the group `sefa_edge.buses`, named as
`bus: {kind: ...}` of the profile, whose object is an `ArmBus`; every process of a run finds it by itself.
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
    """A kind of bus. None of these calls changes a torque but `release`."""

    def open(self, profile: ArmProfile, port: str, calibration: Calibration | None, emergency: Emergency | None) -> Arm:
        """Open the arm; nothing is written to it.

        Args:
            calibration: of this arm; None: what the arm itself carries.
            emergency: goes before everything that is sent to this arm.

        Raises:
            MissingError: no such port, no permission, or another program has it.
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
        """One attempt at torque off, sent before anything is asked, then read back; the arm need not be calibrated.

        Raises:
            ArmUnconfirmed: the joints that did not confirm.
            ArmDisconnected: the port vanished.
            MissingError: the port cannot be opened.
        """
        ...


def open_arm(
    profile: ArmProfile, port: str, calibration: Calibration | None, emergency: Emergency | None = None
) -> Arm:
    """Open the arm of a profile, whatever it hangs on; see `ArmBus.open`."""
    return bus_of(profile).open(profile, port, calibration, emergency)


def bus_of(profile: ArmProfile) -> ArmBus:
    """The bus of a profile. Raises MissingError where no installed distribution knows its kind."""
    kind = profile.bus.kind
    if kind == "feetech":
        from sefa_edge.firmware_bridge.host.feetech.bus import FeetechServos

        return FeetechServos()
    for entry in entry_points(group=GROUP, name=kind):
        return entry.load()
    raise MissingError(
        f"no bus of kind '{kind}' is installed, which the arm {profile.name} hangs on",
        f"install the package that brings it (entry point '{kind}' of {GROUP}), or use `kind: feetech`",
    )
