"""The servo bus: request bytes in, reply bytes with their arrival times out. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple, Protocol

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import (
    BROADCAST_ID,
    MAX_PARAMETERS,
    Instruction,
    Packet,
    PacketDecoder,
    encode,
    wire_time_ns,
)
from sefa_edge.firmware_bridge.simulation.disturbances import Disturbances, DisturbedLine
from sefa_edge.firmware_bridge.simulation.plant import Plant
from sefa_edge.firmware_bridge.simulation.servo import MOTOR_PERIOD_NS, SimulatedServo
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import ms_to_ns

SILENCE_NS = ms_to_ns(10)
"""After this long without a byte, an incomplete packet is dropped."""

SUPPLY_MOHM = 50
"""Power supply, its cable and the chain of servo cables together (estimate): all six stalled lose 0.7 V."""

NEVER_OVERLOADED = 254
"""Register 36 of a gripper, percent of the stall torque: an object in its jaws may stall it indefinitely."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request, complete at `due_ns`: adapters deliver bytes in batches."""

    data: bytes
    due_ns: int


class WireTap(Protocol):
    """Receives all bytes on a simulated bus as they are at the servos: never lost, late or damaged."""

    def to_servos(self, data: bytes, stamp_ns: int) -> None:
        """Bytes of the host, as sent, before the servos act on them."""
        ...

    def from_servos(self, data: bytes, stamp_ns: int) -> None:
        """Bytes of a servo's answer, before the line and the adapter disturb or delay them."""
        ...


class SimulatedBus:
    """Servos on one half-duplex line of a given speed. The time is an argument of every call."""

    def __init__(self, servos: Sequence[SimulatedServo], baud: int) -> None:
        self.servos = list(servos)
        self.baud = baud
        self.echoes = False
        """True: the adapter returns what the host sends, as single-wire adapters may."""
        self.disturb: Callable[[bytes], bytes] = _undisturbed
        """Applied to reply bytes; a test may drop or flip some."""
        self.disturb_request: Callable[[bytes], bytes] = _undisturbed
        """Applied to bytes of the host."""
        self.line = DisturbedLine(Disturbances())
        """Random disturbances."""
        self.supply_mohm = SUPPLY_MOHM
        """Resistance between the servos and an ideal supply of their `supply_mv`; one supply feeds all."""
        self.adapter_delay_ns = 0
        """How long the adapter delays replies; FTDI chips do so for up to 16 ms."""
        self.request_delay_ns = 0
        """Time between sending a request and its arrival at the servos."""
        self.stalled_until_ns = 0
        """Until then the adapter sends nothing; afterwards it sends everything, one request after the other."""
        self.answers_lost_until_ns = 0
        """Until then the host receives no answers."""
        self.tap: WireTap | None = None
        """Gets every byte in either direction, with the time at which it reaches or leaves the servos."""
        self._decoder = PacketDecoder()
        self._received_ns = 0
        self._line_free_ns = 0
        self._supplied_ns: int | None = None
        self._delayed: deque[tuple[int, bytes]] = deque()

    @classmethod
    def of_arm(cls, profile: ArmProfile, plant: Plant) -> SimulatedBus:
        """The servos of an arm, calibrated as its profile says: joint i of the plant is joint i of the
        profile."""
        bus = cls(
            [SimulatedServo(joint.servo_id, plant, i) for i, joint in enumerate(profile.joints)], profile.feetech.baud
        )
        for servo, joint in zip(bus.servos, profile.joints, strict=True):
            servo.set_register(reg.BAUD_RATE, reg.BAUD_RATES.index(profile.feetech.baud))
            servo.set_register(reg.MIN_POSITION, joint.range_min_ticks)
            servo.set_register(reg.MAX_POSITION, joint.range_max_ticks)
            if joint.unit == "percent":
                servo.set_register(reg.OVERLOAD_TORQUE, NEVER_OVERLOADED)
        return bus

    def servo(self, servo_id: int) -> SimulatedServo:
        """The servo with this id. Raises KeyError."""
        for servo in self.servos:
            if servo.servo_id == servo_id:
                return servo
        raise KeyError(servo_id)

    def receive(self, data: bytes, now_ns: int) -> list[Reply]:
        """Add bytes that the host sent at `now_ns`; returns replies in the order in which they arrive.

        Delayed requests are answered by `catch_up`, which the owner of the port calls as time passes.
        """
        arrival_ns = max(now_ns + self.request_delay_ns, self.stalled_until_ns)
        if arrival_ns > now_ns or self._delayed:
            self._delayed.append((arrival_ns, data))
            return self.catch_up(now_ns)
        return self._process(data, now_ns)

    @property
    def next_arrival_ns(self) -> int | None:
        """When the next delayed request reaches the servos; None: none is delayed."""
        return max(self._delayed[0][0], self._line_free_ns) if self._delayed else None

    def catch_up(self, now_ns: int) -> list[Reply]:
        """Replies to delayed requests that have reached the servos."""
        replies: list[Reply] = []
        while (arrival_ns := self.next_arrival_ns) is not None and arrival_ns <= now_ns:
            replies += self._process(self._delayed.popleft()[1], arrival_ns)
        return replies

    def _process(self, data: bytes, now_ns: int) -> list[Reply]:
        if now_ns - self._received_ns > SILENCE_NS:
            self._decoder.reset()
        self._received_ns = now_ns
        self.advance(now_ns)
        sent_ns = max(now_ns, self._line_free_ns) + wire_time_ns(len(data), self.baud)
        self._line_free_ns = sent_ns
        replies = [Reply(data, sent_ns)] if self.echoes else []
        if self.tap is not None:
            self.tap.to_servos(data, now_ns)
        for packet in self._decoder.feed(self.line.request(self.disturb_request(data))):
            replies += self._reply(packet)
        return replies

    def hang_up(self) -> None:
        """The host's end was unplugged: bytes under way in either direction are lost."""
        self._decoder.reset()
        self._delayed.clear()
        self._line_free_ns = 0

    def advance(self, now_ns: int) -> None:
        """Let time pass for servos that move to their goals, and for their supply."""
        if self._supplied_ns is None or now_ns - self._supplied_ns >= MOTOR_PERIOD_NS:
            self._supplied_ns = now_ns
            self._supply()
        for servo in self.servos:
            servo.advance(now_ns)

    def _supply(self) -> None:
        sag_mv = round(sum(servo.current_ma for servo in self.servos) * self.supply_mohm / 1000)
        for servo in self.servos:
            servo.sag_mv = sag_mv

    def _reply(self, packet: Packet) -> list[Reply]:
        answers = self._answers(packet)
        received = b""
        for answer in _collided(answers):
            if self.tap is not None:
                self.tap.from_servos(answer.data, self._line_free_ns)
            received += self.line.answer(answer.data)
            self._line_free_ns += answer.delay_ns + wire_time_ns(len(answer.data), self.baud)
        received = self.disturb(received) if answers and self._line_free_ns >= self.answers_lost_until_ns else b""
        return [Reply(received, self._line_free_ns + self.adapter_delay_ns + self.line.delay_ns())] if received else []

    def _answers(self, packet: Packet) -> list[_Answer]:
        listening = [servo for servo in self.servos if servo.listens and servo.baud == self.baud]
        if packet.code == Instruction.SYNC_READ:
            return _sync_read(listening, packet.parameters)
        if packet.code == Instruction.SYNC_WRITE:
            _sync_write(listening, packet.parameters)
            return []
        addressed = [servo for servo in listening if packet.servo_id in (servo.servo_id, BROADCAST_ID)]
        answers = [answer for servo in addressed if (answer := _execute(servo, packet)) is not None]
        return answers if packet.servo_id != BROADCAST_ID or packet.code == Instruction.PING else []


