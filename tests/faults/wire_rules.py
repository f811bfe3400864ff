"""The rules that the wire monitor checks, and its results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Rule(Enum):
    """A rule for the packets to the servos."""

    RANGE = "goal outside the position range"
    VELOCITY = "step between consecutive goals above the velocity limit"
    ACCELERATION = "change of step above the acceleration limit"
    BURST = "several goals within one control period"
    ANCHOR = "torque on before goal = present"
    RELEASE = "torque off away from the park pose without a request"
    HALF_GOAL = "one byte of a goal whose other byte is unknown"
    UNKNOWN_SERVO = "goal or torque for a servo that is not part of this arm"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule."""

    rule: Rule
    servo_id: int
    stamp_ns: int
    detail: str

    def __str__(self) -> str:
        return f"{self.stamp_ns / 1e9:.4f} s, servo {self.servo_id}: {self.rule.value} ({self.detail})"


@dataclass(frozen=True, slots=True)
class GoalPacket:
    """A packet with goals."""

    stamp_ns: int
    moves: bool
    """Whether a servo's goal differs from its last one."""


@dataclass(frozen=True, slots=True)
class WireSummary:
    """Figures of one stream or several. Shares are of the limit, after allowing for rounding: 1.0 is the limit."""

    goal_packets: int = 0
    torque_packets: int = 0
    worst_step: float = 0.0
    worst_change: float = 0.0
    fastest_joint: float = 0.0
    """The longest path of a simulated joint in 0.2 s, as a share of what the goals allow; 0: not measured."""
    violations: int = 0

    def __add__(self, other: WireSummary) -> WireSummary:
        return WireSummary(
            self.goal_packets + other.goal_packets,
            self.torque_packets + other.torque_packets,
            max(self.worst_step, other.worst_step),
            max(self.worst_change, other.worst_change),
            max(self.fastest_joint, other.fastest_joint),
            self.violations + other.violations,
        )
