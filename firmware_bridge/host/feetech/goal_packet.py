"""The sync write that carries a goal: one packet for all servos, laid out once and filled in for every goal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sefa_edge.firmware_bridge.host.calibration import JointScale
from sefa_edge.firmware_bridge.host.feetech.protocol import encode_sync_write
from sefa_edge.firmware_bridge.host.feetech.registers import COMMAND_BLOCK, GOAL_POSITION, GOAL_SPEED, MAX_SPEED_COUNTS

FULL_ACCELERATION = 0
NO_GOAL_TIME = 0

FIRST_ENTRY = 7
"""Offset of the first servo's id, after header, broadcast id, length, instruction, address and count."""


def speed_limit_counts(max_velocity: float, scale: JointScale, ticks_s_per_count: int) -> int:
    """Goal speed (register 46) of a joint whose goals move at most at `max_velocity`, joint units per second.

    The host shapes the motion: every tick a goal, a small step from the last one. The speed limit of the arm profile is
    sent with it as a second limit in the servo itself, against what the host cannot see or take back: a damaged goal
    with a valid checksum, a servo that restarted far from its goal, a joint that was blocked and springs free. It comes
    with every goal because a restart resets it. A healthy run is not slowed: no goal moves faster than this, so each is
    reached before the next one, and a late tick is caught up at once.

    Never 0, which means full speed or stop, depending on phase bit 3. The unit is that of phase bit 2, rounded up.

    Acceleration is sent as 0, which disables the servo's own: with one, the servo plans to stop at every goal, brakes
    before each and lags by v / 2a, 20 ms at 60 deg/s and 1500 deg/s2. Goal time is sent as 0, unused.
    """
    counts = max_velocity / abs(scale.joint_per_tick) / ticks_s_per_count
    return min(math.ceil(counts), MAX_SPEED_COUNTS)


def command(goal_ticks: int, speed_counts: int) -> bytes:
    """Registers 41..47 of one servo: acceleration, goal, time, speed."""
    return COMMAND_BLOCK.layout.pack(FULL_ACCELERATION, goal_ticks, NO_GOAL_TIME, speed_counts)


class GoalPacket:
    """A sync write of registers 41..47 of all servos, in which only the goals change."""

    def __init__(self, servo_ids: Sequence[int], scales: Sequence[JointScale], speed_counts: Sequence[int]):
        """All arguments in the order of the joints."""
        commands = [command(0, counts) for counts in speed_counts]
        self._packet = bytearray(encode_sync_write(COMMAND_BLOCK.address, list(zip(servo_ids, commands, strict=True))))
        self._check_of_zeros = self._packet[-1]
        self._servo_ids = tuple(servo_ids)
        self.speed_counts = list(speed_counts)
        """Goal speed (register 46) of each joint."""
        first = FIRST_ENTRY + 1 + GOAL_POSITION.address - COMMAND_BLOCK.address
        entry = 1 + COMMAND_BLOCK.count
        self._joints = [
            (first + row * entry, scale.joint_per_tick, scale.zero_ticks, scale.lowest_ticks, scale.highest_ticks)
            for row, scale in enumerate(scales)
        ]

    def set_speed(self, row: int, speed_counts: int) -> None:
        """Send another goal speed with the goals of one joint from now on."""
        place = self._joints[row][0] + GOAL_SPEED.address - GOAL_POSITION.address
        before = sum(self._packet[place : place + GOAL_SPEED.width])
        self._packet[place : place + GOAL_SPEED.width] = GOAL_SPEED.encode(speed_counts)
        after = sum(self._packet[place : place + GOAL_SPEED.width])
        self._check_of_zeros = (self._check_of_zeros + before - after) & 0xFF
        self.speed_counts[row] = speed_counts

    def allow(self, row: int, ticks: int) -> None:
        """Widen the range of one joint's goals to include this position."""
        first, per_tick, zero, lowest, highest = self._joints[row]
        self._joints[row] = (first, per_tick, zero, min(lowest, ticks), max(highest, ticks))

    def encode(self, joint_deg: Sequence[float]) -> bytes:
        """The packet for these finite positions [n], each converted like `JointScale.to_ticks`.

        Raises:
            ValueError: not one position for every joint.
        """
        if len(joint_deg) != len(self._joints):
            raise ValueError(f"{len(joint_deg)} positions for {len(self._joints)} joints")
        packet, total, joint = self._packet, 0, 0
        for place, per_tick, zero, lowest, highest in self._joints:
            ticks = round(joint_deg[joint] / per_tick + zero)
            if ticks < lowest:
                ticks = lowest
            elif ticks > highest:
                ticks = highest
            packet[place] = low = ticks & 0xFF
            packet[place + 1] = high = ticks >> 8
            total += low + high
            joint += 1  # noqa: SIM113  (enumerate makes one more tuple per joint)
        packet[-1] = (self._check_of_zeros - total) & 0xFF
        return bytes(packet)

    def encode_without(self, joint_deg: Sequence[float], left_out: int) -> bytes:
        """As `encode`, without the joints whose bits are set in `left_out`; empty when no joint remains.

        Raises:
            ValueError: not one position for every joint.
        """
        rows = zip(self._servo_ids, self._joints, self.speed_counts, joint_deg, strict=True)
        commands = [
            (servo_id, command(min(max(round(position / per_tick + zero), lowest), highest), counts))
            for row, (servo_id, (_, per_tick, zero, lowest, highest), counts, position) in enumerate(rows)
            if not left_out >> row & 1
        ]
        return encode_sync_write(COMMAND_BLOCK.address, commands) if commands else b""


@dataclass(frozen=True, slots=True)
class ServoWrite:
    """A write to one servo, and the values that it may report when the same registers are read back."""

    data: bytes
    accepted: tuple[bytes, ...]
    start: int = 0
    """Offset of the accepted bytes in the answer."""

    @classmethod
    def torque(cls, value: int) -> ServoWrite:
        return cls(bytes((value,)), (bytes((value,)),))

    @classmethod
    def goal(cls, ticks: int, clipped_ticks: int, speed_counts: int) -> ServoWrite:
        """Registers 41..47; the servo may report the goal itself, or clipped to its position limits."""
        accepted = tuple(GOAL_POSITION.encode(goal) for goal in (ticks, clipped_ticks))
        data = command(int.from_bytes(accepted[0], "little"), speed_counts)
        return cls(data, accepted, GOAL_POSITION.address - COMMAND_BLOCK.address)

    def is_confirmed_by(self, answer: bytes) -> bool:
        return any(answer[self.start : self.start + len(part)] == part for part in self.accepted)
