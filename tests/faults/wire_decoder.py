"""What is said on a Feetech servo bus, decoded for the tests alone.

Written from Feetech's protocol manual, not from the product: a mistake in the product's own codec must not hide here.

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
    """One packet with a correct checksum. `code` is an instruction of the host, or the status byte of an answer."""

    servo_id: int
    code: int
    parameters: bytes


class FrameReader:
    """Frames out of a stream of bytes that arrives in arbitrary pieces. Bytes that belong to no frame are skipped."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete, in order."""
        self._held += data
        return list(self._complete_frames())

    def flush(self) -> list[Frame]:
        """The line fell silent: a frame that was begun will not be completed; frames behind its beginning count."""
        found = []
        while self._held:
            found += self._complete_frames()
            del self._held[:1]
        return found

    def _complete_frames(self) -> Iterator[Frame]:
        held = self._held
        while held:
            size = _frame_size(held)
            if size is None:
                del held[0]
            elif len(held) < size:
                return
            elif sum(held[2:size]) & 0xFF == 0xFF:
                yield Frame(held[2], held[4], bytes(held[5 : size - 1]))
                del held[:size]
            else:
                del held[0]


def _frame_size(held: bytearray) -> int | None:
    """Bytes of the frame that begins here, or how many more are needed to tell; None: no frame begins here."""
    if held[0] != 0xFF or (len(held) > 1 and held[1] != 0xFF):
        return None
    if len(held) > 2 and held[2] == NO_ID:
        return None
    if len(held) < 4:
        return 4
    return None if held[3] < SHORTEST_LENGTH else 4 + held[3]


class When(Enum):
    """When a write takes effect."""

    NOW = "with this packet"
    LATER = "with the next ACTION"


@dataclass(frozen=True, slots=True)
class RegisterWrite:
    """Bytes for one servo (or EVERY_SERVO) from register `address` on."""

    servo_id: int
    address: int
    data: bytes
    when: When = When.NOW

    def byte(self, address: int) -> int | None:
        """What is written to this register; None: it is not touched."""
        offset = address - self.address
        return self.data[offset] if 0 <= offset < len(self.data) else None


@dataclass(frozen=True, slots=True)
class RegisterRead:
    """A question: `count` bytes from register `address` on, to be answered by each of these servos."""

    servo_ids: tuple[int, ...]
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Act:
    """ACTION: the writes that were held back take effect."""

    servo_id: int


Request = RegisterWrite | RegisterRead | Act


def requests(frame: Frame) -> list[Request]:
    """What a frame of the host asks for, servo by servo; nothing for ping and other instructions."""
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
