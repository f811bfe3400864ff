"""What may happen to the bytes of a servo's answer on their way, and a wire that hands them over in pieces."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from sefa_edge.firmware_bridge.host.feetech.protocol import decode, encode
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.bus_port import BusWire, Clock

Damage = Callable[[bytes, Random], bytes]


def frames_of(data: bytes) -> list[bytes]:
    """The good frames in some bytes, one by one."""
    return [encode(packet.servo_id, packet.code, packet.parameters) for packet in decode(data)]


def flip_a_bit(data: bytes, dice: Random) -> bytes:
    damaged = bytearray(data)
    if damaged:
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def overwrite(data: bytes, dice: Random) -> bytes:
    start = dice.randint(0, len(data))
    return data[:start] + dice.randbytes(dice.randint(1, 30)) + data[start + dice.randint(0, 30) :]


def cut(data: bytes, dice: Random) -> bytes:
    start = dice.randint(0, len(data))
    return data[:start] if dice.random() < 0.5 else data[start:]


def drop_some(data: bytes, dice: Random) -> bytes:
    start = dice.randint(0, len(data))
    return data[:start] + data[start + dice.randint(1, 40) :]


def put_noise_before(data: bytes, dice: Random) -> bytes:
    return dice.randbytes(dice.randint(1, 60)) + data


def put_headers_between(data: bytes, dice: Random) -> bytes:
    """The most misleading noise: beginnings of frames."""
    start = dice.randint(0, len(data))
    return data[:start] + b"\xff" * dice.randint(1, 4) + dice.randbytes(dice.randint(0, 3)) + data[start:]


def duplicate(data: bytes, dice: Random) -> bytes:
    frames = frames_of(data)
    return b"".join(frame * dice.choice([1, 1, 2, 3]) for frame in frames)


def reorder(data: bytes, dice: Random) -> bytes:
    frames = frames_of(data)
    dice.shuffle(frames)
    return b"".join(frames)


def add_strangers(data: bytes, dice: Random) -> bytes:
    frames = frames_of(data)
    stranger = encode(dice.randint(7, 253), dice.randrange(256), dice.randbytes(dice.choice([0, 2, 15])))
    frames.insert(dice.randint(0, len(frames)), stranger)
    return b"".join(frames)


def wrong_length(data: bytes, dice: Random) -> bytes:
    packets = decode(data)
    chosen = dice.randrange(max(len(packets), 1))
    return b"".join(
        encode(packet.servo_id, packet.code, packet.parameters[:-1] if i == chosen else packet.parameters)
        for i, packet in enumerate(packets)
    )


def silence(data: bytes, dice: Random) -> bytes:
    return b""


DAMAGES: tuple[Damage, ...] = (
    flip_a_bit,
    overwrite,
    cut,
    drop_some,
    put_noise_before,
    put_headers_between,
    duplicate,
    reorder,
    add_strangers,
    wrong_length,
    silence,
)


class PiecewiseWire(BusWire):
    """A simulated wire that hands bytes over in pieces; what is not fetched stays in its buffer."""

    def __init__(self, bus: SimulatedBus, clock: Clock, dice: Random) -> None:
        super().__init__(bus, clock)
        self._dice = dice
        self._buffer = b""
        self.largest_piece = 4096

    def discard_input(self) -> None:
        self._buffer = b""
        super().discard_input()

    def read(self, deadline_ns: int) -> bytes:
        self._buffer = self._buffer or super().read(deadline_ns)
        count = self._dice.randint(1, self.largest_piece)
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        return piece
