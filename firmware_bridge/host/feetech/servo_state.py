"""The newest answers of all servos: bytes of the wire in, `JointState` out. One pass over all joints, no loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sefa_edge.firmware_bridge.host.calibration import JointScale
from sefa_edge.firmware_bridge.host.feetech.protocol import HEADER, OVERHEAD_BYTES, decode
from sefa_edge.firmware_bridge.host.feetech.registers import (
    CURRENT_MA,
    LOAD_PCT,
    PRESENT_CURRENT,
    PRESENT_LOAD,
    PRESENT_POSITION,
    PRESENT_SPEED,
    PRESENT_TEMPERATURE,
    PRESENT_VOLTAGE,
    STATE_BLOCK,
    STATUS,
    VOLTAGE_MV,
)
from sefa_edge.firmware_bridge.host.messages import JointState

FRAME_BYTES = OVERHEAD_BYTES + STATE_BLOCK.count
HEAD_BYTES = 4
CODE = 4
"""Where the status byte of an answer lies; header, id and length lie before, the registers behind."""

GOOD_SUM = 0xFD
"""Sum of all bytes of a good frame, modulo 256: the checksum makes 0xFF of what it covers, the header adds 0x1FE."""

SIGNED = (PRESENT_POSITION, PRESENT_SPEED, PRESENT_LOAD, PRESENT_CURRENT)


class StateTable:
    """What every servo reported last, and when. Mutable: updated in the loop; what it gives out is not.

    Holds one answer to a read of `STATE_BLOCK` per servo, as it came [n, 21 bytes], and nothing that was not
    checked. Values are computed from there for all joints at once.
    """

    def __init__(self, servo_ids: Sequence[int], scales: Sequence[JointScale], ticks_s_per_count: Sequence[int]):
        """All in the order of the joints; `ticks_s_per_count` is the servo's unit of speed."""
        n = len(servo_ids)
        self.reply_bytes = n * FRAME_BYTES
        """Length of a whole reply on the wire."""
        self._rows = {servo_id: row for row, servo_id in enumerate(servo_ids)}
        self._stamps_ns = np.zeros(n, np.int64)
        self._incoming, self._held = bytearray(self.reply_bytes), bytearray(self.reply_bytes)
        arrived = _frames(self._incoming)
        self._arrived, self._heads = arrived, arrived[:, :HEAD_BYTES]
        self._sums = np.zeros(n, np.uint8)
        self._good_heads = b"".join(HEADER + bytes((i, STATE_BLOCK.count + 2)) for i in servo_ids)
        self._good_sums = bytes((GOOD_SUM,)) * n
        self._prepare_values(scales, ticks_s_per_count)
        self._everyone, self._no_age = _read_only(np.ones(n, bool)), _read_only(np.zeros(n, np.int64))

    def _prepare_values(self, scales: Sequence[JointScale], ticks_s_per_count: Sequence[int]) -> None:
        n = len(scales)
        frames = _frames(self._held)
        self._codes, self._status = frames[:, CODE], frames[:, _place(STATUS.address)]
        self._voltages, self._temperatures = (
            frames[:, _place(register.address)] for register in (PRESENT_VOLTAGE, PRESENT_TEMPERATURE)
        )
        # Words of the wire begin at odd places; numpy reads them where they lie, little-endian.
        self._words = [
            np.ndarray((n,), "<u2", self._held, _place(register.address), (FRAME_BYTES,)) for register in SIGNED
        ]
        per_tick = np.array([scale.joint_per_tick for scale in scales])
        self._zero = np.zeros((len(SIGNED), n))
        self._zero[0] = [scale.zero_ticks for scale in scales]
        self._scale = np.array(
            [per_tick, np.array(ticks_s_per_count) * per_tick, np.full(n, LOAD_PCT), np.full(n, CURRENT_MA)]
        )
        self._sign_bits = np.array([[1 << (register.sign_bit or 0)] for register in SIGNED], np.uint16)
        self._magnitudes = self._sign_bits - np.uint16(1)
        self._raw = np.zeros((len(SIGNED), n), np.uint16)
        self._signs = np.zeros_like(self._raw)
        self._negative = np.zeros(self._raw.shape, bool)

    def take(self, received: bytes, stamp_ns: int) -> np.ndarray:
        """Take in what arrived after a sync read; tells who answered, bool [n], read-only.

        Noise, foreign ids, other lengths and frames with a wrong checksum are passed over. Of two answers of
        one servo the later one counts.
        """
        if len(received) == self.reply_bytes:
            self._incoming[:] = received
            if self._incoming_is_whole():
                self._held[:] = received
                self._stamps_ns.fill(stamp_ns)
                return self._everyone
        return self._take_pieces(received, stamp_ns)

    def is_whole(self, valid: np.ndarray) -> bool:
        """Whether that came of the very bytes that were asked for, and nothing else."""
        return valid is self._everyone

    def joint_state(self, sequence: int, stamp_ns: int, valid: np.ndarray) -> JointState:
        """The newest values of all joints; `valid` as `take` gave it."""
        values = self._values()
        return JointState(
            sequence,
            stamp_ns,
            values[0],
            values[1],
            values[2],
            values[3],
            values[4],
            min(self._voltages.tolist()) * VOLTAGE_MV,
            _read_only(self._codes | self._status),
            valid,
            self._no_age if valid is self._everyone else _read_only(stamp_ns - self._stamps_ns),
        )

    def _incoming_is_whole(self) -> bool:
        np.add.reduce(self._arrived, axis=1, dtype=np.uint8, out=self._sums)
        return self._sums.tobytes() == self._good_sums and self._heads.tobytes() == self._good_heads

    def _take_pieces(self, received: bytes, stamp_ns: int) -> np.ndarray:
        valid = np.zeros(len(self._rows), bool)
        for packet in decode(received):
            row = self._rows.get(packet.servo_id)
            if row is not None and len(packet.parameters) == STATE_BLOCK.count:
                start = row * FRAME_BYTES + CODE
                self._held[start : start + STATE_BLOCK.count + 1] = bytes((packet.code,)) + packet.parameters
                self._stamps_ns[row] = stamp_ns
                valid[row] = True
        return _read_only(valid)

    def _values(self) -> np.ndarray:
        """Positions, speeds, loads, currents, temperatures: float64 [5, n], read-only."""
        raw, signs, values = self._raw, self._signs, np.empty((len(SIGNED) + 1, self._raw.shape[1]))
        signed = values[: len(SIGNED)]
        for row, words in enumerate(self._words):
            raw[row] = words
        # Sign-magnitude: a set sign bit makes the rest negative.
        np.bitwise_and(raw, self._sign_bits, out=signs)
        np.not_equal(signs, 0, out=self._negative)
        np.bitwise_and(raw, self._magnitudes, out=raw)
        np.copyto(signed, raw)
        np.negative(signed, out=signed, where=self._negative)
        np.subtract(signed, self._zero, out=signed)
        np.multiply(signed, self._scale, out=signed)
        values[len(SIGNED)] = self._temperatures
        values.setflags(write=False)
        return values


def _frames(buffer: bytearray) -> np.ndarray:
    """The frames in a buffer: uint8 [n, FRAME_BYTES], a view."""
    return np.frombuffer(buffer, np.uint8).reshape(-1, FRAME_BYTES)


def _place(address: int) -> int:
    """Where a register lies in an answer."""
    return CODE + 1 + address - STATE_BLOCK.address


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
