"""An arm of Feetech STS3215 servos, straight on a serial port."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from sefa_edge.firmware_bridge.host.calibration import Calibration, JointScale, joint_scale
from sefa_edge.firmware_bridge.host.errors import ArmFault, ArmTimeout, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech.identity import (
    ATTEMPTS,
    ServoIdentity,
    calibration_of,
    read_identities,
    require_same_calibration,
)
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.protocol import (
    Packet,
    encode_sync_read,
    encode_sync_write,
    reply_bytes,
    wire_time_ns,
)
from sefa_edge.firmware_bridge.host.feetech.registers import (
    COMMAND_BLOCK,
    GOAL_POSITION,
    PRESENT_BLOCK,
    STATE_BLOCK,
    TORQUE_BLOCK,
    TORQUE_OFF,
    TORQUE_ON,
    Block,
)
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus, answers_by_id
from sefa_edge.firmware_bridge.host.feetech.servo_state import ServoState
from sefa_edge.firmware_bridge.host.messages import JointGoal, JointState
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import period_ns

REPLY_MARGIN = 0.5
"""Share of a control period that a state read may last beyond its time on the wire. A silent servo costs this
share in every tick; more would cost the loop its grid."""

GOAL_SLACK_TICKS = 23
"""Two degrees: how far a servo may bend the goal on arming, to its own position limits, before arming is
refused."""


class FeetechArm:
    """The arm of a profile on a serial port. Implements `Arm`.

    A state read is one sync read of registers 56..70 (1.4 ms for six servos at 1 Mbit/s), a goal one sync
    write of register 42 (0.26 ms). Goals go out at once: `due_ns` and `expires_ns` are for arms that queue.
    """

    def __init__(self, profile: ArmProfile, bus: ServoBus, scales: Sequence[JointScale], states: Sequence[ServoState]):
        """Made by `open_feetech_arm`; `states` holds one reading of every servo, in the profile's order."""
        self._names = profile.joint_names
        self._servo_ids = tuple(joint.servo_id for joint in profile.joints)
        self._bus = bus
        self._scales = tuple(scales)
        self._states = tuple(states)
        self._sequence = 0
        self._state_request = encode_sync_read(self._servo_ids, STATE_BLOCK.address, STATE_BLOCK.count)
        self._state_reply_bytes = len(self._servo_ids) * reply_bytes(STATE_BLOCK.count)
        transaction_bytes = len(self._state_request) + self._state_reply_bytes
        self._half_transaction_ns = wire_time_ns(transaction_bytes, bus.link.baud) // 2
        self._margin_ns = round(REPLY_MARGIN * period_ns(profile.control_rate_hz))

    @property
    def joint_names(self) -> tuple[str, ...]:
        return self._names

    def read_state(self) -> JointState:
        """Read every joint once; `stamp_ns` is the middle of the transaction on the wire.

        Raises:
            ArmTimeout: no joint answered.
            ArmDisconnected: the port is gone.
        """
        received = self._bus.link.exchange(self._state_request, self._state_reply_bytes, self._margin_ns)
        answers = answers_by_id(received, STATE_BLOCK.count)
        stamp_ns = self._bus.link.written_ns + self._half_transaction_ns
        valid = [servo_id in answers for servo_id in self._servo_ids]
        if not any(valid):
            raise ArmTimeout(
                f"no servo answered on {self._bus.link.port}",
                "is the arm's power supply on, and the cable seated?",
            )
        for state in self._states:
            answer = answers.get(state.servo_id)
            if answer is not None:
                state.update(answer, stamp_ns)
        self._sequence += 1
        return self._joint_state(stamp_ns, valid)

    def send(self, goal: JointGoal) -> None:
        """Send one position command to all joints.

        Raises:
            ArmFault: a position is not a finite number; nothing is sent.
            ArmDisconnected: the port is gone.
        """
        positions = goal.joint_deg.tolist()
        if not all(map(math.isfinite, positions)):
            raise ArmFault(f"goal {goal.sequence} holds {positions}", "a goal must pass the safety layer first")
        goals = [
            (servo_id, scale.to_ticks(position).to_bytes(2, "little"))
            for servo_id, scale, position in zip(self._servo_ids, self._scales, positions, strict=True)
        ]
        self._bus.link.send(encode_sync_write(GOAL_POSITION.address, goals))

    def enable_torque(self) -> None:
        """Hold the present pose: goal = present first, then torque on, each read back.

        Acceleration, time and speed are set with the goal to 0, full speed: the host shapes the motion. The
        goal is confirmed before the torque is switched on, because a servo that missed it would jump to its
        old one.

        Raises:
            ArmFault: a servo does not answer or does not confirm.
            ArmDisconnected: the port is gone.
        """
        commands = [COMMAND_BLOCK.layout.pack(0, raw, 0, 0) for raw in self._present_raw()]
        self._write_confirmed(COMMAND_BLOCK, commands, _near_goal, "take its present position as goal")
        torque = [bytes((TORQUE_ON,))] * len(commands)
        self._write_confirmed(TORQUE_BLOCK, torque, bytes.__eq__, "switch its torque on")

    def release_torque(self) -> None:
        """Torque off, read back.

        Raises:
            ArmUnconfirmed: a servo still holds, or does not answer.
            ArmDisconnected: the port is gone.
        """
        torque = [bytes((TORQUE_OFF,))] * len(self._servo_ids)
        self._write_confirmed(TORQUE_BLOCK, torque, bytes.__eq__, "switch its torque off")

    def close(self) -> None:
        """Give the port back. Torque stays as it is."""
        self._bus.link.close()

    def _present_raw(self) -> list[int]:
        answers: dict[int, Packet] = {}
        for _ in range(ATTEMPTS):
            answers = self._bus.sync_read(self._servo_ids, PRESENT_BLOCK)
            if len(answers) == len(self._servo_ids):
                return [PRESENT_BLOCK.layout.unpack(answers[i].parameters)[0] for i in self._servo_ids]
        raise self._unconfirmed("tell its position", [i in answers for i in self._servo_ids])

    def _write_confirmed(
        self, block: Block, data: Sequence[bytes], accepts: Callable[[bytes, bytes], bool], what: str
    ) -> None:
        confirmed = [False] * len(data)
        for _ in range(ATTEMPTS):
            self._bus.sync_write(block.address, list(zip(self._servo_ids, data, strict=True)))
            answers = self._bus.sync_read(self._servo_ids, block)
            confirmed = [
                servo_id in answers and accepts(written, answers[servo_id].parameters)
                for servo_id, written in zip(self._servo_ids, data, strict=True)
            ]
            if all(confirmed):
                return
        raise self._unconfirmed(what, confirmed)

    def _unconfirmed(self, what: str, confirmed: Sequence[bool]) -> ArmUnconfirmed:
        return ArmUnconfirmed(tuple(name for name, done in zip(self._names, confirmed, strict=True) if not done), what)

    def _joint_state(self, stamp_ns: int, valid: list[bool]) -> JointState:
        pairs = tuple(zip(self._states, self._scales, strict=True))
        return JointState(
            sequence=self._sequence,
            stamp_ns=stamp_ns,
            joint_deg=np.array([scale.to_joint(servo.position_ticks) for servo, scale in pairs]),
            velocity_deg_s=np.array([servo.speed_ticks_s * scale.joint_per_tick for servo, scale in pairs]),
            load_pct=np.array([servo.load_pct for servo in self._states]),
            current_ma=np.array([servo.current_ma for servo in self._states]),
            temperature_c=np.array([servo.temperature_c for servo in self._states]),
            supply_mv=min(servo.supply_mv for servo in self._states),
            status_bits=np.array([servo.status_bits for servo in self._states], np.uint8),
            valid_mask=np.array(valid),
            age_ns=np.array([stamp_ns - servo.stamp_ns for servo in self._states], np.int64),
        )


