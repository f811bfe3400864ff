"""An arm of Feetech STS3215 servos on a serial port."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np

from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.calibration import Calibration, JointScale, joint_scale
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.errors import ArmFault, ArmTimeout
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
    RETURN_TICKS_S,
    require_inside,
    ticks_outside,
)
from sefa_edge.firmware_bridge.host.feetech.protocol import encode_sync_read, encode_sync_write, wire_time_ns
from sefa_edge.firmware_bridge.host.feetech.registers import (
    COMMAND_BLOCK,
    GOAL_POSITION,
    HELD_BLOCK,
    STATE_BLOCK,
    TORQUE_BLOCK,
    TORQUE_OFF,
    TORQUE_ON,
    decode_sign_magnitude,
)
from sefa_edge.firmware_bridge.host.feetech.servo_bus import PATIENT_MARGIN_NS, ServoBus
from sefa_edge.firmware_bridge.host.feetech.servo_group import ServoGroup
from sefa_edge.firmware_bridge.host.feetech.servo_state import StateTable
from sefa_edge.firmware_bridge.host.feetech.settings import prepare, volatile_registers, write_volatile_register
from sefa_edge.firmware_bridge.host.feetech.torque import read_torque
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, JointState, Preparation, TorqueReading
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import ms_to_ns, period_ns

REPLY_MARGIN = 0.5
"""Share of a control period that a state read may take beyond its time on the wire. A silent servo costs this share in
every tick; with more, ticks would be late."""


MAX_UNANSWERED = 10
"""Consecutive requests without any answer, after which requests are sent only every SILENT_INTERVAL_NS."""

SILENT_INTERVAL_NS = ms_to_ns(50)
"""A line that was stalled sends everything written to it at once, so that only little may be written meanwhile."""


class FeetechArm:
    """The arm of a profile on a serial port. Implements `Arm`.

    A state read is one sync read of registers 56..70 (1.4 ms for six servos at 1 Mbit/s, plus their return delays), a
    goal one sync write of registers 41..47 (0.56 ms). Goals are sent at once: `due_ns` and `expires_ns` are for arms
    that queue them.
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
        self._reconnected: set[int] = set()
        """Servos that answer again: they may have lost power, and with it their volatile settings."""
        self._names = profile.joint_names
        self._servo_ids = tuple(joint.servo_id for joint in profile.joints)
        self._bus = bus
        self._group = ServoGroup(bus, self._names, self._servo_ids)
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
        """Rows of the joints that are outside the position limits of their servos and are moving inside."""
        self._states = StateTable(self._servo_ids, scales, units)
        self._scales = tuple(scales)
        self._state_request = encode_sync_read(self._servo_ids, STATE_BLOCK.address, STATE_BLOCK.count)
        self._asked: list[int] | None = None
        """Order of the servos in the last request while answers are missing; None: the order of the joints."""
        self._random = Random(0)
        self._unanswered = 0
        """Consecutive requests without any answer."""
        delays_ns = sum(identity.return_delay_ns for identity in identities)
        if profile.feetech.register_7 == "reserved":
            delays_ns = 0
        transaction_bytes = len(self._state_request) + self._states.reply_bytes
        self._half_transaction_ns = (wire_time_ns(transaction_bytes, bus.link.baud) + delays_ns) // 2
        self._margin_ns = delays_ns + round(REPLY_MARGIN * period_ns(profile.control_rate_hz))
        self._read_all_once()

    @property
    def joint_names(self) -> tuple[str, ...]:
        return self._names

    @property
    def identity(self) -> ArmIdentity:
        return self._identity

    def prepare(self) -> Preparation:
        """Write the settings that a power cut resets, where they differ from the profile. See `settings.prepare`."""
        return prepare(self._bus, self._profile)

    def read_state(self) -> JointState:
        """Read every joint once; `stamp_ns` is the middle of the transaction on the wire. Its arrays are read-only.

        After a missing answer each request lists the servos in another order, until all have answered: late answers to
        an earlier request are recognised by their order. While no servo answers, not every call sends a request.

        Raises:
            ArmTimeout: no joint answered, or no request was sent.
            ArmDisconnected: the port is gone.
        """
        link, states = self._bus.link, self._states
        is_silent_for_long = self._unanswered >= MAX_UNANSWERED
        if is_silent_for_long and link.now_ns() - link.written_ns < SILENT_INTERVAL_NS:
            link.rest(self._margin_ns)
            raise self._no_answer()
        received = link.exchange(self._next_request(), states.reply_bytes, self._margin_ns)
        stamp_ns = link.written_ns + self._half_transaction_ns
        valid = states.update(received, stamp_ns, self._asked)
        if self._silent or valid is not states.all_answered:
            self._note_missing(valid)
        if valid is not states.all_answered and not valid.any():
            self._unanswered += 1
            raise self._no_answer()
        self._unanswered = 0
        if self._outside:
            self._note_inside(valid)
        self._sequence += 1
        return states.joint_state(self._sequence, stamp_ns, valid)

    def read_command(self) -> HeldCommand:
        """Read registers 40 to 47 of every joint: torque, goal, and the speed that comes with every goal.

        The speed shows whether a servo has kept its power: after a restart it has the factory value. Register 40 does
        not show it, because some servos are configured to start with torque on.

        Raises:
            ArmTimeout: no joint answered.
            ArmDisconnected: the port is gone.
        """
        answers = self._bus.sync_read(self._servo_ids, HELD_BLOCK, self._margin_ns)
        if not answers:
            raise self._no_answer()
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
        """Send one position command to all joints, each with its speed (see `speed_limit_counts`).

        Joints in `goal.left_out` get none.

        Raises:
            ArmFault: a position is not a finite number; nothing is sent.
            ArmDisconnected: the port is gone.
        """
        positions = goal.joint_deg.tolist()
        if not all(map(math.isfinite, positions)):
            raise ArmFault(f"goal {goal.sequence} holds {positions}", "a goal must pass the safety layer first")
        if self._reconnected:
            self._rewrite_volatile()
        packet = self._goal_packet
        data = packet.encode_without(positions, goal.left_out) if goal.left_out else packet.encode(positions)
        if data:
            self._bus.link.send(data)

    def check_position_limits(self) -> None:
        """See `Arm`. The position of a joint counts when two consecutive readings agree.

        Raises:
            JointsOutside: joints are outside registers 9 and 11 by more than MAX_OUTSIDE_TICKS.
            ArmFault: a servo does not answer, or its readings do not agree.
            ArmDisconnected: the port is gone.
        """
        require_inside(self._names, self._group.agreed_ticks(), self._identity)

    def read_torque(self) -> TorqueReading:
        """Register 40 of every servo: see `Arm`."""
        return read_torque(self._bus, self._profile)

    def enable_torque(self) -> None:
        """Hold the present pose: goal = present first, then torque on, each read back.

        The goal is confirmed before the torque is switched on, because a servo that missed it would jump to its old
        one. The present position is one on which two readings agree. Settings that a power cut resets
        (`settings.volatile_registers`) are written first, where they differ.

        A servo moves a joint that is outside its position limits to them. Such a joint gets a low speed until it is
        inside, and its readings are not clipped until then, so that its goals start at its true position.

        Raises:
            ArmFault: a servo does not answer or does not confirm.
            ArmDisconnected: the port is gone.
        """
        for register, wanted in self._volatile.items():
            write_volatile_register(self._bus, register, wanted)
        present = self._group.agreed_ticks()
        self._begin_return(present)
        self._group.write_confirmed(COMMAND_BLOCK, self._first_commands(present), "take its present position as goal")
        torque = [ServoWrite.torque(TORQUE_ON)] * len(present)
        self._group.write_confirmed(TORQUE_BLOCK, torque, "switch its torque on")

    def release_torque(self) -> None:
        """Torque off, read back.

        Raises:
            ArmUnconfirmed: a servo still holds, or does not answer.
            ArmDisconnected: the port is gone.
        """
        torque = [ServoWrite.torque(TORQUE_OFF)] * len(self._servo_ids)
        self._group.write_confirmed(TORQUE_BLOCK, torque, "switch its torque off")

    def close(self) -> None:
        """Close the port. Torque stays as it is."""
        self._bus.link.close()

    def _next_request(self) -> bytes:
        """The next state request; while answers are missing, its order differs from the one before."""
        if not self._silent:
            self._asked = None
            return self._state_request
        before = self._asked or list(self._servo_ids)
        while len(before) > 1 and (self._asked is None or self._asked == before):
            self._asked = self._random.sample(before, len(before))
        return encode_sync_read(self._asked or before, STATE_BLOCK.address, STATE_BLOCK.count)

    def _no_answer(self) -> ArmTimeout:
        return ArmTimeout(
            f"no servo answered on {self._bus.link.port}", "is the arm's power supply on, and the cable seated?"
        )

    def _note_missing(self, valid: np.ndarray) -> None:
        answering = {servo_id for servo_id, answered in zip(self._servo_ids, valid, strict=True) if answered}
        self._reconnected |= self._silent & answering
        self._silent = set(self._servo_ids) - answering

    def _rewrite_volatile(self) -> None:
        """A goal energises a servo: one that may have lost power gets its volatile settings first."""
        for register, wanted in self._volatile.items():
            returned = [(servo.servo_id, raw) for servo, raw in wanted.items() if servo.servo_id in self._reconnected]
            if returned:
                self._bus.sync_write(register.address, [(to, register.encode(raw)) for to, raw in returned])
        self._reconnected.clear()

    def _first_commands(self, present: Sequence[int]) -> list[ServoWrite]:
        """Goal = present for every servo; it may also report that goal clipped to its position limits."""
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
            self._goal_packet.allow(row, present[row])
            self._clip_readings(row)

    def _note_inside(self, valid: np.ndarray) -> None:
        """Restore full speed for joints that are now inside the position limits of their servos."""
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

    def _read_all_once(self) -> None:
        """Read every servo at least once, so that each has a last answer."""
        missing = set(self._servo_ids)
        for _ in range(ATTEMPTS):
            received = self._bus.link.exchange(self._state_request, self._states.reply_bytes, PATIENT_MARGIN_NS)
            valid = self._states.update(received, self._bus.link.written_ns + self._half_transaction_ns)
            missing -= {servo_id for servo_id, answered in zip(self._servo_ids, valid, strict=True) if answered}
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
        calibration: of this arm; None: the one in the servos' registers, where LeRobot also stores it.
        emergency: takes precedence over everything that is sent to this arm.

    Raises:
        MissingError: no such port, no permission, or another program uses it.
        ArmTimeout: a servo does not answer.
        InputError: the servos are not those of the profile, or have another calibration.
        ArmDisconnected: the port vanished.
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
    """As `open_feetech_arm`, over an open link, which is closed if this raises."""
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
