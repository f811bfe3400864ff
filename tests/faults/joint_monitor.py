"""Judges how the simulated joints themselves move: a servo may alter, by its registers, the goals that it receives.

A powered joint that follows goals through a response without overshoot (the kinematic plant: a lag of 50 ms behind a
ramp of limited speed) is a weighted mean of where it was and of the goals since then. Both bounds follow from this:

- it stays between its position some time ago and the goals since then, whatever the weights are (JointRule.AWAY);
- over a window it moves no farther than the goals did over some window of that length (JointRule.SPEED). A window holds
  `window / period + 1` goals, each at most `limit * period` from the last, rounded to a tick. On a busy machine more
  goals than that may reach the servos together; then the goals that arrived are counted.

`slack_ticks` is added to both bounds: what overshoot, gravity and contact add (measured, see the caller).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from tests.faults.sliding_range import SlidingRange
from tests.faults.wire_limits import JointLimits, WireLimits

WINDOW_NS = 200_000_000
MEMORY_NS = 1_500_000_000
"""30 time constants of the kinematic plant: earlier goals have no effect any more."""

KINEMATIC_SLACK_TICKS = 2.0
"""Positions are reported in whole ticks, so a goal may be half a tick from where the joint was; the plant is exact."""


PULLED_IN_TICKS = 23
"""A servo clips its goal to its position limits (registers 9 and 11). A joint up to two degrees outside may be armed;
its servo then pulls it in."""


RAMP_PERIODS = 2
"""A servo's own ramp, at the speed of register 46, may still be following the goals of this many last periods."""


class JointRule(Enum):
    """A rule for the motion of a joint."""

    RANGE = "the joint left its range"
    SPEED = "the joint moved faster than its limit"
    AWAY = "the joint moved to where no goal sent it"


@dataclass(frozen=True, slots=True)
class JointViolation:
    """One broken rule."""

    rule: JointRule
    servo_id: int
    stamp_ns: int
    detail: str

    def __str__(self) -> str:
        return f"{self.stamp_ns / 1e9:.4f} s, servo {self.servo_id}: {self.rule.value} ({self.detail})"


@dataclass(slots=True)
class _Joint:
    """Recent positions and goals of one joint, since its torque was switched on."""

    limits: JointLimits
    positions: deque[tuple[int, float]] = field(default_factory=deque)
    recent_positions: deque[tuple[int, float]] = field(default_factory=deque)
    goals: SlidingRange = field(default_factory=SlidingRange)
    last_goal: float | None = None
    """The goal in effect, of any age."""
    goal_times: deque[int] = field(default_factory=deque)
    goals_per_window: SlidingRange = field(default_factory=SlidingRange)
    """Number of goals within a window of `WINDOW_NS`."""

    def clear(self) -> None:
        for history in (self.positions, self.recent_positions, self.goals, self.goal_times, self.goals_per_window):
            history.clear()
        self.last_goal = None


class JointMonitor:
    """Judges sampled positions of one arm against the goals on its wire. Stamps are ns of one clock."""

    def __init__(self, limits: WireLimits, slack_ticks: float = KINEMATIC_SLACK_TICKS) -> None:
        self.violations: list[JointViolation] = []
        self.fastest = 0.0
        """The longest path of a joint over a window, as a share of what its limit allows."""
        self._period_ns = limits.period_ns
        self._slack_ticks = slack_ticks
        self._joints = {joint.servo_id: _Joint(joint) for joint in limits.joints}

    def goal(self, servo_id: int, ticks: int, stamp_ns: int) -> None:
        """A goal reached a servo."""
        joint = self._joints[servo_id]
        if ticks != joint.last_goal:
            joint.goal_times.append(stamp_ns)
            while stamp_ns - joint.goal_times[0] > WINDOW_NS:
                joint.goal_times.popleft()
            joint.goals_per_window.add(stamp_ns, float(len(joint.goal_times)))
        joint.goals.add(stamp_ns, ticks)
        joint.last_goal = ticks

    def sample(self, servo_id: int, position_ticks: float, stamp_ns: int, *, powered: bool) -> None:
        """Position of a joint, ticks; `powered`: whether its torque is on."""
        joint = self._joints[servo_id]
        if not powered:
            joint.clear()
            return
        self._judge_range(joint, position_ticks, stamp_ns)
        for past, age_ns in ((joint.positions, MEMORY_NS), (joint.recent_positions, WINDOW_NS)):
            past.append((stamp_ns, position_ticks))
            while len(past) > 1 and stamp_ns - past[1][0] >= age_ns:
                past.popleft()
        joint.goals_per_window.drop_before(stamp_ns - MEMORY_NS)
        self._judge_position(joint, position_ticks, stamp_ns)
        self._judge_speed(joint, position_ticks, stamp_ns)

    def _judge_range(self, joint: _Joint, position: float, stamp_ns: int) -> None:
        before = joint.limits.outside(joint.positions[-1][1]) if joint.positions else float("inf")
        outside = joint.limits.outside(position)
        if outside > max(before, 0.0) + self._slack_ticks:
            self._report(JointRule.RANGE, joint, stamp_ns, f"{outside:.1f} ticks outside")

    def _judge_position(self, joint: _Joint, position: float, stamp_ns: int) -> None:
        since_ns, start = joint.positions[0]
        in_effect = joint.last_goal
        joint.goals.drop_before(since_ns - RAMP_PERIODS * self._period_ns)
        allowed = [start, joint.goals.lowest, joint.goals.highest, *([] if in_effect is None else [in_effect])]
        end = min(max(start, joint.limits.min_ticks), joint.limits.max_ticks)
        allowed += [end] if abs(end - start) <= PULLED_IN_TICKS else []
        finite = [ticks for ticks in allowed if abs(ticks) != float("inf")]
        beyond = max(min(finite) - position, position - max(finite))
        if beyond > self._slack_ticks:
            detail = f"{beyond:.1f} ticks beyond {min(finite):.1f} to {max(finite):.1f}"
            self._report(JointRule.AWAY, joint, stamp_ns, detail)

    def _judge_speed(self, joint: _Joint, position: float, stamp_ns: int) -> None:
        since_ns, start = joint.recent_positions[0]
        window_ns = max(stamp_ns - since_ns, 0)
        goals = max(window_ns / self._period_ns + 1, joint.goals_per_window.highest)
        step_ticks = joint.limits.max_velocity_ticks_s * self._period_ns / 1e9
        allowed = goals * step_ticks + self._slack_ticks
        distance = abs(position - start)
        if window_ns >= WINDOW_NS // 2:
            self.fastest = max(self.fastest, distance / allowed)
        if distance > allowed:
            detail = f"{distance:.1f} ticks in {window_ns / 1e6:.1f} ms, {allowed:.1f} allowed"
            self._report(JointRule.SPEED, joint, stamp_ns, detail)

    def _report(self, rule: JointRule, joint: _Joint, stamp_ns: int, detail: str) -> None:
        self.violations.append(JointViolation(rule, joint.limits.servo_id, stamp_ns, detail))
