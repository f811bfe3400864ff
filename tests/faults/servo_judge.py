"""Judges the goals and torque packets of one servo, as the monitor on the wire decodes them.

Positions are whole ticks, so limits allow for rounding: half a tick at either end of the range, one tick in a step, two
in the change of a step. This hides more of a small limit than of a large one, so velocity and acceleration are also
judged over ten steps, with the same allowance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tests.faults.wire_decoder import GOAL_POSITION, RegisterWrite, position_ticks
from tests.faults.wire_limits import JointLimits, WireLimits
from tests.faults.wire_rules import Rule

RANGE_ROUNDING_TICKS = 0.5
STEP_ROUNDING_TICKS = 1.0
CHANGE_ROUNDING_TICKS = 2.0
HERE_TICKS = 1.0
"""A goal this near to the joint's position commands no motion."""

LONG = 10
"""Number of steps judged together."""

REST_GAP_PERIODS = 2.5
"""A servo without a goal for this long has come to rest at its last one and may start from rest."""

MAX_MISSED_GOALS = 3
"""Packets in a row that may be lost on the line before the loop has to notice."""

BURST_GOALS = 3
"""Different goals that span two periods on the grid of a loop, and more than one period however late its ticks are."""

TORQUE_OFF, MAKE_MIDDLE = 0, 128
GOAL_BYTES = (GOAL_POSITION, GOAL_POSITION + 1)

Report = Callable[[Rule, str], None]


