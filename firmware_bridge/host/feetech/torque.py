"""The torque of all servos of an arm over its bus: which hold, and torque off, read back."""

from __future__ import annotations

from sefa_edge.firmware_bridge.host.errors import ArmTimeout, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech.registers import TORQUE_BLOCK, TORQUE_OFF
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.profiles.schema import ArmProfile

ATTEMPTS = 5


def release(bus: ServoBus, profile: ArmProfile) -> None:
    """Torque off wherever it is heard, and read back. Raises ArmUnconfirmed, ArmDisconnected."""
    left = {joint.servo_id: joint.name for joint in profile.joints}
    for _ in range(ATTEMPTS):
        bus.sync_write(TORQUE_BLOCK.address, [(servo_id, bytes((TORQUE_OFF,))) for servo_id in left])
        for servo_id, answer in bus.sync_read(tuple(left), TORQUE_BLOCK).items():
            if servo_id in left and answer.parameters[0] == TORQUE_OFF:
                del left[servo_id]
        if not left:
            return
    raise ArmUnconfirmed(tuple(left.values()), "confirm that its torque is off; the others are free")


def joints_holding(bus: ServoBus, profile: ArmProfile) -> list[str]:
    """Joints whose torque is on, or who do not say. Raises ArmTimeout: nobody answers; ArmDisconnected."""
    servo_ids = [joint.servo_id for joint in profile.joints]
    answers = {}
    for _ in range(ATTEMPTS):
        answers |= bus.sync_read(servo_ids, TORQUE_BLOCK)
        if answers.keys() >= set(servo_ids):
            break
    if not answers:
        raise ArmTimeout(
            f"no servo of {profile.name} answers on {bus.link.port} at {bus.link.baud} baud",
            "is this the right port? an arm without supply is free already",
        )
    return [
        joint.name
        for joint in profile.joints
        if joint.servo_id not in answers or answers[joint.servo_id].parameters[0] != TORQUE_OFF
    ]
