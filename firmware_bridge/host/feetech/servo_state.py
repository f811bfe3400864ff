"""The newest answers of all servos: bytes of the wire in, `JointState` out.

Plain Python, on purpose. The loop sleeps most of its time, so every tick begins with cold caches; there, a numpy
call on six values costs about 3 us and a loop over them 2 us in all (profiles/benchmarks/arm_bus.py).
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
HEAD_BYTES = 4
GOOD_SUM = 0xFD
"""Sum of all bytes of a good frame, modulo 256: the checksum makes 0xFF of what it covers, the header adds 0x1FE."""

ANSWER = Struct(f"<{HEAD_BYTES}xB" + STATE_BLOCK.layout.format.removeprefix("<"))
"""Status byte and registers of a frame."""

SIGN_15 = 1 << (PRESENT_POSITION.sign_bit or 0)
SIGN_10 = 1 << (PRESENT_LOAD.sign_bit or 0)
"""Positions, speeds and currents have their sign in bit 15, loads in bit 10 with nothing above it."""

QUANTITIES = 5
"""Position, speed, load, current, temperature: the columns of floats that a `JointState` has."""


class StateTable:
    """What every servo reported last, and when. Mutable: updated in the loop; what it gives out is not."""

    def __init__(self, servo_ids: Sequence[int], scales: Sequence[JointScale], ticks_s_per_count: Sequence[int]):
        """All in the order of the joints; `ticks_s_per_count` is the servo's unit of speed."""
        n = len(servo_ids)
        self.reply_bytes = n * FRAME_BYTES
        """Length of a whole reply on the wire."""
        self._n = n
        self._rows = {servo_id: row for row, servo_id in enumerate(servo_ids)}
        self._zero = [scale.zero_ticks for scale in scales]
        self._per_tick = [scale.joint_per_tick for scale in scales]
        self._per_count = [
            unit * scale.joint_per_tick for unit, scale in zip(ticks_s_per_count, scales, strict=True)
        ]
        empty = bytes(STATE_BLOCK.count)
        heads = [encode(servo_id, 0, empty)[:HEAD_BYTES] for servo_id in servo_ids]
        self._heads = list(zip(range(0, self.reply_bytes, FRAME_BYTES), heads, strict=True))
        self._values = [0.0] * (QUANTITIES * n)
        self._pack_values = Struct(f"{QUANTITIES * n}d").pack
        self._status = bytearray(n)
        self._voltages = bytearray(n)
        self._stamps_ns = [0] * n
        self._everyone = np.frombuffer(b"\1" * n, np.bool_)
        self._no_age = np.frombuffer(bytes(8 * n), np.int64)

    def take(self, received: bytes, stamp_ns: int) -> np.ndarray:
        """Take in what arrived after a sync read; tells who answered, bool [n], read-only.

        Noise, foreign ids, other lengths and frames with a wrong checksum are passed over. Of two answers of
        one servo the later one counts.
        """
        if not self._just_as_asked(received):
            return self._take_pieces(received, stamp_ns)
        for row in range(self._n):
            self._put(row, received, row * FRAME_BYTES)
        self._stamps_ns = [stamp_ns] * self._n
        return self._everyone

    def is_whole(self, valid: np.ndarray) -> bool:
        """Whether that came of the very bytes that were asked for, and nothing else."""
        return valid is self._everyone

    def joint_state(self, sequence: int, stamp_ns: int, valid: np.ndarray) -> JointState:
        """The newest values of all joints in arrays that nobody can write; `valid` as `take` gave it."""
        columns = np.frombuffer(self._pack_values(*self._values)).reshape(QUANTITIES, self._n)
        return JointState(
            sequence,
            stamp_ns,
            columns[0],
            columns[1],
            columns[2],
            columns[3],
            columns[4],
            min(self._voltages) * VOLTAGE_MV,
            np.frombuffer(bytes(self._status), np.uint8),
            valid,
            self._no_age if valid is self._everyone else self._ages_ns(stamp_ns),
        )

    def _just_as_asked(self, received: bytes) -> bool:
        if len(received) != self.reply_bytes:
            return False
        for start, head in self._heads:
            if sum(received[start : start + FRAME_BYTES]) & 0xFF != GOOD_SUM or not received.startswith(head, start):
                return False
        return True

    def _take_pieces(self, received: bytes, stamp_ns: int) -> np.ndarray:
        valid = bytearray(self._n)
        for packet in decode(received):
            row = self._rows.get(packet.servo_id)
            if row is not None and len(packet.parameters) == STATE_BLOCK.count:
                self._put(row, _frame(packet), 0)
                self._stamps_ns[row] = stamp_ns
                valid[row] = True
        return np.frombuffer(bytes(valid), np.bool_)

    def _put(self, row: int, frames: bytes, start: int) -> None:
        code, position, speed, load, voltage, temperature, _, status, _, current = ANSWER.unpack_from(frames, start)
        values, n = self._values, self._n
        ticks = position if position < SIGN_15 else SIGN_15 - position
        load &= SIGN_10 | SIGN_10 - 1
        values[row] = (ticks - self._zero[row]) * self._per_tick[row]
        values[row + n] = (speed if speed < SIGN_15 else SIGN_15 - speed) * self._per_count[row]
        values[row + 2 * n] = (load if load < SIGN_10 else SIGN_10 - load) * LOAD_PCT
        values[row + 3 * n] = (current if current < SIGN_15 else SIGN_15 - current) * CURRENT_MA
        values[row + 4 * n] = temperature
        self._status[row] = code | status
        self._voltages[row] = voltage

    def _ages_ns(self, stamp_ns: int) -> np.ndarray:
        ages = np.array([stamp_ns - heard_ns for heard_ns in self._stamps_ns], np.int64)
        ages.setflags(write=False)
        return ages


def _frame(packet: Packet) -> bytes:
    return encode(packet.servo_id, packet.code, packet.parameters)
