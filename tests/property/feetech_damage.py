"""Damage to the bytes of servo replies, and a wire that delivers bytes in pieces."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from sefa_edge.firmware_bridge.host.feetech.protocol import decode, encode
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.bus_port import BusWire, Clock

Damage = Callable[[bytes, Random], bytes]


def frames_of(data: bytes) -> list[bytes]:
    """The valid frames in some bytes, one by one."""
    return [encode(packet.servo_id, packet.code, packet.parameters) for packet in decode(data)]


def flip_a_bit(data: bytes, rng: Random) -> bytes:
    damaged = bytearray(data)
    if damaged:
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite(data: bytes, rng: Random) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + rng.randbytes(rng.randint(1, 30)) + data[start + rng.randint(0, 30) :]


def cut(data: bytes, rng: Random) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] if rng.random() < 0.5 else data[start:]


def drop_some(data: bytes, rng: Random) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + data[start + rng.randint(1, 40) :]


def put_noise_before(data: bytes, rng: Random) -> bytes:
    return rng.randbytes(rng.randint(1, 60)) + data


def put_headers_between(data: bytes, rng: Random) -> bytes:
    """The most misleading noise: beginnings of frames."""
    start = rng.randint(0, len(data))
    return data[:start] + b"\xff" * rng.randint(1, 4) + rng.randbytes(rng.randint(0, 3)) + data[start:]


def duplicate(data: bytes, rng: Random) -> bytes:
    frames = frames_of(data)
    return b"".join(frame * rng.choice([1, 1, 2, 3]) for frame in frames)


def reorder(data: bytes, rng: Random) -> bytes:
    frames = frames_of(data)
    rng.shuffle(frames)
    return b"".join(frames)


def add_strangers(data: bytes, rng: Random) -> bytes:
    frames = frames_of(data)
    stranger = encode(rng.randint(7, 253), rng.randrange(256), rng.randbytes(rng.choice([0, 2, 15])))
    frames.insert(rng.randint(0, len(frames)), stranger)
    return b"".join(frames)


def wrong_length(data: bytes, rng: Random) -> bytes:
    packets = decode(data)
    chosen = rng.randrange(max(len(packets), 1))
    return b"".join(
        encode(packet.servo_id, packet.code, packet.parameters[:-1] if i == chosen else packet.parameters)
        for i, packet in enumerate(packets)
    )


def silence(data: bytes, rng: Random) -> bytes:
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
    """A simulated wire that delivers bytes in pieces; bytes not yet read stay in its buffer."""

    def __init__(self, bus: SimulatedBus, clock: Clock, rng: Random) -> None:
        super().__init__(bus, clock)
        self._rng = rng
        self._buffer = b""
        self.largest_piece = 4096

    def discard_input(self) -> None:
        self._buffer = b""
        super().discard_input()

    def read(self, deadline_ns: int) -> bytes:
        self._buffer = self._buffer or super().read(deadline_ns)
        count = self._rng.randint(1, self.largest_piece)
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        return piece
