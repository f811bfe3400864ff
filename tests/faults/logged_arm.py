"""Judges the arm of a simulated world that is another process, by the log that it writes (`--wire-log`)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults.joint_monitor import JointMonitor
from tests.faults.wire_limits import WireLimits
from tests.faults.wire_monitor import WireMonitor
from tests.faults.wire_rules import WireSummary

HEAD = struct.Struct("<BqH")
TO_SERVOS, FROM_SERVOS, JOINTS = 1, 2, 3

PHYSICS_SLACK_TICKS = 57.0
"""Five degrees. MuJoCo's position servos stay behind under gravity and contact, and swing a little beyond their goals:
by 34 ticks at most in two episodes of the shipped policy without a fault."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record; `simulation/wire_log.py` tells the format."""

    kind: int
    stamp_ns: int
    content: bytes


def read_log(path: Path) -> Iterator[LogRecord]:
    """All whole records of a log, in order; one that a killed process has begun is left out."""
    data = path.read_bytes()
    place = 0
    while place + HEAD.size <= len(data):
        kind, stamp_ns, size = HEAD.unpack_from(data, place)
        place += HEAD.size + size
        if place <= len(data):
            yield LogRecord(kind, stamp_ns, data[place - size : place])


@dataclass
class LoggedJoints:
    """Implements `Truth`: what the log said last about the servos."""

    servo_ids: list[int]
    ticks: dict[int, float] = field(default_factory=dict)
    on: dict[int, bool] = field(default_factory=dict)

    def take(self, content: bytes) -> None:
        torque, *ticks = struct.unpack(f"<B{len(self.servo_ids)}f", content)
        self.ticks = dict(zip(self.servo_ids, ticks, strict=True))
        self.on = {servo_id: bool(torque >> index & 1) for index, servo_id in enumerate(self.servo_ids)}

    def hears(self, servo_id: int) -> bool:
        """Servos of a log have power; whether they hold is told by the wire between two samples of the joints."""
        return False

    def holds(self, servo_id: int) -> bool:
        return self.on.get(servo_id, False)

    def position_ticks(self, servo_id: int) -> float:
        return self.ticks[servo_id]

    def goal_ticks(self, servo_id: int) -> int | None:
        """A log does not record goal registers."""
        return None


class LoggedArm:
    """Both monitors, fed with a log."""

    def __init__(self, limits: WireLimits, slack_ticks: float = PHYSICS_SLACK_TICKS) -> None:
        self._truth = LoggedJoints([joint.servo_id for joint in limits.joints])
        self.joints = JointMonitor(limits, slack_ticks)
        self.wire = WireMonitor(limits, self._truth, self.joints.goal)

    def play(self, path: Path, release_asked_ns: int | None = None) -> None:
        """Judge a whole log; from `release_asked_ns` on somebody asked for torque off."""
        for record in read_log(path):
            if release_asked_ns is not None and record.stamp_ns >= release_asked_ns:
                self.wire.ask_for_release()
            if record.kind == TO_SERVOS:
                self.wire.to_servos(record.content, record.stamp_ns)
            elif record.kind == FROM_SERVOS:
                self.wire.from_servos(record.content, record.stamp_ns)
            elif record.kind == JOINTS:
                self._truth.take(record.content)
                for servo_id, ticks in self._truth.ticks.items():
                    powered = self._truth.holds(servo_id)
                    self.joints.sample(servo_id, ticks, record.stamp_ns, powered=powered)

    def assert_clean(self) -> None:
        """Raises AssertionError: a goal, a torque packet or a joint broke a rule."""
        self.wire.assert_clean()
        shown = "\n  ".join(map(str, self.joints.found[:12]))
        assert not self.joints.found, f"{len(self.joints.found)} times a joint broke a rule:\n  {shown}"

    def summary(self) -> WireSummary:
        found = self.wire.summary()
        violations = found.violations + len(self.joints.found)
        return replace(found, fastest_joint=self.joints.fastest, violations=violations)
