"""Judges the arm of a simulated world in another process by the log that the world writes (`--wire-log`)."""

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
"""Five degrees. MuJoCo's position servos lag under gravity and contact and overshoot their goals slightly: by at most
34 ticks in two episodes of the shipped policy without a fault."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record; `simulation/wire_log.py` defines the format."""

    kind: int
    stamp_ns: int
    content: bytes


def read_log(path: Path) -> Iterator[LogRecord]:
    """All complete records of a log, in order; a last one that a killed process left incomplete is dropped."""
    data = path.read_bytes()
    offset = 0
    while offset + HEAD.size <= len(data):
        kind, stamp_ns, size = HEAD.unpack_from(data, offset)
        offset += HEAD.size + size
        if offset <= len(data):
            yield LogRecord(kind, stamp_ns, data[offset - size : offset])


@dataclass
class LoggedJoints:
    """Implements `Truth`: the last state of the servos in the log."""

    servo_ids: list[int]
    ticks: dict[int, float] = field(default_factory=dict)
    on: dict[int, bool] = field(default_factory=dict)

    def update(self, content: bytes) -> None:
        torque, *ticks = struct.unpack(f"<B{len(self.servo_ids)}f", content)
        self.ticks = dict(zip(self.servo_ids, ticks, strict=True))
        self.on = {servo_id: bool(torque >> index & 1) for index, servo_id in enumerate(self.servo_ids)}

    def is_reachable(self, servo_id: int) -> bool:
        """Servos of a log always have power. False: between two joint samples, the wire decides whether they hold."""
        return False

    def holds(self, servo_id: int) -> bool:
        return self.on.get(servo_id, False)

    def position_ticks(self, servo_id: int) -> float:
        return self.ticks[servo_id]

    def goal_ticks(self, servo_id: int) -> int | None:
        """None: a log does not record goal registers."""
        return None


class LoggedArm:
    """Wire monitor and joint monitor, fed from a log."""

    def __init__(self, limits: WireLimits, slack_ticks: float = PHYSICS_SLACK_TICKS) -> None:
        self._truth = LoggedJoints([joint.servo_id for joint in limits.joints])
        self.joints = JointMonitor(limits, slack_ticks)
        self.wire = WireMonitor(limits, self._truth, self.joints.goal)

    def play(self, path: Path, release_requested_ns: int | None = None) -> None:
        """Judge a whole log; from `release_requested_ns` on, torque off is requested."""
        for record in read_log(path):
            if release_requested_ns is not None and record.stamp_ns >= release_requested_ns:
                self.wire.ask_for_release()
            if record.kind == TO_SERVOS:
                self.wire.to_servos(record.content, record.stamp_ns)
            elif record.kind == FROM_SERVOS:
                self.wire.from_servos(record.content, record.stamp_ns)
            elif record.kind == JOINTS:
                self._truth.update(record.content)
                for servo_id, ticks in self._truth.ticks.items():
                    powered = self._truth.holds(servo_id)
                    self.joints.sample(servo_id, ticks, record.stamp_ns, powered=powered)

    def assert_clean(self) -> None:
        """Raises AssertionError if a goal, a torque packet or a joint broke a rule."""
        self.wire.assert_clean()
        shown = "\n  ".join(map(str, self.joints.violations[:12]))
        assert not self.joints.violations, f"{len(self.joints.violations)} violations by joints:\n  {shown}"

    def summary(self) -> WireSummary:
        wire = self.wire.summary()
        violations = wire.violations + len(self.joints.violations)
        return replace(wire, fastest_joint=self.joints.fastest, violations=violations)