def open_feetech_arm(profile: ArmProfile, port: str, calibration: Calibration | None) -> FeetechArm:
    """Open the arm of a profile. Torque is not touched, nothing is written to a servo.

    Args:
        calibration: of this arm; None takes the one that the servos carry in their registers, where LeRobot
        puts it.

    Raises:
        MissingError: no such port, no permission, or another program has it.
        ArmTimeout: a servo keeps silent.
        InputError: the servos are not those of the profile, or not calibrated as `calibration` says.
        ArmDisconnected: the port vanished meanwhile.
    """
    return connect_feetech_arm(profile, Link.open(port, profile.baud), calibration)


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
    return FeetechArm(profile, bus, scales, _first_states(bus, identities))


def _first_states(bus: ServoBus, identities: Sequence[ServoIdentity]) -> list[ServoState]:
    states = [ServoState(entry.calibration.servo_id, entry.ticks_s_per_speed_count) for entry in identities]
    missing = {state.servo_id: state for state in states}
    for _ in range(ATTEMPTS):
        for servo_id, answer in bus.sync_read(tuple(missing), STATE_BLOCK).items():
            if servo_id in missing:
                missing.pop(servo_id).update(answer, bus.link.written_ns)
        if not missing:
            return states
    raise ArmTimeout(f"servo {sorted(missing)} stopped answering on {bus.link.port}", "check its cable and its supply")


def _near_goal(written: bytes, read: bytes) -> bool:
    goals = [GOAL_POSITION.decode(block[1:3]) for block in (written, read)]
    return abs(goals[0] - goals[1]) <= GOAL_SLACK_TICKS
