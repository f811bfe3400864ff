"""Judges how the simulated joints themselves move: a servo bends the goals that it is sent, by its registers.

A powered joint that follows goals through a response without overshoot (the kinematic plant: a lag of 50 ms behind a
ramp of limited speed) is a weighted mean of where it was and of the goals since then. From this follow both bounds:

- it stays between the place where it was some time ago and the goals since, whatever the weights are (Motion.AWAY);
- over a window it moves no farther than the goals did over some window of that length. `window / period + 1` goals fit
  into one, each a step of at most `limit * period` from the last, rounded to a tick (Motion.SPEED). On a busy machine
  more goals than that reach the servos together: so many as came are counted.

`slack_ticks` is added to both: what a response with overshoot, gravity and contact adds (measured, see the caller).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from tests.faults.sliding_range import SlidingRange
from tests.faults.wire_limits import JointLimits, WireLimits

WINDOW_NS = 200_000_000
MEMORY_NS = 1_500_000_000
"""30 time constants of the kinematic plant: of a goal before that nothing is left."""

KINEMATIC_SLACK_TICKS = 2.0
"""A goal may be half a tick from where the joint was, which is told in whole ticks, and the plant is exact."""


BENT_TICKS = 23
"""A servo takes a goal beyond its position limits (registers 9 and 11) for the end itself. A joint that stands up to
two degrees outside may be armed, and is then drawn in by its servo."""


RAMP_PERIODS = 2
"""A servo's own ramp, at the speed of register 46, may still be on its way to the goals of the last periods."""


class Motion(Enum):
    """What is judged."""

    RANGE = "the joint left its range"
    SPEED = "the joint moved faster than its limit"
    AWAY = "the joint moved where no goal has sent it"


@dataclass(frozen=True, slots=True)
class Misconduct:
    """One broken rule."""

    motion: Motion
    servo_id: int
    stamp_ns: int
    detail: str

    def __str__(self) -> str:
        return f"{self.stamp_ns / 1e9:.4f} s, servo {self.servo_id}: {self.motion.value} ({self.detail})"


@dataclass(slots=True)
class _Joint:
    """The recent past of one joint, since its torque is on."""

    limits: JointLimits
    memory: deque[tuple[int, float]] = field(default_factory=deque)
    recent: deque[tuple[int, float]] = field(default_factory=deque)
    goals: SlidingRange = field(default_factory=SlidingRange)
    last_goal: float | None = None
    """The goal in effect, however old."""
    goal_times: deque[int] = field(default_factory=deque)
    crowd: SlidingRange = field(default_factory=SlidingRange)
    """How many goals came within a window."""

    def forget(self) -> None:
        for kept in (self.memory, self.recent, self.goals, self.goal_times, self.crowd):
            kept.clear()
        self.last_goal = None


class JointMonitor:
    """Sampled positions and the goals on the wire, of one arm. Stamps are ns of one clock."""

    def __init__(self, limits: WireLimits, slack_ticks: float = KINEMATIC_SLACK_TICKS) -> None:
        self.found: list[Misconduct] = []
        self.fastest = 0.0
        """The largest way of a joint over a window, as a share of what its limit allows."""
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
            joint.crowd.add(stamp_ns, float(len(joint.goal_times)))
        joint.goals.add(stamp_ns, ticks)
        joint.last_goal = ticks

    def sample(self, servo_id: int, position_ticks: float, stamp_ns: int, *, powered: bool) -> None:
        """Where a joint is; `powered`: whether its torque is on."""
        joint = self._joints[servo_id]
        if not powered:
            joint.forget()
            return
        self._judge_range(joint, position_ticks, stamp_ns)
        for past, age_ns in ((joint.memory, MEMORY_NS), (joint.recent, WINDOW_NS)):
            past.append((stamp_ns, position_ticks))
            while len(past) > 1 and stamp_ns - past[1][0] >= age_ns:
                past.popleft()
        joint.crowd.drop_before(stamp_ns - MEMORY_NS)
        self._judge_place(joint, position_ticks, stamp_ns)
        self._judge_speed(joint, position_ticks, stamp_ns)

    def _judge_range(self, joint: _Joint, position: float, stamp_ns: int) -> None:
        before = joint.limits.outside(joint.memory[-1][1]) if joint.memory else float("inf")
        outside = joint.limits.outside(position)
        if outside > max(before, 0.0) + self._slack_ticks:
            self._note(Motion.RANGE, joint, stamp_ns, f"{outside:.1f} ticks outside")

    def _judge_place(self, joint: _Joint, position: float, stamp_ns: int) -> None:
        since_ns, start = joint.memory[0]
        in_effect = joint.last_goal
        joint.goals.drop_before(since_ns - RAMP_PERIODS * self._period_ns)
        places = [start, joint.goals.lowest, joint.goals.highest, *([] if in_effect is None else [in_effect])]
        end = min(max(start, joint.limits.min_ticks), joint.limits.max_ticks)
        places += [end] if abs(end - start) <= BENT_TICKS else []
        finite = [place for place in places if abs(place) != float("inf")]
        beyond = max(min(finite) - position, position - max(finite))
        if beyond > self._slack_ticks:
            told = f"{beyond:.1f} ticks beyond {min(finite):.1f} to {max(finite):.1f}"
            self._note(Motion.AWAY, joint, stamp_ns, told)

    def _judge_speed(self, joint: _Joint, position: float, stamp_ns: int) -> None:
        since_ns, start = joint.recent[0]
        window_ns = max(stamp_ns - since_ns, 0)
        goals = max(window_ns / self._period_ns + 1, joint.crowd.highest)
        step_ticks = joint.limits.max_velocity_ticks_s * self._period_ns / 1e9
        allowed = goals * step_ticks + self._slack_ticks
        way = abs(position - start)
        if window_ns >= WINDOW_NS // 2:
            self.fastest = max(self.fastest, way / allowed)
        if way > allowed:
            told = f"{way:.1f} ticks in {window_ns / 1e6:.1f} ms, {allowed:.1f} allowed"
            self._note(Motion.SPEED, joint, stamp_ns, told)

    def _note(self, motion: Motion, joint: _Joint, stamp_ns: int, detail: str) -> None:
        self.found.append(Misconduct(motion, joint.limits.servo_id, stamp_ns, detail))
