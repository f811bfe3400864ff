"""The wire with all servos on it: request bytes in, reply bytes with their time of arrival out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import (
    BROADCAST_ID,
    Instruction,
    Packet,
    PacketDecoder,
    encode,
    reply_bytes,
    wire_time_ns,
)
from sefa_edge.firmware_bridge.simulation.servo import Plant, SimulatedServo
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import ms_to_ns

SILENCE_NS = ms_to_ns(10)
"""After this long without a byte, a packet that was begun is given up."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What comes back for one request, complete at `due_ns`. Adapters hand bytes over in batches, not one by
    one."""

    data: bytes
    due_ns: int


class SimulatedBus:
    """Servos on one half-duplex line of a given speed. Time comes in with every call."""

    def __init__(self, servos: Sequence[SimulatedServo], baud: int) -> None:
        self.servos = list(servos)
        self.baud = baud
        self.echoes = False
        """True: the adapter returns what the host sends, as single-wire adapters may."""
        self.disturb: Callable[[bytes], bytes] = _undisturbed
        """What the line does to reply bytes; a test may drop or flip some."""
        self.disturb_request: Callable[[bytes], bytes] = _undisturbed
        """The same for what the host sends."""
        self.held_back_ns = 0
        """How long the adapter keeps replies before it hands them over; FTDI chips do so for up to 16 ms."""
        self._decoder = PacketDecoder()
        self._heard_ns = 0
        self._line_free_ns = 0

    @classmethod
    def of_arm(cls, profile: ArmProfile, plant: Plant) -> SimulatedBus:
        """The servos of an arm, calibrated as its profile says: joint i of the plant is joint i of the
        profile."""
        bus = cls([SimulatedServo(joint.servo_id, plant, i) for i, joint in enumerate(profile.joints)], profile.baud)
        for servo, joint in zip(bus.servos, profile.joints, strict=True):
            servo.set_register(reg.BAUD_RATE, reg.BAUD_RATES.index(profile.baud))
            servo.set_register(reg.MIN_POSITION, joint.range_min_ticks)
            servo.set_register(reg.MAX_POSITION, joint.range_max_ticks)
        return bus

    def servo(self, servo_id: int) -> SimulatedServo:
        """The servo with this id. Raises KeyError."""
        for servo in self.servos:
            if servo.servo_id == servo_id:
                return servo
        raise KeyError(servo_id)

    def receive(self, data: bytes, now_ns: int) -> list[Reply]:
        """Take in bytes that the host sent at `now_ns`; replies in the order in which they arrive."""
        if now_ns - self._heard_ns > SILENCE_NS:
            self._decoder.reset()
        self._heard_ns = now_ns
        self.advance(now_ns)
        sent_ns = max(now_ns, self._line_free_ns) + wire_time_ns(len(data), self.baud)
        self._line_free_ns = sent_ns
        replies = [Reply(data, sent_ns)] if self.echoes else []
        for packet in self._decoder.feed(self.disturb_request(data)):
            replies += self._reply(packet)
        return replies

    def hang_up(self) -> None:
        """The host's end was pulled: what was under way in either direction is lost."""
        self._decoder.reset()
        self._line_free_ns = 0

    def advance(self, now_ns: int) -> None:
        """Let time pass for servos that walk to their goals."""
        for servo in self.servos:
            servo.advance(now_ns)

    def _reply(self, packet: Packet) -> list[Reply]:
        answers = b""
        for servo, data in self._answers(packet):
            answers += encode(servo.servo_id, servo.status(), data)
            self._line_free_ns += servo.return_delay_ns + wire_time_ns(reply_bytes(len(data)), self.baud)
        return [Reply(self.disturb(answers), self._line_free_ns + self.held_back_ns)] if answers else []

    def _answers(self, packet: Packet) -> list[tuple[SimulatedServo, bytes]]:
        listening = [servo for servo in self.servos if servo.connected and servo.baud == self.baud]
        if packet.code == Instruction.SYNC_READ:
            return _sync_read(listening, packet.parameters)
        if packet.code == Instruction.SYNC_WRITE:
            _sync_write(listening, packet.parameters)
            return []
        addressed = [servo for servo in listening if packet.servo_id in (servo.servo_id, BROADCAST_ID)]
        replies = [(servo, _obey(servo, packet)) for servo in addressed]
        if packet.servo_id == BROADCAST_ID and packet.code != Instruction.PING:
            return []
        return [(servo, data) for servo, data in replies if data is not None]


def _obey(servo: SimulatedServo, packet: Packet) -> bytes | None:
    code, parameters = packet.code, packet.parameters
    if code == Instruction.PING:
        return b""
    if code == Instruction.READ:
        return servo.read(parameters[0], parameters[1]) if len(parameters) == 2 else None
    if code in (Instruction.WRITE, Instruction.REG_WRITE) and len(parameters) >= 2:
        (servo.write if code == Instruction.WRITE else servo.hold_write)(parameters[0], parameters[1:])
    elif code == Instruction.ACTION:
        servo.act()
    elif code == Instruction.RESET:
        servo.reset()
    else:
        return None
    return b"" if servo.answers_writes else None


def _sync_read(listening: list[SimulatedServo], parameters: bytes) -> list[tuple[SimulatedServo, bytes]]:
    if len(parameters) < 2:
        return []
    address, count = parameters[0], parameters[1]
    by_id = {servo.servo_id: servo for servo in listening}
    asked = [by_id[servo_id] for servo_id in parameters[2:] if servo_id in by_id]
    return [(servo, servo.read(address, count)) for servo in asked]


def _sync_write(listening: list[SimulatedServo], parameters: bytes) -> None:
    if len(parameters) < 2:
        return
    address, count = parameters[0], parameters[1]
    by_id = {servo.servo_id: servo for servo in listening}
    for start in range(2, len(parameters) - count, count + 1):
        servo = by_id.get(parameters[start])
        if servo is not None:
            servo.write(address, parameters[start + 1 : start + 1 + count])


def _undisturbed(data: bytes) -> bytes:
    return data
