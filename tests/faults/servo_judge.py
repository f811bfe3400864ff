"""Judges the goals and torque packets of one servo, as the monitor on the wire decodes them.

Positions are whole ticks, so limits are judged with what rounding can do: half a tick at either end of the range, one
tick in a step, two in the change of a step. That hides more of a small limit than of a large one, so velocity and
acceleration are judged over ten steps as well, with the same allowance.
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
"""Steps that are judged together."""

REST_GAP_PERIODS = 2.5
"""A servo that got no goal for so long has come to a stand at its last one: it may go on from rest."""

MISSED_GOALS = 3
"""So many packets in a row may be lost on the line before the loop has to notice."""

BURST_GOALS = 3
"""So many different goals take two periods on the grid of a loop, and more than one however late its ticks are."""

TORQUE_OFF, MAKE_MIDDLE = 0, 128
GOAL_BYTES = (GOAL_POSITION, GOAL_POSITION + 1)

Found = Callable[[Rule, str], None]


class ServoJudge:
    """What is known about one servo from the wire, and what is wrong with what it is sent."""

    def __init__(self, limits: JointLimits, arm: WireLimits, *, exact_time: bool) -> None:
        self.limits = limits
        self.worst_step = self.worst_change = 0.0
        """Shares of the limits, after rounding."""
        self.torque: bool | None = None
        """None: nothing has told yet."""
        self.goal: int | None = None
        """The last goal since its torque is on; None: it has none from here."""
        self.own_goal: int | None = None
        """Register 42 as it was read after the last goal was sent."""
        self.present: int | None = None
        """Register 56 as it was read last."""
        self.held_back: RegisterWrite | None = None
        """A REG_WRITE that waits for its ACTION."""
        self._real_goal: int | None = None
        """Register 42 as instruments show it before the next goal."""
        self._arm = arm
        self._exact_time = exact_time
        self._step = 0
        self._goal_ns = 0
        self._trail: deque[int] = deque(maxlen=LONG + 2)
        """The last goals that came without a pause."""
        self._goal_bytes: dict[int, int] = {}
        """Registers 42 and 43 as written last."""
        self._released = False
        """Torque off was written since the last goal: it may be repeated until it is confirmed."""
        self._recent_ns: deque[int] = deque(maxlen=BURST_GOALS - 1)
        """When the last different goals came."""

    @property
    def follows(self) -> bool:
        """Whether it holds and has got a goal before."""
        return bool(self.torque) and self.goal is not None

    # -- what instruments tell ---------------------------------------------------------------------------------

    def really_holds(self, holds: bool) -> None:
        """Its torque, where something else than the wire tells."""
        if self.torque and not holds:
            self.restart()
        elif holds and not self.torque:  # it missed a packet, or another program has left it on
            self.torque, self.goal = True, None

    def really_has_goal(self, goal_ticks: int) -> None:
        """What its goal register holds, where something else than the wire tells: it may have missed goals."""
        self._real_goal = goal_ticks

    def restart(self) -> None:
        """It lost its power: its goal is gone with its torque."""
        self._release()
        self._goal_bytes.clear()

    # -- torque ----------------------------------------------------------------------------------------------

    def take_torque(self, value: int, true_ticks: float | None, asked: bool, found: Found) -> None:
        """Register 40 is written. `asked`: somebody asked for torque off; `true_ticks`: where the joint really is."""
        if value == MAKE_MIDDLE:  # positions count anew from here
            self.restart()
            self.present = None
        elif value == TORQUE_OFF:
            if not asked:
                self._judge_release(found)
            self._release()
            self._released = True
        elif not self.torque:
            goal = self.own_goal if self.own_goal is not None else self._written_goal()
            self._judge_anchor(goal, true_ticks, found)
            self.torque, self.goal, self._step, self._released = True, goal, 0, False

    def _release(self) -> None:
        self.torque, self.goal, self._step, self.own_goal = False, None, 0, None
        self._recent_ns.clear()
        self._trail.clear()

    def _judge_release(self, found: Found) -> None:
        if self.torque is False or self._released:
            return
        park_ticks = self.limits.park_ticks
        places = [self.goal] if self.limits.grips else [self.goal, self.present]
        near = [
            park_ticks is not None and place is not None and abs(place - park_ticks) <= self._arm.park_tolerance_ticks
            for place in places
        ]
        if not all(near):
            found(Rule.RELEASE, f"park at {park_ticks}, goal {self.goal}, joint {self.present}")

    def _judge_anchor(self, goal: int | None, true_ticks: float | None, found: Found) -> None:
        places = [float(place) for place in (self.present, true_ticks) if place is not None]
        if goal is None or not any(abs(goal - place) <= HERE_TICKS for place in places):
            found(Rule.ANCHOR, f"goal {goal}, joint at {places}")

    # -- goals -----------------------------------------------------------------------------------------------

    def take_goal(self, write: RegisterWrite, stamp_ns: int, true_ticks: float | None, found: Found) -> int | None:
        """Register 42 or 43 is written; the goal that comes of it, None: it is not known."""
        for address in GOAL_BYTES:
            value = write.byte(address)
            if value is not None:
                self._goal_bytes[address] = value
        goal = self._written_goal()
        if goal is None:
            found(Rule.HALF_GOAL, f"registers from {write.address} on")
            return None
        if self.torque and self.goal is not None:
            self._judge_next_goal(self.goal, goal, stamp_ns, found)
        else:
            self._judge_first_goal(goal, true_ticks, found)
        self.torque, self.goal, self._goal_ns, self.own_goal = True, goal, stamp_ns, None
        self._released = False
        return goal

    def _written_goal(self) -> int | None:
        low, high = (self._goal_bytes.get(address) for address in GOAL_BYTES)
        return None if low is None or high is None else position_ticks(low, high)

    def _judge_first_goal(self, goal: int, true_ticks: float | None, found: Found) -> None:
        """A goal energises its servo; one that holds already may be told the goal that it has."""
        if not (self.torque and self._is_own(goal)):
            self._judge_anchor(goal, true_ticks, found)
        self._begin_at_rest(goal)

    def _judge_next_goal(self, before: int, goal: int, stamp_ns: int, found: Found) -> None:
        if self.own_goal != before and self._is_own(goal):
            self._begin_at_rest(goal)  # it missed the goals in between, was asked, and stays where it is
            return
        step, told = goal - before, f"goal {before} -> {goal}, step before {self._step}"
        change = abs(step - self._step)
        if stamp_ns - self._goal_ns > REST_GAP_PERIODS * self._arm.period_ns:  # it may go on from rest as well
            change = min(change, abs(step))
            self._trail.clear()
            self._trail.append(before)
        self._trail.append(goal)
        self._judge_velocity(abs(step), 1, told, found)
        self._judge_change(change, 1, told, found)
        self._judge_trail(told, found)
        self._judge_missed(goal, told, found)
        self._judge_range(before, goal, told, found)
        if step != 0:
            self._judge_time(stamp_ns, found)
        self._step = step

    def _is_own(self, goal: int) -> bool:
        """Whether the servo, asked after the last goal, said that this is its goal."""
        return self.own_goal is not None and abs(goal - self.own_goal) <= HERE_TICKS

    def _begin_at_rest(self, goal: int) -> None:
        self._step = 0
        self._trail.clear()
        self._trail.append(goal)

    def _judge_trail(self, told: str, found: Found) -> None:
        trail = self._trail
        if len(trail) > LONG:
            self._judge_velocity(abs(trail[-1] - trail[-1 - LONG]), LONG, told, found)
        if len(trail) == LONG + 2:
            self._judge_change(abs(trail[-1] - trail[-2] - (trail[1] - trail[0])), LONG, told, found)

    def _judge_missed(self, goal: int, told: str, found: Found) -> None:
        """A servo that missed goals makes all their steps at once: no more than those of a few lost packets."""
        own, self._real_goal = self._real_goal, None
        limit = self.limits.max_velocity_ticks_s * self._arm.period_s * (MISSED_GOALS + 1)
        if own is not None and abs(goal - own) > limit + STEP_ROUNDING_TICKS:
            found(
                Rule.VELOCITY, f"the servo itself has goal {own}, limit {limit:.2f} in {MISSED_GOALS + 1} steps, {told}"
            )

    def _judge_velocity(self, way: int, steps: int, told: str, found: Found) -> None:
        limit = self.limits.max_velocity_ticks_s * self._arm.period_s * steps
        self.worst_step = max(self.worst_step, (way - STEP_ROUNDING_TICKS) / limit)
        if way > limit + STEP_ROUNDING_TICKS:
            found(Rule.VELOCITY, f"{way} ticks in {steps} steps, limit {limit:.2f}, {told}")

    def _judge_change(self, change: int, steps: int, told: str, found: Found) -> None:
        limit = self.limits.max_acceleration_ticks_s2 * self._arm.period_s**2 * steps
        self.worst_change = max(self.worst_change, (change - CHANGE_ROUNDING_TICKS) / limit)
        if change > limit + CHANGE_ROUNDING_TICKS:
            found(Rule.ACCELERATION, f"{change} ticks in {steps} steps, limit {limit:.2f}, {told}")

    def _judge_range(self, before: int, goal: int, told: str, found: Found) -> None:
        """A joint that was found outside may come in, never go further out."""
        if self.limits.outside(goal) > max(self.limits.outside(before), RANGE_ROUNDING_TICKS):
            found(Rule.RANGE, f"{told}, range {self.limits.min_ticks:.1f} to {self.limits.max_ticks:.1f}")

    def _judge_time(self, stamp_ns: int, found: Found) -> None:
        recent = self._recent_ns
        if self._exact_time and len(recent) == BURST_GOALS - 1 and stamp_ns - recent[0] < self._arm.period_ns:
            found(Rule.BURST, f"{BURST_GOALS} in {(stamp_ns - recent[0]) / 1e6:.3f} ms")
        recent.append(stamp_ns)
