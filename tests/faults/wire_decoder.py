"""Decodes the packets on a Feetech servo bus, only for tests.

Written from Feetech's protocol manual, not from the product, so that it does not repeat a mistake of its codec.

    FF FF  ID  LENGTH  CODE  PARAMETERS  CHECKSUM       LENGTH = number of parameters + 2
                                                        CHECKSUM = inverted low byte of ID + LENGTH + CODE + PARAMETERS
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

READ, WRITE, REG_WRITE, ACTION = 0x02, 0x03, 0x04, 0x05
SYNC_READ, SYNC_WRITE = 0x82, 0x83
EVERY_SERVO = 0xFE
NO_ID = 0xFF

TORQUE_ENABLE = 40
GOAL_POSITION = 42
GOAL_SPEED = 46
PRESENT_POSITION = 56

SHORTEST_LENGTH = 2
SIGN_BIT = 0x8000


@dataclass(frozen=True, slots=True)
class Frame:
    """One packet with a correct checksum. `code` is an instruction of the host, or the status byte of a reply."""

    servo_id: int
    code: int
    parameters: bytes


class FrameReader:
    """Extracts frames from a byte stream that arrives in arbitrary pieces. Bytes outside frames are skipped."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete, in order."""
        self._buffer += data
        return list(self._complete_frames())

    def flush(self) -> list[Frame]:
        """Call after a silence, which ends an incomplete frame; returns the frames among its bytes."""
        found = []
        while self._buffer:
            found += self._complete_frames()
            del self._buffer[:1]
        return found

    def _complete_frames(self) -> Iterator[Frame]:
        buffer = self._buffer
        while buffer:
            size = _frame_size(buffer)
            if size is None:
                del buffer[0]
            elif len(buffer) < size:
                return
            elif sum(buffer[2:size]) & 0xFF == 0xFF:
                yield Frame(buffer[2], buffer[4], bytes(buffer[5 : size - 1]))
                del buffer[:size]
            else:
                del buffer[0]


def _frame_size(buffer: bytearray) -> int | None:
    """Size of the frame that begins here, bytes, or how many are needed to know it; None: no frame begins here."""
    if buffer[0] != 0xFF or (len(buffer) > 1 and buffer[1] != 0xFF):
        return None
    if len(buffer) > 2 and buffer[2] == NO_ID:
        return None
    if len(buffer) < 4:
        return 4
    return None if buffer[3] < SHORTEST_LENGTH else 4 + buffer[3]


class When(Enum):
    """When a write takes effect."""

    NOW = "with this packet"
    LATER = "with the next ACTION"


@dataclass(frozen=True, slots=True)
class RegisterWrite:
    """Bytes written to one servo (or EVERY_SERVO) from register `address` on."""

    servo_id: int
    address: int
    data: bytes
    when: When = When.NOW

    def byte(self, address: int) -> int | None:
        """The byte written to this register; None: it is not written."""
        offset = address - self.address
        return self.data[offset] if 0 <= offset < len(self.data) else None


@dataclass(frozen=True, slots=True)
class RegisterRead:
    """A request for `count` bytes from register `address` on, to which each of these servos replies."""

    servo_ids: tuple[int, ...]
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Act:
    """ACTION: the pending writes take effect."""

    servo_id: int


Request = RegisterWrite | RegisterRead | Act


def requests(frame: Frame) -> list[Request]:
    """The requests in a frame of the host, servo by servo; empty for ping and other instructions."""
    code, parameters = frame.code, frame.parameters
    if code in (WRITE, REG_WRITE) and len(parameters) > 1:
        when = When.NOW if code == WRITE else When.LATER
        return [RegisterWrite(frame.servo_id, parameters[0], parameters[1:], when)]
    if code == SYNC_WRITE and len(parameters) > 2:
        return list(_sync_writes(parameters[0], parameters[1], parameters[2:]))
    if code == READ and len(parameters) == 2:
        return [RegisterRead((frame.servo_id,), parameters[0], parameters[1])]
    if code == SYNC_READ and len(parameters) > 2:
        return [RegisterRead(tuple(parameters[2:]), parameters[0], parameters[1])]
    return [Act(frame.servo_id)] if code == ACTION else []


def _sync_writes(address: int, count: int, blocks: bytes) -> Iterator[RegisterWrite]:
    for start in range(0, len(blocks) - count, count + 1):
        yield RegisterWrite(blocks[start], address, blocks[start + 1 : start + 1 + count])


def position_ticks(low: int, high: int) -> int:
    """A position register, 42 or 56: little-endian, bit 15 is the sign."""
    raw = low | high << 8
    return -(raw & ~SIGN_BIT) if raw & SIGN_BIT else raw