class ServoJudge:
    """The state of one servo as known from the wire; reports which packets to it break a rule."""

    def __init__(self, limits: JointLimits, arm: WireLimits, *, exact_time: bool) -> None:
        self.limits = limits
        self.worst_step = self.worst_change = 0.0
        """Shares of the limits, after rounding."""
        self.torque: bool | None = None
        """None: not known yet."""
        self.goal: int | None = None
        """The last goal since its torque was switched on; None: none was sent."""
        self.own_goal: int | None = None
        """Register 42 as read after the last goal was sent; None: not read."""
        self.present: int | None = None
        """Register 56 as last read."""
        self.pending_write: RegisterWrite | None = None
        """A REG_WRITE that waits for its ACTION."""
        self._real_goal: int | None = None
        """The true register 42 before the next goal, where a test knows it."""
        self._arm = arm
        self._exact_time = exact_time
        self._step = 0
        self._goal_ns = 0
        self._trail: deque[int] = deque(maxlen=LONG + 2)
        """The last goals without a pause between them."""
        self._goal_bytes: dict[int, int] = {}
        """Registers 42 and 43 as last written."""
        self._released = False
        """Torque off was written after the last goal; it may be repeated until it is confirmed."""
        self._recent_ns: deque[int] = deque(maxlen=BURST_GOALS - 1)
        """Stamps of the last different goals."""

    @property
    def follows(self) -> bool:
        """Whether its torque is on and it has received a goal."""
        return bool(self.torque) and self.goal is not None

    # -- true state --------------------------------------------------------------------------------------------

    def set_true_torque(self, holds: bool) -> None:
        """Set its true torque, where a test knows it from a source other than the wire."""
        if self.torque and not holds:
            self.restart()
        elif holds and not self.torque:  # it missed a packet, or another program left its torque on
            self.torque, self.goal = True, None

    def set_true_goal(self, goal_ticks: int) -> None:
        """Set its true goal register, where a test knows it: the servo may have missed goals."""
        self._real_goal = goal_ticks

    def restart(self) -> None:
        """It lost its power, and with it torque and goal."""
        self._release()
        self._goal_bytes.clear()

    # -- torque ----------------------------------------------------------------------------------------------

    def on_torque_write(self, value: int, true_ticks: float | None, requested: bool, report: Report) -> None:
        """Register 40 is written. `requested`: torque off is requested; `true_ticks`: true position of the joint."""
        if value == MAKE_MIDDLE:  # changes the zero of all positions
            self.restart()
            self.present = None
        elif value == TORQUE_OFF:
            if not requested:
                self._judge_release(report)
            self._release()
            self._released = True
        elif not self.torque:
            goal = self.own_goal if self.own_goal is not None else self._written_goal()
            self._judge_anchor(goal, true_ticks, report)
            self.torque, self.goal, self._step, self._released = True, goal, 0, False

    def _release(self) -> None:
        self.torque, self.goal, self._step, self.own_goal = False, None, 0, None
        self._recent_ns.clear()
        self._trail.clear()

    def _judge_release(self, report: Report) -> None:
        if self.torque is False or self._released:
            return
        park_ticks = self.limits.park_ticks
        places = [self.goal] if self.limits.grips else [self.goal, self.present]
        near = [
            park_ticks is not None and place is not None and abs(place - park_ticks) <= self._arm.park_tolerance_ticks
            for place in places
        ]
        if not all(near):
            report(Rule.RELEASE, f"park at {park_ticks}, goal {self.goal}, joint {self.present}")

    def _judge_anchor(self, goal: int | None, true_ticks: float | None, report: Report) -> None:
        positions = [float(position) for position in (self.present, true_ticks) if position is not None]
        if goal is None or not any(abs(goal - position) <= HERE_TICKS for position in positions):
            report(Rule.ANCHOR, f"goal {goal}, joint at {positions}")

    # -- goals -----------------------------------------------------------------------------------------------

    def on_goal_write(
        self, write: RegisterWrite, stamp_ns: int, true_ticks: float | None, report: Report
    ) -> int | None:
        """Register 42 or 43 is written. Returns the resulting goal, ticks; None: not known."""
        for address in GOAL_BYTES:
            value = write.byte(address)
            if value is not None:
                self._goal_bytes[address] = value
        goal = self._written_goal()
        if goal is None:
            report(Rule.HALF_GOAL, f"registers from {write.address} on")
            return None
        if self.torque and self.goal is not None:
            self._judge_next_goal(self.goal, goal, stamp_ns, report)
        else:
            self._judge_first_goal(goal, true_ticks, report)
        self.torque, self.goal, self._goal_ns, self.own_goal = True, goal, stamp_ns, None
        self._released = False
        return goal

    def _written_goal(self) -> int | None:
        low, high = (self._goal_bytes.get(address) for address in GOAL_BYTES)
        return None if low is None or high is None else position_ticks(low, high)

    def _judge_first_goal(self, goal: int, true_ticks: float | None, report: Report) -> None:
        """A goal energises its servo; a servo that already holds may be sent its own goal."""
        if not (self.torque and self._is_own(goal)):
            self._judge_anchor(goal, true_ticks, report)
        self._begin_at_rest(goal)

    def _judge_next_goal(self, before: int, goal: int, stamp_ns: int, report: Report) -> None:
        if self.own_goal != before and self._is_own(goal):
            self._begin_at_rest(goal)  # it missed goals, its goal was read, and it stays there
            return
        step, detail = goal - before, f"goal {before} -> {goal}, step before {self._step}"
        change = abs(step - self._step)
        if stamp_ns - self._goal_ns > REST_GAP_PERIODS * self._arm.period_ns:  # it may also start from rest
            change = min(change, abs(step))
            self._trail.clear()
            self._trail.append(before)
        self._trail.append(goal)
        self._judge_velocity(abs(step), 1, detail, report)
        self._judge_change(change, 1, detail, report)
        self._judge_trail(detail, report)
        self._judge_missed(goal, detail, report)
        self._judge_range(before, goal, detail, report)
        if step != 0:
            self._judge_time(stamp_ns, report)
        self._step = step

    def _is_own(self, goal: int) -> bool:
        """Whether this is the goal register as read after the last goal was sent."""
        return self.own_goal is not None and abs(goal - self.own_goal) <= HERE_TICKS

    def _begin_at_rest(self, goal: int) -> None:
        self._step = 0
        self._trail.clear()
        self._trail.append(goal)

    def _judge_trail(self, detail: str, report: Report) -> None:
        trail = self._trail
        if len(trail) > LONG:
            self._judge_velocity(abs(trail[-1] - trail[-1 - LONG]), LONG, detail, report)
        if len(trail) == LONG + 2:
            self._judge_change(abs(trail[-1] - trail[-2] - (trail[1] - trail[0])), LONG, detail, report)

    def _judge_missed(self, goal: int, detail: str, report: Report) -> None:
        """A servo that missed goals makes all their steps at once; only a few lost packets are allowed."""
        own, self._real_goal = self._real_goal, None
        limit = self.limits.max_velocity_ticks_s * self._arm.period_s * (MAX_MISSED_GOALS + 1)
        if own is not None and abs(goal - own) > limit + STEP_ROUNDING_TICKS:
            report(
                Rule.VELOCITY,
                f"the servo itself has goal {own}, limit {limit:.2f} in {MAX_MISSED_GOALS + 1} steps, {detail}",
            )

    def _judge_velocity(self, distance: int, steps: int, detail: str, report: Report) -> None:
        limit = self.limits.max_velocity_ticks_s * self._arm.period_s * steps
        self.worst_step = max(self.worst_step, (distance - STEP_ROUNDING_TICKS) / limit)
        if distance > limit + STEP_ROUNDING_TICKS:
            report(Rule.VELOCITY, f"{distance} ticks in {steps} steps, limit {limit:.2f}, {detail}")

    def _judge_change(self, change: int, steps: int, detail: str, report: Report) -> None:
        limit = self.limits.max_acceleration_ticks_s2 * self._arm.period_s**2 * steps
        self.worst_change = max(self.worst_change, (change - CHANGE_ROUNDING_TICKS) / limit)
        if change > limit + CHANGE_ROUNDING_TICKS:
            report(Rule.ACCELERATION, f"{change} ticks in {steps} steps, limit {limit:.2f}, {detail}")

    def _judge_range(self, before: int, goal: int, detail: str, report: Report) -> None:
        """A joint that starts outside its range may only move towards it."""
        if self.limits.outside(goal) > max(self.limits.outside(before), RANGE_ROUNDING_TICKS):
            report(Rule.RANGE, f"{detail}, range {self.limits.min_ticks:.1f} to {self.limits.max_ticks:.1f}")

    def _judge_time(self, stamp_ns: int, report: Report) -> None:
        recent = self._recent_ns
        if self._exact_time and len(recent) == BURST_GOALS - 1 and stamp_ns - recent[0] < self._arm.period_ns:
            report(Rule.BURST, f"{BURST_GOALS} in {(stamp_ns - recent[0]) / 1e6:.3f} ms")
        recent.append(stamp_ns)
