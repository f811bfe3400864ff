"""The newest answers of all servos: bytes of the wire in, `JointState` out.

Plain Python, on purpose. A loop sleeps most of its time, so every tick begins with cold caches; there a numpy call
on six values costs as much as a Python loop over them (profiles/benchmarks/arm_bus.py measures the whole).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import numpy as np

from sefa_edge.firmware_bridge.host.calibration import JointScale
from sefa_edge.firmware_bridge.host.feetech.protocol import OVERHEAD_BYTES, Packet, decode, encode
from sefa_edge.firmware_bridge.host.feetech.registers import (
    CURRENT_MA,
    LOAD_PCT,
    PRESENT_LOAD,
    PRESENT_POSITION,
    STATE_BLOCK,
    VOLTAGE_MV,
)
from sefa_edge.firmware_bridge.host.messages import JointState

FRAME_BYTES = OVERHEAD_BYTES + STATE_BLOCK.count
GOOD_SUM = 0xFD
"""Sum of all bytes of a good frame, modulo 256: the checksum makes 0xFF of what it covers, the header adds 0x1FE."""

ANSWER = Struct("<IB" + STATE_BLOCK.layout.format.removeprefix("<"))
"""Header, id and length as one number; status byte; registers 56..70."""

SIGN_15 = 1 << (PRESENT_POSITION.sign_bit or 0)
SIGN_10 = 1 << (PRESENT_LOAD.sign_bit or 0)
"""Positions, speeds and currents have their sign in bit 15, loads in bit 10 with nothing above it."""

LOAD_BITS = SIGN_10 | SIGN_10 - 1
COLUMNS = 5
"""Position, speed, load, current, temperature: what a `JointState` has as floats."""


class StateTable:
    """What every servo reported last, and when. Mutable: updated in the loop; what it gives out is not."""

    def __init__(self, servo_ids: Sequence[int], scales: Sequence[JointScale], ticks_s_per_count: Sequence[int]):
        """All in the order of the joints; `ticks_s_per_count` is the servo's unit of speed."""
        n = len(servo_ids)
        frames = [encode(servo_id, 0, bytes(STATE_BLOCK.count)) for servo_id in servo_ids]
        heads = [ANSWER.unpack_from(frame)[0] for frame in frames]
        self._joints = [
            (
                (row, row * FRAME_BYTES, head),
                (scale.lowest_reading, scale.highest_reading),
                (scale.zero_ticks, scale.joint_per_tick, count * scale.joint_per_tick),
            )
            for row, (head, scale, count) in enumerate(zip(heads, scales, ticks_s_per_count, strict=True))
        ]
        self._rows = {servo_id: row for row, servo_id in enumerate(servo_ids)}
        self._frames = b"".join(frames)
        self._values = [0.0] * (COLUMNS * n)
        self._pack_values = Struct(f"{COLUMNS * n}d").pack
        self._status, self._supply_mv = bytes(n), 0
        self._stamps_ns = [0] * n
        self.everyone = np.frombuffer(b"\1" * n, np.bool_)
        """What `take` gives when all answered just as asked."""
        self._no_age = np.frombuffer(bytes(8 * n), np.int64)

    def position_ticks(self, row: int) -> int:
        """The newest position of one joint as its servo counts, not clipped to a range."""
        position = ANSWER.unpack_from(self._frames, row * FRAME_BYTES)[2]
        return position if position < SIGN_15 else SIGN_15 - position

    def clip_readings(self, row: int, lowest: float, highest: float) -> None:
        """Keep the positions of one joint inside these ticks from the next reading on."""
        place, _, scale = self._joints[row]
        self._joints[row] = (place, (lowest, highest), scale)

    @property
    def reply_bytes(self) -> int:
        """Length of a whole reply on the wire."""
        return len(self._frames)

    def take(self, received: bytes, stamp_ns: int, asked: Sequence[int] | None = None) -> np.ndarray:
        """Take in what arrived after a sync read; tells who answered, bool [n], read-only.

        Noise, foreign ids, other lengths and frames with a wrong checksum are passed over. Of two answers of
        one servo the later one counts.

        Args:
            asked: the order in which the servos were asked, where that is not the order of the joints. Servos answer
            in this order; answers in another one belong to an earlier question, and none of them counts.
        """
        if asked is not None or len(received) != len(self._frames) or not self._accept(received):
            return self._take_pieces(received, stamp_ns, asked)
        self._stamps_ns = [stamp_ns] * len(self._stamps_ns)
        return self.everyone

    def joint_state(self, sequence: int, stamp_ns: int, valid: np.ndarray) -> JointState:
        """The newest values of all joints in arrays that nobody can write; `valid` as `take` gave it."""
        columns = np.frombuffer(self._pack_values(*self._values)).reshape(COLUMNS, -1)
        return JointState(
            sequence,
            stamp_ns,
            columns[0],  # one by one: unpacking an array costs three times as much
            columns[1],
            columns[2],
            columns[3],
            columns[4],
            self._supply_mv,
            np.frombuffer(self._status, np.uint8),
            valid,
            self._no_age if valid is self.everyone else self._ages_ns(stamp_ns),
        )

    def _accept(self, frames: bytes) -> bool:
        """Take over the values of all joints, or of none: when a frame is not the one that belongs in its place."""
        n = len(self._joints)
        values, status, lowest_voltage = [0.0] * (COLUMNS * n), bytearray(n), 0xFF
        for (row, start, head), (lowest, highest), (zero, per_tick, per_count) in self._joints:
            found, code, position, speed, load, voltage, temperature, _, bits, _, current = ANSWER.unpack_from(
                frames, start
            )
            if found != head or sum(frames[start : start + FRAME_BYTES]) & 0xFF != GOOD_SUM:
                return False
            load &= LOAD_BITS
            ticks = position if position < SIGN_15 else SIGN_15 - position
            if ticks < lowest:
                ticks = lowest
            elif ticks > highest:
                ticks = highest
            values[row] = (ticks - zero) * per_tick
            values[row + n] = (speed if speed < SIGN_15 else SIGN_15 - speed) * per_count
            values[row + 2 * n] = (load if load < SIGN_10 else SIGN_10 - load) * LOAD_PCT
            values[row + 3 * n] = (current if current < SIGN_15 else SIGN_15 - current) * CURRENT_MA
            values[row + 4 * n] = temperature
            status[row] = code | bits
            if voltage < lowest_voltage:
                lowest_voltage = voltage
        self._frames, self._values, self._status = frames, values, bytes(status)
        self._supply_mv = lowest_voltage * VOLTAGE_MV
        return True

    def _take_pieces(self, received: bytes, stamp_ns: int, asked: Sequence[int] | None) -> np.ndarray:
        frames, valid = bytearray(self._frames), bytearray(len(self._joints))
        answers = [
            packet
            for packet in decode(received)
            if packet.servo_id in self._rows and len(packet.parameters) == STATE_BLOCK.count
        ]
        if asked is not None and not _in_order([packet.servo_id for packet in answers], asked):
            answers = []
        for packet in answers:
            row = self._rows[packet.servo_id]
            frames[row * FRAME_BYTES : (row + 1) * FRAME_BYTES] = _frame(packet)
            self._stamps_ns[row] = stamp_ns
            valid[row] = True
        self._accept(bytes(frames))
        return np.frombuffer(bytes(valid), np.bool_)

    def _ages_ns(self, stamp_ns: int) -> np.ndarray:
        ages = np.array([stamp_ns - heard_ns for heard_ns in self._stamps_ns], np.int64)
        ages.setflags(write=False)
        return ages


def _frame(packet: Packet) -> bytes:
    return encode(packet.servo_id, packet.code, packet.parameters)


def _in_order(answered: Sequence[int], asked: Sequence[int]) -> bool:
    """Whether servos were first heard in the order in which they were asked; some may be missing."""
    places = [asked.index(servo_id) for servo_id in dict.fromkeys(answered)]
    return places == sorted(places)
