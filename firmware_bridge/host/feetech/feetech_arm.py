"""An arm of Feetech STS3215 servos, straight on a serial port."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np

from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.calibration import Calibration, JointScale, joint_scale
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.errors import ArmFault, ArmTimeout, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech.goal_packet import GoalPacket, ServoWrite, speed_limit_counts
from sefa_edge.firmware_bridge.host.feetech.identity import (
    ATTEMPTS,
    ServoIdentity,
    arm_identity,
    calibration_of,
    read_identities,
    require_same_calibration,
)
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.position_limits import (
    AGREEMENT_TICKS,
    RETURN_TICKS_S,
    require_inside,
    ticks_outside,
)
from sefa_edge.firmware_bridge.host.feetech.protocol import Packet, encode_sync_read, encode_sync_write, wire_time_ns
from sefa_edge.firmware_bridge.host.feetech.registers import (
    COMMAND_BLOCK,
    GOAL_POSITION,
    HELD_BLOCK,
    PRESENT_BLOCK,
    PRESENT_POSITION,
    STATE_BLOCK,
    TORQUE_BLOCK,
    TORQUE_OFF,
    TORQUE_ON,
    Block,
    decode_sign_magnitude,
)
from sefa_edge.firmware_bridge.host.feetech.servo_bus import PATIENT_MARGIN_NS, ServoBus
from sefa_edge.firmware_bridge.host.feetech.servo_state import StateTable
from sefa_edge.firmware_bridge.host.feetech.settings import bring_volatile, prepare, volatile_registers
from sefa_edge.firmware_bridge.host.feetech.torque import read_torque
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, JointState, Preparation, TorqueReading
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import ms_to_ns, period_ns

REPLY_MARGIN = 0.5
"""Share of a control period that a state read may last beyond its time on the wire. A silent servo costs this
share in every tick; more would cost the loop its grid."""


SILENT_QUESTIONS = 10
"""ScanRange in a row that nobody answered, after which the next ones are asked at intervals of SILENT_INTERVAL_NS."""

SILENT_INTERVAL_NS = ms_to_ns(50)
"""A line that is stalled releases all that was written to it at once: what waits there must be little."""


class FeetechArm:
    """The arm of a profile on a serial port. Implements `Arm`.

    A state read is one sync read of registers 56..70 (1.4 ms for six servos at 1 Mbit/s, and their return
    delays), a goal one sync write of registers 41..47 (0.56 ms). Goals go out at once: `due_ns` and
    `expires_ns` are for arms that queue.
    """

    def __init__(
        self,
        profile: ArmProfile,
        bus: ServoBus,
        scales: Sequence[JointScale],
        identities: Sequence[ServoIdentity],
    ):
        """Made by `open_feetech_arm`; `scales` and `identities` are in the profile's order.

        Raises:
            ArmTimeout: a servo stopped answering.
            ArmDisconnected: the port is gone.
        """
        self._profile = profile
        self._volatile = volatile_registers(profile)
        self._silent: set[int] = set()
        self._returned: set[int] = set()
        """Servos that answer again: they may have lost their power meanwhile, and some settings with it."""
        self._names = profile.joint_names
        self._servo_ids = tuple(joint.servo_id for joint in profile.joints)
        self._bus = bus
        self._sequence = 0
        units = [identity.ticks_s_per_speed_count for identity in identities]
        self._speed_counts = [
            speed_limit_counts(joint.max_velocity_deg_s, scale, unit)
            for joint, scale, unit in zip(profile.joints, scales, units, strict=True)
        ]
        self._identity = arm_identity(tuple(identities))
        self._return_counts = [max(1, RETURN_TICKS_S // unit) for unit in units]
        self._goal_packet = GoalPacket(self._servo_ids, scales, self._speed_counts)
        self._outside: set[int] = set()
        """Rows of the joints that stand outside the position limits of their servos and are on their way in."""
        self._states = StateTable(self._servo_ids, scales, units)
        self._scales = tuple(scales)
        self._state_request = encode_sync_read(self._servo_ids, STATE_BLOCK.address, STATE_BLOCK.count)
        self._asked: list[int] | None = None
        """The order of the last question, while answers are missing; None: that of the joints."""
        self._dice = Random(0)
        self._unanswered = 0
        """ScanRange in a row that nobody answered."""
        delays_ns = sum(identity.return_delay_ns for identity in identities)
        if profile.feetech.register_7 == "reserved":
            delays_ns = 0
        transaction_bytes = len(self._state_request) + self._states.reply_bytes
        self._half_transaction_ns = (wire_time_ns(transaction_bytes, bus.link.baud) + delays_ns) // 2
        self._margin_ns = delays_ns + round(REPLY_MARGIN * period_ns(profile.control_rate_hz))
        self._hear_everyone()

    @property
    def joint_names(self) -> tuple[str, ...]:
        return self._names

    @property
    def identity(self) -> ArmIdentity:
        return self._identity

    def prepare(self) -> Preparation:
        """Write the settings that a power cut undoes, where they differ from the profile. See `settings.prepare`."""
        return prepare(self._bus, self._profile)

    def read_state(self) -> JointState:
        """Read every joint once; `stamp_ns` is the middle of the transaction on the wire. Its arrays are read-only.

        After a missing answer the servos are asked in another order each time, until all have answered: a late answer
        to an earlier question shows by its order. While nobody answers, not every call asks.

        Raises:
            ArmTimeout: no joint answered, or was asked.
            ArmDisconnected: the port is gone.
        """
        link, states = self._bus.link, self._states
        silent_for_long = self._unanswered >= SILENT_QUESTIONS
        if silent_for_long and link.now_ns() - link.written_ns < SILENT_INTERVAL_NS:
            link.rest(self._margin_ns)
            raise self._nobody_answered()
        received = link.exchange(self._next_request(), states.reply_bytes, self._margin_ns)
        stamp_ns = link.written_ns + self._half_transaction_ns
        valid = states.take(received, stamp_ns, self._asked)
        if self._silent or valid is not states.everyone:
            self._note_silence(valid)
        if valid is not states.everyone and not valid.any():
            self._unanswered += 1
            raise self._nobody_answered()
        self._unanswered = 0
        if self._outside:
            self._note_returned(valid)
        self._sequence += 1
        return states.joint_state(self._sequence, stamp_ns, valid)

    def read_command(self) -> HeldCommand:
        """Ask every joint for registers 40 to 47: torque, goal, and the speed that every goal carries.

        The speed tells whether a servo has kept its power: after a start it has the factory value, whatever register
        40 says, because some servos are set to start with their torque on.

        Raises:
            ArmTimeout: no joint answered.
            ArmDisconnected: the port is gone.
        """
        answers = self._bus.sync_read(self._servo_ids, HELD_BLOCK, self._margin_ns)
        if not answers:
            raise self._nobody_answered()
        n = len(self._servo_ids)
        valid, torque, powered, goal_deg = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool), np.zeros(n)
        for row, servo_id in enumerate(self._servo_ids):
            if servo_id in answers:
                on, _, goal, _, speed = HELD_BLOCK.layout.unpack(answers[servo_id].parameters)
                valid[row], torque[row] = True, on != TORQUE_OFF
                powered[row] = speed in (self._speed_counts[row], self._return_counts[row])
                goal_deg[row] = self._scales[row].to_joint(decode_sign_magnitude(goal, GOAL_POSITION.sign_bit))
        return HeldCommand(valid, torque, powered, goal_deg)

    def send(self, goal: JointGoal) -> None:
        """Send one position command to all joints, each with its speed (`speed_limit_counts` says which and why).

        Joints of `goal.left_out` get none.

        Raises:
            ArmFault: a position is not a finite number; nothing is sent.
            ArmDisconnected: the port is gone.
        """
        positions = goal.joint_deg.tolist()
        if not all(map(math.isfinite, positions)):
            raise ArmFault(f"goal {goal.sequence} holds {positions}", "a goal must pass the safety layer first")
        if self._returned:
            self._repeat_volatile()
        frame = (
            self._goal_packet.without(positions, goal.left_out)
            if goal.left_out
            else self._goal_packet.filled(positions)
        )
        if frame:
            self._bus.link.send(frame)

    def check_position_limits(self) -> None:
        """Whether the torque may be switched on here: see `Arm`. Two positions that agree are read of every joint.

        Raises:
            JointsOutside: joints stand outside registers 9 and 11 by more than MAX_OUTSIDE_TICKS.
            ArmFault: a servo does not answer, or its position is another one each time.
            ArmDisconnected: the port is gone.
        """
        require_inside(self._names, self._agreed_ticks(), self._identity)

    def read_torque(self) -> TorqueReading:
        """Register 40 of every servo: see `Arm`."""
        return read_torque(self._bus, self._profile)

    def enable_torque(self) -> None:
        """Hold the present pose: goal = present first, then torque on, each read back.

        The goal is confirmed before the torque is switched on, because a servo that missed it would jump to its
        old one. Present is where two readings agree. Acceleration, time and speed go with it, as with every goal. What
        a power cut undoes comes before all of it (`settings.volatile_registers`), written where it differs.

        A joint outside the position limits of its servo is bent to them by the servo; it gets a low speed until it is
        inside, and its readings are not clipped meanwhile, so that its goals begin where it is.

        Raises:
            ArmFault: a servo does not answer or does not confirm.
            ArmDisconnected: the port is gone.
        """
        for register, wanted in self._volatile.items():
            bring_volatile(self._bus, register, wanted)
        present = self._agreed_ticks()
        self._begin_return(present)
        self._write_confirmed(COMMAND_BLOCK, self._first_commands(present), "take its present position as goal")
        torque = [ServoWrite.torque(TORQUE_ON)] * len(present)
        self._write_confirmed(TORQUE_BLOCK, torque, "switch its torque on")

    def release_torque(self) -> None:
        """Torque off, read back.

        Raises:
            ArmUnconfirmed: a servo still holds, or does not answer.
            ArmDisconnected: the port is gone.
        """
        torque = [ServoWrite.torque(TORQUE_OFF)] * len(self._servo_ids)
        self._write_confirmed(TORQUE_BLOCK, torque, "switch its torque off")

    def close(self) -> None:
        """Give the port back. Torque stays as it is."""
        self._bus.link.close()

    def _next_request(self) -> bytes:
        """The question of this reading, in an order of its own while answers are missing."""
        if not self._silent:
            self._asked = None
            return self._state_request
        before = self._asked or list(self._servo_ids)
        while len(before) > 1 and (self._asked is None or self._asked == before):
            self._asked = self._dice.sample(before, len(before))
        return encode_sync_read(self._asked or before, STATE_BLOCK.address, STATE_BLOCK.count)

    def _nobody_answered(self) -> ArmTimeout:
        return ArmTimeout(
            f"no servo answered on {self._bus.link.port}", "is the arm's power supply on, and the cable seated?"
        )

    def _note_silence(self, valid: np.ndarray) -> None:
        heard = {servo_id for servo_id, answered in zip(self._servo_ids, valid, strict=True) if answered}
        self._returned |= self._silent & heard
        self._silent = set(self._servo_ids) - heard

    def _repeat_volatile(self) -> None:
        """A goal wakes a servo up: one that may come from a power cut is told its limits first."""
        for register, wanted in self._volatile.items():
            returned = [(servo.servo_id, raw) for servo, raw in wanted.items() if servo.servo_id in self._returned]
            if returned:
                self._bus.sync_write(register.address, [(to, register.encode(raw)) for to, raw in returned])
        self._returned.clear()

    def _agreed_ticks(self) -> list[int]:
        """Positions of all joints, where two readings one after the other agree. Raises ArmUnconfirmed."""
        before, agrees = self._present_ticks(), [False] * len(self._names)
        for _ in range(ATTEMPTS):
            now = self._present_ticks()
            agrees = [abs(one - other) <= AGREEMENT_TICKS for one, other in zip(before, now, strict=True)]
            if all(agrees):
                return now
            before = now
        raise self._unconfirmed("tell the same position twice", agrees)

    def _present_ticks(self) -> list[int]:
        raw = self._read_all(PRESENT_BLOCK, "tell its position")
        return [PRESENT_POSITION.decode(data) for data in raw]

    def _read_all(self, block: Block, what: str) -> list[bytes]:
        """The same registers of every servo, in the profile's order. Raises ArmUnconfirmed, ArmDisconnected."""
        answers: dict[int, Packet] = {}
        for _ in range(ATTEMPTS):
            answers |= self._bus.sync_read([i for i in self._servo_ids if i not in answers], block)
            if len(answers) == len(self._servo_ids):
                return [answers[i].parameters for i in self._servo_ids]
        raise self._unconfirmed(what, [i in answers for i in self._servo_ids])

    def _first_commands(self, present: Sequence[int]) -> list[ServoWrite]:
        """Goal = present for every servo, and the goal that it may make of it."""
        joints = zip(present, self._identity.joints, self._goal_packet.speed_counts, strict=True)
        return [
            ServoWrite.goal(ticks, min(max(ticks, limits.range_min_ticks), limits.range_max_ticks), counts)
            for ticks, limits, counts in joints
        ]

    def _begin_return(self, present: Sequence[int]) -> None:
        joints = enumerate(zip(present, self._identity.joints, strict=True))
        self._outside = {row for row, (ticks, limits) in joints if ticks_outside(ticks, limits) > 0}
        for row, counts in enumerate(self._speed_counts):
            self._goal_packet.set_speed(row, self._return_counts[row] if row in self._outside else counts)
            self._goal_packet.admit(row, present[row])
            self._clip_readings(row)

    def _note_returned(self, valid: np.ndarray) -> None:
        """Full speed again for joints that have come inside the position limits of their servos."""
        for row in [row for row in self._outside if valid[row]]:
            if ticks_outside(self._states.position_ticks(row), self._identity.joints[row]) == 0:
                self._outside.discard(row)
                self._goal_packet.set_speed(row, self._speed_counts[row])
                self._clip_readings(row)

    def _clip_readings(self, row: int) -> None:
        inside = row not in self._outside
        scale = self._scales[row]
        self._states.clip_readings(
            row, scale.lowest_reading if inside else -math.inf, scale.highest_reading if inside else math.inf
        )

    def _write_confirmed(self, block: Block, wanted: Sequence[ServoWrite], what: str) -> None:
        confirmed = [False] * len(wanted)
        data = [entry.data for entry in wanted]
        for _ in range(ATTEMPTS):
            self._bus.sync_write(block.address, list(zip(self._servo_ids, data, strict=True)))
            answers = self._bus.sync_read(self._servo_ids, block)
            confirmed = [
                servo_id in answers and entry.is_confirmed_by(answers[servo_id].parameters)
                for servo_id, entry in zip(self._servo_ids, wanted, strict=True)
            ]
            if all(confirmed):
                return
        raise self._unconfirmed(what, confirmed)

    def _unconfirmed(self, what: str, confirmed: Sequence[bool]) -> ArmUnconfirmed:
        return ArmUnconfirmed(tuple(name for name, done in zip(self._names, confirmed, strict=True) if not done), what)

    def _hear_everyone(self) -> None:
        """One reading of every servo, so that whoever keeps silent later has a last answer."""
        missing = set(self._servo_ids)
        for _ in range(ATTEMPTS):
            received = self._bus.link.exchange(self._state_request, self._states.reply_bytes, PATIENT_MARGIN_NS)
            valid = self._states.take(received, self._bus.link.written_ns + self._half_transaction_ns)
            missing -= {servo_id for servo_id, heard in zip(self._servo_ids, valid, strict=True) if heard}
            if not missing:
                return
        raise ArmTimeout(
            f"servo {sorted(missing)} stopped answering on {self._bus.link.port}", "check its cable and its supply"
        )


