"""Feetech servos as a kind of bus for `open_arm`."""

from __future__ import annotations

from contextlib import closing

from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.calibration import Calibration
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.errors import ArmDisconnected
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import open_feetech_arm, torque_off_packet
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.feetech.torque import read_torque, release
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.firmware_bridge.host.serial_wire import SerialWire
from sefa_edge.profiles.schema import ArmProfile


class FeetechServos:
    """Implements `ArmBus`."""

    def open(self, profile: ArmProfile, port: str, calibration: Calibration | None, emergency: Emergency | None) -> Arm:
        """See `open_feetech_arm`."""
        return open_feetech_arm(profile, port, calibration, emergency)

    def read_torque(self, profile: ArmProfile, port: str) -> TorqueReading:
        """From register 40. Raises ArmDisconnected, MissingError."""
        with closing(Link.open(port, profile.feetech.baud)) as link:
            return read_torque(ServoBus(link), profile)

    def release(self, profile: ArmProfile, port: str) -> None:
        """Torque off is sent before anything is read. Raises ArmUnconfirmed, ArmDisconnected, MissingError."""
        wire = SerialWire(port, profile.feetech.baud)
        try:
            wire.write(torque_off_packet(profile))
        except ArmDisconnected:
            wire.close()
            raise
        with closing(Link(wire)) as link:
            release(ServoBus(link), profile)
