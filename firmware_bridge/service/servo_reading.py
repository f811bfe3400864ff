"""The state of every servo of an arm in one sync read. Reads only.

Unlike `FeetechArm` it accepts silent and uncalibrated servos, because a faulty arm must be inspectable.
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
"""9..12: lowest and highest position, in which LeRobot keeps the range of a joint."""
KIND_BLOCK = Block(MODEL_NUMBER.address, struct.Struct("<H28xB"))
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
class ServoKind:
    """A servo's model number and operating mode."""

    model: int
    operating_mode: int


def read_kinds(bus: ServoBus, profile: ArmProfile) -> list[ServoKind | None]:
    """Model and operating mode per joint, in the profile's order; None: no answer. Raises ArmDisconnected."""
    answers = _read_with_retries(bus, profile, KIND_BLOCK)
    found = {servo_id: ServoKind(*KIND_BLOCK.layout.unpack(answer.parameters)) for servo_id, answer in answers.items()}
    return [found.get(joint.servo_id) for joint in profile.joints]


def read_servos(bus: ServoBus, profile: ArmProfile) -> list[ServoReading | None]:
    """One reading per joint, in the profile's order; None: no answer. Raises ArmDisconnected."""
    answers = _read_with_retries(bus, profile, READING_BLOCK)
    return [_reading(answers[joint.servo_id]) if joint.servo_id in answers else None for joint in profile.joints]


def read_scales(bus: ServoBus, profile: ArmProfile, calibration: Calibration | None) -> list[JointScale | None]:
    """The map between ticks and joint units per joint, in the profile's order; None: no answer, or never calibrated.

    Args:
        calibration: from a file; None: use the one in the servos.

    Raises:
        ArmDisconnected: the port is gone.
    """
    if calibration is not None:
        return [joint_scale(*pair) for pair in zip(profile.joints, calibration.joints, strict=True)]
    answers = _read_with_retries(bus, profile, LIMITS_BLOCK)
    return [_scale(joint, answers.get(joint.servo_id)) for joint in profile.joints]


def _read_with_retries(bus: ServoBus, profile: ArmProfile, block: Block) -> dict[int, Packet]:
    """Answers by id; servos that do not answer are read again, because a packet may be damaged."""
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