def open_feetech_arm(
    profile: ArmProfile, port: str, calibration: Calibration | None, emergency: Emergency | None = None
) -> FeetechArm:
    """Open the arm of a profile. Torque is not touched, nothing is written to a servo.

    Args:
        calibration: of this arm; None takes the one that the servos carry in their registers, where LeRobot
        puts it.
        emergency: goes before everything that is sent to this arm.

    Raises:
        MissingError: no such port, no permission, or another program has it.
        ArmTimeout: a servo keeps silent.
        InputError: the servos are not those of the profile, or not calibrated as `calibration` says.
        ArmDisconnected: the port vanished meanwhile.
    """
    link = Link.open(port, profile.feetech.baud)
    if emergency is not None:
        link.attach_emergency(emergency, torque_off_packet(profile))
    return connect_feetech_arm(profile, link, calibration)


def torque_off_packet(profile: ArmProfile) -> bytes:
    """One sync write that switches the torque of every servo of the arm off."""
    off = bytes((TORQUE_OFF,))
    return encode_sync_write(TORQUE_BLOCK.address, [(joint.servo_id, off) for joint in profile.joints])


def connect_feetech_arm(profile: ArmProfile, link: Link, calibration: Calibration | None) -> FeetechArm:
    """As `open_feetech_arm`, over a link that is open already; it is closed when this raises."""
    try:
        return _identify(profile, ServoBus(link), calibration)
    except BaseException:
        link.close()
        raise


def _identify(profile: ArmProfile, bus: ServoBus, calibration: Calibration | None) -> FeetechArm:
    identities = read_identities(bus, profile)
    if calibration is None:
        calibration = calibration_of(profile, identities)
    else:
        require_same_calibration(profile, calibration, identities)
    scales = [joint_scale(joint, entry) for joint, entry in zip(profile.joints, calibration.joints, strict=True)]
    return FeetechArm(profile, bus, scales, identities)
