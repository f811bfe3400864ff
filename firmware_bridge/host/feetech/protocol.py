"""The Feetech SCS/STS packet: encoding and decoding of the bytes on the servo bus.

Packet (both directions, little-endian payload)::

    FF FF  ID  LEN  CODE  PARAMETERS…  CHECK
    LEN = parameters + 2      CHECK = ~(ID + LEN + CODE + parameters)

CODE is an instruction from the host, or the status byte of a servo's answer. Source: Feetech "FT-SCS" protocol manual;
`feetech-servo-sdk` 1.0.0 agrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

HEADER = b"\xff\xff"
BROADCAST_ID = 0xFE
MAX_SERVO_ID = 0xFD
OVERHEAD_BYTES = 6
"""Header, id, length, code and checksum: a packet without parameters."""
MAX_PARAMETERS = 0xFF - 2
MAX_PACKET_BYTES = OVERHEAD_BYTES + MAX_PARAMETERS


class Instruction(IntEnum):
    """Instructions of the host. The value is the CODE byte."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    RESET = 0x06
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class StatusBits(IntFlag):
    """Faults that a servo reports in the CODE byte of every answer and in register 65.

    Sources disagree: bit 4 is an angle fault in Feetech's memory table, over-current for `feetech-cli`, nothing for
    `feetech-servo-sdk`; bit 6 is overload for `feetech-cli` and nothing for the others. These two have no name here;
    any bit that is set is treated as a fault.
    """

    VOLTAGE = 1 << 0
    ENCODER = 1 << 1
    TEMPERATURE = 1 << 2
    CURRENT = 1 << 3
    OVERLOAD = 1 << 5


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet with a valid checksum."""

    servo_id: int
    code: int
    parameters: bytes


def checksum(body: Iterable[int]) -> int:
    """Checksum of everything between the header and the checksum itself."""
    return ~sum(body) & 0xFF


def encode(servo_id: int, code: int, parameters: bytes = b"") -> bytes:
    """One packet.

    Raises:
        ValueError: an id above 0xFE, or more than 253 parameter bytes.
    """
    if not 0 <= servo_id <= BROADCAST_ID:
        raise ValueError(f"servo id {servo_id} is outside 0..{BROADCAST_ID}")
    if len(parameters) > MAX_PARAMETERS:
        raise ValueError(f"{len(parameters)} parameter bytes do not fit into one packet ({MAX_PARAMETERS})")
    body = bytes((servo_id, len(parameters) + 2, code)) + parameters
    return HEADER + body + bytes((checksum(body),))


def encode_ping(servo_id: int) -> bytes:
    return encode(servo_id, Instruction.PING)


def encode_read(servo_id: int, address: int, count: int) -> bytes:
    """Read `count` bytes of one servo, starting at register `address`."""
    return encode(servo_id, Instruction.READ, bytes((address, count)))


def encode_write(servo_id: int, address: int, data: bytes) -> bytes:
    """Write `data` to one servo (or, with the broadcast id, to all), starting at register `address`."""
    return encode(servo_id, Instruction.WRITE, bytes((address,)) + data)


def encode_reg_write(servo_id: int, address: int, data: bytes) -> bytes:
    """As `encode_write`, but the servo waits for ACTION before it executes it."""
    return encode(servo_id, Instruction.REG_WRITE, bytes((address,)) + data)


def encode_action() -> bytes:
    """Carry out every pending REG_WRITE on the bus."""
    return encode(BROADCAST_ID, Instruction.ACTION)


def encode_sync_read(servo_ids: Sequence[int], address: int, count: int) -> bytes:
    """Read the same registers of several servos; they answer one after the other, in this order."""
    return encode(BROADCAST_ID, Instruction.SYNC_READ, bytes((address, count, *servo_ids)))


def encode_sync_write(address: int, data_by_id: Sequence[tuple[int, bytes]]) -> bytes:
    """Write the same registers of several servos at once. Servos do not answer.

    Raises:
        ValueError: no servo, data of different lengths, or more than fits into one packet.
    """
    lengths = {len(data) for _, data in data_by_id}
    if len(lengths) != 1:
        raise ValueError(f"every servo needs the same number of bytes, got lengths {sorted(lengths)}")
    blocks = b"".join(bytes((servo_id,)) + data for servo_id, data in data_by_id)
    return encode(BROADCAST_ID, Instruction.SYNC_WRITE, bytes((address, lengths.pop())) + blocks)


def reply_bytes(data_bytes: int) -> int:
    """Length on the wire of a status packet that carries `data_bytes`."""
    return OVERHEAD_BYTES + data_bytes


def wire_time_ns(byte_count: int, baud: int) -> int:
    """Time that bytes take on the wire: 8 data bits, a start and a stop bit."""
    return byte_count * 10_000_000_000 // baud


def decode(buffer: bytes) -> list[Packet]:
    """All packets of a finished transaction; noise and incomplete or corrupted packets are skipped."""
    packets, _ = _scan(buffer, stop_at_incomplete=False)
    return packets


class PacketDecoder:
    """Packets from a byte stream that arrives in pieces of any size; never raises, always resynchronises.

    Noise and packets with a wrong checksum are dropped one byte at a time, so that a packet inside them is found. At
    most `MAX_PACKET_BYTES` are kept waiting for the rest of a packet.
    """

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Add received bytes; returns the packets that they complete."""
        buffer = self._pending + data
        packets, consumed = _scan(buffer, stop_at_incomplete=True)
        self._pending = buffer[consumed:]
        return packets

    def reset(self) -> None:
        """Drop an incomplete packet: the line has been silent, and the rest will not come."""
        self._pending = b""


def _scan(buffer: bytes, *, stop_at_incomplete: bool) -> tuple[list[Packet], int]:
    packets: list[Packet] = []
    position, end = 0, len(buffer)
    while (start := buffer.find(HEADER, position)) >= 0:
        if start + 4 > end or start + 4 + buffer[start + 3] > end:
            if stop_at_incomplete and _may_be_frame(buffer, start):
                return packets, start
            position = start + 1
            continue
        stop = start + 4 + buffer[start + 3]
        if _is_frame(buffer, start, stop):
            packets.append(Packet(buffer[start + 2], buffer[start + 4], buffer[start + 5 : stop - 1]))
            position = stop
        else:
            position = start + 1
    # A header may be split between two pieces: keep its first byte.
    return packets, end - 1 if end > position and buffer[-1] == 0xFF else end


def _may_be_frame(buffer: bytes, start: int) -> bool:
    known = buffer[start + 2 : start + 4]
    return (len(known) < 1 or known[0] != 0xFF) and (len(known) < 2 or known[1] >= 2)


def _is_frame(buffer: bytes, start: int, stop: int) -> bool:
    plausible = buffer[start + 2] != 0xFF and buffer[start + 3] >= 2
    return plausible and ~sum(buffer[start + 2 : stop - 1]) & 0xFF == buffer[stop - 1]
