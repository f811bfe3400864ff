"""Which servos answer on a bus, and what they report about themselves. Reads only."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sefa_edge.firmware_bridge.host.feetech.protocol import (
    BROADCAST_ID,
    MAX_SERVO_ID,
    decode,
    encode_ping,
    encode_sync_read,
    reply_bytes,
)
from sefa_edge.firmware_bridge.host.feetech.registers import (
    FIRMWARE_MAJOR,
    STATE_BLOCK,
    TORQUE_BLOCK,
    VOLTAGE_MV,
    Block,
)
from sefa_edge.firmware_bridge.host.feetech.servo_bus import SCAN_MARGIN_NS, ServoBus, answers_by_id
from sefa_edge.profiles.schema import ArmProfile, JointProfile
from sefa_edge.profiles.servo_models import model_numbers, servo_model
from sefa_edge.profiles.units import ms_to_ns

KIND_BLOCK = Block(FIRMWARE_MAJOR.address, struct.Struct("<BBxH"))
"""0..4: firmware major and minor, model (raw)."""
TWICE = 2
"""Answers to wait for from one id: an adapter may queue those of two servos that answer at once."""
EVERY_ID = range(MAX_SERVO_ID + 1)
MOST_ANSWERS = 8
"""Answers to a broadcast ping to wait for: more than an arm has."""
BROADCAST_MARGIN_NS = ms_to_ns(60)
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class FoundServo:
    """A servo that answers to an id. Fields after `clash` are None if its registers could not be read."""

    servo_id: int
    clash: bool
    """More than one servo seems to answer to this id."""
    model: int | None = None
    firmware: str | None = None
    torque: int | None = None
    supply_mv: int | None = None
    temperature_c: int | None = None
    status_bits: int | None = None

    @property
    def model_name(self) -> str:
        if self.model is None:
            return "unknown"
        return servo_model(self.model).name


def probe(bus: ServoBus, servo_id: int) -> FoundServo | None:
    """Ping one id, then read what it is; None: no answer. Raises ArmDisconnected.

    Two servos with the same id answer at once. A ping does not show that, because the bits are the same; registers that
    differ arrive garbled, and two servos are hardly ever at exactly the same tick.
    """
    received = bus.link.exchange(encode_ping(servo_id), TWICE * reply_bytes(0), SCAN_MARGIN_NS)
    if not received:
        return None
    pings = sum(packet.servo_id == servo_id for packet in decode(received))
    kind, torque, state = (_read(bus, servo_id, block) for block in (KIND_BLOCK, TORQUE_BLOCK, STATE_BLOCK))
    if kind.data and torque.data and state.data:
        return _described(FoundServo(servo_id, pings > 1), kind.data, torque.data, state.data)
    garbled = kind.garbled or torque.garbled or state.garbled
    return FoundServo(servo_id, garbled or pings > 1) if pings else None  # noise, or another device


@dataclass(frozen=True, slots=True)
class BroadcastAnswers:
    """The ids that answered a broadcast ping; `garbled`: answers collided, so some may be missing."""

    servo_ids: tuple[int, ...]
    garbled: bool


def broadcast_ping(bus: ServoBus) -> BroadcastAnswers:
    """Ping all ids at once. A single servo always answers intact; answers of several may collide.

    Raises:
        ArmDisconnected: the port is gone.
    """
    received = bus.link.exchange(encode_ping(BROADCAST_ID), MOST_ANSWERS * reply_bytes(0), BROADCAST_MARGIN_NS)
    answers = decode(received)
    return BroadcastAnswers(
        tuple(packet.servo_id for packet in answers), len(received) != len(answers) * reply_bytes(0)
    )


def matching_arms(profiles: Iterable[ArmProfile], baud: int, servos: Iterable[FoundServo]) -> list[str]:
    """The arms that these servos may be: a name, or a name and the missing ids."""
    by_id = {servo.servo_id: servo for servo in servos if not servo.clash}
    fits: list[str] = []
    for profile in profiles:
        wanted = {joint.servo_id for joint in profile.joints}
        missing = sorted(wanted - {joint.servo_id for joint in profile.joints if _may_be(by_id, profile, joint)})
        if profile.feetech.baud != baud or len(missing) == len(wanted):
            continue
        lacks = f" without {', '.join(map(str, missing))}" if missing else ""
        fits.append(f"{profile.name}{lacks}")
    return fits


def _may_be(by_id: Mapping[int, FoundServo], profile: ArmProfile, joint: JointProfile) -> bool:
    servo = by_id.get(joint.servo_id)
    return servo is not None and (servo.model is None or servo.model in model_numbers(profile.models_of(joint)))


def _described(servo: FoundServo, kind: bytes, torque: bytes, state: bytes) -> FoundServo:
    major, minor, model = KIND_BLOCK.layout.unpack(kind)
    _, _, _, voltage, temperature, _, status, _, _ = STATE_BLOCK.layout.unpack(state)
    return replace(
        servo,
        model=model,
        firmware=f"{major}.{minor}",
        torque=torque[0],
        supply_mv=voltage * VOLTAGE_MV,
        temperature_c=temperature,
        status_bits=status,
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """The outcome of a read: data, or garbled bytes, or nothing."""

    data: bytes
    garbled: bool


def _read(bus: ServoBus, servo_id: int, block: Block) -> _Answer:
    request = encode_sync_read((servo_id,), block.address, block.count)
    garbled = False
    for _ in range(ATTEMPTS):
        received = bus.link.exchange(request, reply_bytes(block.count), SCAN_MARGIN_NS)
        answers = answers_by_id(received, block.count)
        if servo_id in answers:
            return _Answer(answers[servo_id].parameters, garbled=False)
        garbled |= bool(received)
    return _Answer(b"", garbled)
