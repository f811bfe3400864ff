"""The torque of all servos of an arm: read it, and switch it off with read-back."""

from __future__ import annotations

from sefa_edge.firmware_bridge.host.errors import ArmTimeout, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech.registers import TORQUE_BLOCK, TORQUE_OFF
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.profiles.schema import ArmProfile

ATTEMPTS = 5


def release(bus: ServoBus, profile: ArmProfile) -> None:
    """Torque off in all servos, read back. Raises ArmUnconfirmed, ArmDisconnected."""
    left = {joint.servo_id: joint.name for joint in profile.joints}
    for _ in range(ATTEMPTS):
        bus.sync_write(TORQUE_BLOCK.address, [(servo_id, bytes((TORQUE_OFF,))) for servo_id in left])
        for servo_id, answer in bus.sync_read(tuple(left), TORQUE_BLOCK).items():
            if servo_id in left and answer.parameters[0] == TORQUE_OFF:
                del left[servo_id]
        if not left:
            return
    raise ArmUnconfirmed(tuple(left.values()), "confirm that its torque is off; the others are free")


def read_torque(bus: ServoBus, profile: ArmProfile) -> TorqueReading:
    """Register 40 of every servo. Writes nothing. Raises ArmDisconnected."""
    left = {joint.servo_id: joint.name for joint in profile.joints}
    on: set[str] = set()
    for _ in range(ATTEMPTS):
        for servo_id, answer in bus.sync_read(tuple(left), TORQUE_BLOCK).items():
            name = left.pop(servo_id, None)
            if name is not None and answer.parameters[0] != TORQUE_OFF:
                on.add(name)
        if not left:
            break
    return TorqueReading(tuple(name for name in profile.joint_names if name in on), tuple(left.values()))


def joints_holding(bus: ServoBus, profile: ArmProfile) -> list[str]:
    """Joints whose torque is on or unknown. Raises ArmTimeout if no servo answers; ArmDisconnected."""
    torque = read_torque(bus, profile)
    if len(torque.unknown) == len(profile.joints):
        raise ArmTimeout(
            f"no servo of {profile.name} answers on {bus.link.port} at {bus.link.baud} baud",
            "is this the right port? an arm without supply is already released",
        )
    return [name for name in profile.joint_names if name in torque.on or name in torque.unknown]
