"""The calibration in the servos' registers: read here, and written nowhere else.

A servo keeps homing offset (31) and position limits (9, 11) in EEPROM. Torque must be off: changing the offset moves
the goal of a servo that holds.
"""

from __future__ import annotations

from sefa_edge.firmware_bridge.host.calibration import Calibration, JointCalibration
from sefa_edge.firmware_bridge.host.errors import ArmFault, ArmTimeout, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech.eeprom import Servo, open_eeprom, write_register
from sefa_edge.firmware_bridge.host.feetech.identity import ATTEMPTS, REGISTER_OF_FIELD, read_identities
from sefa_edge.firmware_bridge.host.feetech.registers import (
    PRESENT_BLOCK,
    PRESENT_POSITION,
    TORQUE_BLOCK,
    TORQUE_OFF,
    Block,
    decode_sign_magnitude,
    encode_sign_magnitude,
)
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.feetech.torque import read_torque
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.profiles.errors import FaultError, InputError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import SERVO_TICKS_PER_TURN

HALF_TURN_TICKS = SERVO_TICKS_PER_TURN // 2
SHIFT_SLACK_TICKS = 40
"""How far a limp joint may drift between the readings just before and after its offset is written: 3.5 degrees."""


class CalibrationRegisters:
    """Calibration registers of the servos of an arm, on an open bus."""

    def __init__(self, bus: ServoBus, profile: ArmProfile) -> None:
        """Read the calibration in the servos; nothing is written.

        Raises:
            ArmTimeout: a servo does not answer.
            InputError: another model of servo, or one that is not in position mode.
            ArmDisconnected: the port is gone.
        """
        self._bus = bus
        self._profile = profile
        self._servo_ids = [joint.servo_id for joint in profile.joints]
        self.carried = self._read()

    def encoder_ticks(self) -> tuple[int | None, ...]:
        """Encoder positions before the homing offset, 0..4095; None where a servo does not answer.

        Raises:
            ArmDisconnected: the port is gone.
        """
        answers = self._bus.sync_read(self._servo_ids, PRESENT_BLOCK)
        return tuple(
            _encoder_ticks(answers[entry.servo_id].parameters, entry) if entry.servo_id in answers else None
            for entry in self.carried.joints
        )

    def all_encoder_ticks(self) -> tuple[int, ...]:
        """Encoder positions of all joints in one reading.

        Raises:
            ArmTimeout: a servo does not answer.
            ArmDisconnected: the port is gone.
        """
        found: tuple[int | None, ...] = ()
        for _ in range(ATTEMPTS):
            found = self.encoder_ticks()
            complete = tuple(ticks for ticks in found if ticks is not None)
            if len(complete) == len(found):
                return complete
        silent = tuple(name for name, ticks in zip(self._profile.joint_names, found, strict=True) if ticks is None)
        raise _no_answer(silent, "report its position")

    def holding(self) -> tuple[str, ...]:
        """Joints whose torque is on.

        Raises:
            ArmTimeout: a servo does not answer.
            ArmDisconnected: the port is gone.
        """
        torque = self._read_block(TORQUE_BLOCK, "report its torque")
        return tuple(name for name, on in zip(self._profile.joint_names, torque, strict=True) if on[0] != TORQUE_OFF)

    def read_torque(self) -> TorqueReading:
        """Which joints have their torque on, and which do not answer. Raises ArmDisconnected."""
        return read_torque(self._bus, self._profile)

    def release(self) -> None:
        """Torque off in all servos, read back: the arm sags. Raises ArmUnconfirmed, ArmTimeout, ArmDisconnected."""
        off = [(servo_id, bytes((TORQUE_OFF,))) for servo_id in self._servo_ids]
        holding = self._profile.joint_names
        for _ in range(ATTEMPTS):
            self._bus.sync_write(TORQUE_BLOCK.address, off)
            holding = self.holding()
            if not holding:
                return
        raise ArmUnconfirmed(holding, "switch its torque off")

    def write(self, wanted: Calibration) -> None:
        """Write a calibration to the servos; when one of them fails, the old one is restored in all.

        Right after its servo was written, each joint must read its old position shifted by the change of its offset.

        Raises:
            InputError: the torque of a servo is on; nothing was written.
            ArmTimeout: a servo does not answer; nothing was written.
            ArmFault: writing failed. The message says whether all servos have their old numbers again.
        """
        holding = self.holding()
        if holding:
            raise InputError(f"the torque is on: {', '.join(holding)}", "the torque must be off; hold the arm")
        before = self.carried
        try:
            for name, old, new in zip(self._profile.joint_names, before.joints, wanted.joints, strict=True):
                at = self._encoder(name, old)
                self._write_joint(name, new)
                _require_same_place(name, at, self._encoder(name, new))
            self.carried = self._read()
        except FaultError as error:
            raise self._restore(before, error) from None

    def _restore(self, before: Calibration, cause: FaultError) -> ArmFault:
        try:
            for name, old in zip(self._profile.joint_names, before.joints, strict=True):
                self._write_joint(name, old)
        except FaultError as error:
            return ArmFault(
                f"{cause}; restoring the old numbers failed too: {error}; servos may have a mixture of both",
                "when all servos answer again, restore the old numbers with --restore",
            )
        return ArmFault(f"{cause}; all servos have their old numbers again", cause.hint)

    def _write_joint(self, name: str, entry: JointCalibration) -> None:
        servo = Servo(entry.servo_id, name)
        with open_eeprom(self._bus, servo):
            for field, register in REGISTER_OF_FIELD.items():
                raw = encode_sign_magnitude(getattr(entry, field), register.sign_bit, register.width)
                write_register(self._bus, servo, register, raw)

    def _encoder(self, name: str, entry: JointCalibration) -> int:
        for _ in range(ATTEMPTS):
            answer = self._bus.sync_read((entry.servo_id,), PRESENT_BLOCK).get(entry.servo_id)
            if answer is not None:
                return _encoder_ticks(answer.parameters, entry)
        raise _no_answer((name,), "report its position")

    def _read(self) -> Calibration:
        return Calibration(tuple(entry.calibration for entry in read_identities(self._bus, self._profile)))

    def _read_block(self, block: Block, what: str) -> list[bytes]:
        answers: dict[int, bytes] = {}
        for _ in range(ATTEMPTS):
            answers |= {i: packet.parameters for i, packet in self._bus.sync_read(self._servo_ids, block).items()}
            if all(servo_id in answers for servo_id in self._servo_ids):
                return [answers[servo_id] for servo_id in self._servo_ids]
        raise _no_answer(tuple(j.name for j in self._profile.joints if j.servo_id not in answers), what)


def _require_same_place(name: str, before: int, after: int) -> None:
    apart = (after - before + HALF_TURN_TICKS) % SERVO_TICKS_PER_TURN - HALF_TURN_TICKS
    if abs(apart) > SHIFT_SLACK_TICKS:
        raise ArmFault(
            f"{name} reads {abs(apart)} ticks away from where its new homing offset should put it",
            "keep the arm still while its servos are written, and try again",
        )


def _no_answer(joints: tuple[str, ...], what: str) -> ArmTimeout:
    return ArmTimeout(
        f"the servo of {', '.join(joints)} does not {what}", "is the cable seated, and the power supply on?"
    )


def _encoder_ticks(registers: bytes, carried: JointCalibration) -> int:
    present = decode_sign_magnitude(PRESENT_BLOCK.layout.unpack(registers)[0], PRESENT_POSITION.sign_bit)
    return (present + carried.homing_offset) % SERVO_TICKS_PER_TURN
