"""The newest answers of all servos: bytes from the wire in, `JointState` out.

Plain Python on purpose. A control loop sleeps most of the time, so every tick starts with cold caches; a numpy call on
six values then costs as much as a Python loop over them (profiles/benchmarks/arm_bus.py measures it).
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
"""Sum of all bytes of a valid packet, modulo 256: body and checksum add up to 0xFF, the header adds 0x1FE."""

ANSWER = Struct("<IB" + STATE_BLOCK.layout.format.removeprefix("<"))
"""Header, id and length as one number; the status byte; registers 56..70."""

SIGN_15 = 1 << (PRESENT_POSITION.sign_bit or 0)
SIGN_10 = 1 << (PRESENT_LOAD.sign_bit or 0)
"""Positions, speeds and currents have their sign in bit 15, loads in bit 10 with nothing above it."""

LOAD_BITS = SIGN_10 | SIGN_10 - 1
COLUMNS = 5
"""Position, speed, load, current, temperature: the float arrays of a `JointState`."""


class StateTable:
    """What every servo reported last, and when. Mutable: updated in the loop; the states that it returns are not."""

    def __init__(self, servo_ids: Sequence[int], scales: Sequence[JointScale], ticks_s_per_count: Sequence[int]):
        """All arguments in the order of the joints; `ticks_s_per_count` is the servo's unit of speed."""
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
        self.all_answered = np.frombuffer(b"\1" * n, np.bool_)
        """Returned by `update` if every servo answered in order."""
        self._no_age = np.frombuffer(bytes(8 * n), np.int64)

    def position_ticks(self, row: int) -> int:
        """The newest position of one joint in its servo's ticks, not clipped to a range."""
        position = ANSWER.unpack_from(self._frames, row * FRAME_BYTES)[2]
        return position if position < SIGN_15 else SIGN_15 - position

    def clip_readings(self, row: int, lowest: float, highest: float) -> None:
        """Clip the positions of one joint to these ticks, from the next reading on."""
        place, _, scale = self._joints[row]
        self._joints[row] = (place, (lowest, highest), scale)

    @property
    def reply_bytes(self) -> int:
        """Length of a complete reply on the wire."""
        return len(self._frames)

    def update(self, received: bytes, stamp_ns: int, asked: Sequence[int] | None = None) -> np.ndarray:
        """Add the bytes received after a sync read; returns which joints answered, bool [n], read-only.

        Noise, other ids, other lengths and packets with a wrong checksum are ignored. If a servo answers twice, the
        later answer counts.

        Args:
            asked: order of the servos in the request, if not that of the joints. Servos answer in this order; answers
            in another order belong to an earlier request and are ignored.
        """
        if asked is not None or len(received) != len(self._frames) or not self._accept(received):
            return self._update_from_pieces(received, stamp_ns, asked)
        self._stamps_ns = [stamp_ns] * len(self._stamps_ns)
        return self.all_answered

    def joint_state(self, sequence: int, stamp_ns: int, valid: np.ndarray) -> JointState:
        """The newest values of all joints in read-only arrays; `valid` as returned by `update`."""
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
            self._no_age if valid is self.all_answered else self._ages_ns(stamp_ns),
        )

    def _accept(self, frames: bytes) -> bool:
        """Store the values of all joints, or of none if any answer is invalid or in the wrong place."""
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

    def _update_from_pieces(self, received: bytes, stamp_ns: int, asked: Sequence[int] | None) -> np.ndarray:
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
        ages = np.array([stamp_ns - answered_ns for answered_ns in self._stamps_ns], np.int64)
        ages.setflags(write=False)
        return ages


def _frame(packet: Packet) -> bytes:
    return encode(packet.servo_id, packet.code, packet.parameters)


def _in_order(answered: Sequence[int], asked: Sequence[int]) -> bool:
    """Whether servos answered in the order in which they were asked; some may be missing."""
    places = [asked.index(servo_id) for servo_id in dict.fromkeys(answered)]
    return places == sorted(places)
