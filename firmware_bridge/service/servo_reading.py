"""Everything about every servo of an arm in one sync read, healthy or not. Reads only.

Unlike `FeetechArm` this minds neither a silent servo nor one that is not calibrated: a sick arm must be looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from sefa_edge.firmware_bridge.host.calibration import (
    ENCODER_MAX_TICKS,
    Calibration,
    JointCalibration,
    JointScale,
    joint_scale,
)
from sefa_edge.firmware_bridge.host.feetech.protocol import Packet
from sefa_edge.firmware_bridge.host.feetech.registers import (
    CURRENT_MA,
    GOAL_POSITION,
    LOAD_PCT,
    MIN_POSITION,
    MODEL_NUMBER,
    PRESENT_CURRENT,
    PRESENT_LOAD,
    PRESENT_POSITION,
    TORQUE_ENABLE,
    VOLTAGE_MV,
    Block,
    decode_sign_magnitude,
)
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.profiles.schema import ArmProfile, JointProfile

READING_BLOCK = Block(TORQUE_ENABLE.address, struct.Struct("<BxH12xHxxHBBxBxxxH"))
"""40..70: torque, goal, position, load, voltage, temperature, status, current (raw)."""
LIMITS_BLOCK = Block(MIN_POSITION.address, struct.Struct("<HH"))
"""9..12: lowest and highest position, where LeRobot keeps the range of a joint."""
MAKE_BLOCK = Block(MODEL_NUMBER.address, struct.Struct("<H28xB"))
"""3..33: model number and operating mode."""
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ServoReading:
    """One answer of one servo."""

    torque: int
    goal_ticks: int
    position_ticks: int
    load_pct: float
    current_ma: float
    supply_mv: int
    temperature_c: int
    status_bits: int


@dataclass(frozen=True, slots=True)
class ServoMake:
    """What a servo is and how it is meant to turn."""

    model: int
    operating_mode: int


def read_makes(bus: ServoBus, profile: ArmProfile) -> list[ServoMake | None]:
    """Model and operating mode per joint, in the profile's order; None: silent. Raises ArmDisconnected."""
    answers = _insist(bus, profile, MAKE_BLOCK)
    found = {servo_id: ServoMake(*MAKE_BLOCK.layout.unpack(answer.parameters)) for servo_id, answer in answers.items()}
    return [found.get(joint.servo_id) for joint in profile.joints]


def read_servos(bus: ServoBus, profile: ArmProfile) -> list[ServoReading | None]:
    """One reading per joint, in the profile's order; None: silent. Raises ArmDisconnected."""
    answers = _insist(bus, profile, READING_BLOCK)
    return [_reading(answers[joint.servo_id]) if joint.servo_id in answers else None for joint in profile.joints]


def read_scales(bus: ServoBus, profile: ArmProfile, calibration: Calibration | None) -> list[JointScale | None]:
    """How ticks and joint units belong together, in the profile's order; None: silent, or never calibrated.

    Args:
        calibration: from a file; None: what the servos carry counts.

    Raises:
        ArmDisconnected: the port is gone.
    """
    if calibration is not None:
        return [joint_scale(*pair) for pair in zip(profile.joints, calibration.joints, strict=True)]
    answers = _insist(bus, profile, LIMITS_BLOCK)
    return [_scale(joint, answers.get(joint.servo_id)) for joint in profile.joints]


def _insist(bus: ServoBus, profile: ArmProfile, block: Block) -> dict[int, Packet]:
    """Answers of all; whoever is silent is asked again, because one disturbed packet is no silence."""
    missing: Sequence[int] = [joint.servo_id for joint in profile.joints]
    answers: dict[int, Packet] = {}
    for _ in range(ATTEMPTS):
        answers |= bus.sync_read(missing, block)
        missing = [joint.servo_id for joint in profile.joints if joint.servo_id not in answers]
        if not missing:
            break
    return answers


def _reading(answer: Packet) -> ServoReading:
    torque, goal, position, load, voltage, temperature, status, current = READING_BLOCK.layout.unpack(answer.parameters)
    return ServoReading(
        torque=torque,
        goal_ticks=decode_sign_magnitude(goal, GOAL_POSITION.sign_bit),
        position_ticks=decode_sign_magnitude(position, PRESENT_POSITION.sign_bit),
        load_pct=decode_sign_magnitude(load, PRESENT_LOAD.sign_bit) * LOAD_PCT,
        current_ma=decode_sign_magnitude(current, PRESENT_CURRENT.sign_bit) * CURRENT_MA,
        supply_mv=voltage * VOLTAGE_MV,
        temperature_c=temperature,
        status_bits=answer.code | status,
    )


def _scale(joint: JointProfile, answer: Packet | None) -> JointScale | None:
    if answer is None:
        return None
    low, high = LIMITS_BLOCK.layout.unpack(answer.parameters)
    full_turn = (low, high) == (0, ENCODER_MAX_TICKS)
    if low >= high or (full_turn and joint.unit == "percent"):
        return None
    return joint_scale(joint, JointCalibration(joint.servo_id, 0, 0, low, high))