class _Answer(NamedTuple):
    """The answer of one servo, and its delay after the request."""

    servo_id: int
    data: bytes
    delay_ns: int

    @classmethod
    def of(cls, servo: SimulatedServo, parameters: bytes) -> _Answer:
        servo_id = servo.servo_id
        data = encode(servo_id, servo.status(), parameters[:MAX_PARAMETERS])
        return cls(servo_id, data, servo.return_delay_ns)


def _collided(answers: list[_Answer]) -> list[_Answer]:
    """The answers on the wire: servos with the same id answer at once, the others one after the other."""
    merged: dict[int, _Answer] = {}
    for answer in answers:
        before = merged.get(answer.servo_id)
        merged[answer.servo_id] = answer if before is None else _at_once(before, answer)
    return list(merged.values())


def _at_once(one: _Answer, other: _Answer) -> _Answer:
    """A low bit overrides a high one, and an idle line."""
    pairs = zip_longest(one.data, other.data, fillvalue=0xFF)
    data = bytes(first & second for first, second in pairs)
    return _Answer(one.servo_id, data, max(one.delay_ns, other.delay_ns))


def _execute(servo: SimulatedServo, packet: Packet) -> _Answer | None:
    code, parameters = packet.code, packet.parameters
    if code == Instruction.PING:
        return _Answer.of(servo, b"")
    if code == Instruction.READ:
        return _Answer.of(servo, servo.read(parameters[0], parameters[1])) if len(parameters) == 2 else None
    if code in (Instruction.WRITE, Instruction.REG_WRITE) and len(parameters) >= 2:
        (servo.write if code == Instruction.WRITE else servo.hold_write)(parameters[0], parameters[1:])
    elif code == Instruction.ACTION:
        servo.act()
    elif code == Instruction.RESET:
        servo.reset()
    else:
        return None
    return _Answer.of(servo, b"") if servo.answers_writes else None


def _sync_read(listening: list[SimulatedServo], parameters: bytes) -> list[_Answer]:
    if len(parameters) < 2:
        return []
    address, count = parameters[0], parameters[1]
    asked = [servo for servo_id in parameters[2:] for servo in listening if servo.servo_id == servo_id]
    return [_Answer.of(servo, servo.read(address, count)) for servo in asked]


def _sync_write(listening: list[SimulatedServo], parameters: bytes) -> None:
    if len(parameters) < 2:
        return
    address, count = parameters[0], parameters[1]
    for start in range(2, len(parameters) - count, count + 1):
        data = parameters[start + 1 : start + 1 + count]
        for servo in [servo for servo in listening if servo.servo_id == parameters[start]]:
            servo.write(address, data)


def _undisturbed(data: bytes) -> bytes:
    return data
