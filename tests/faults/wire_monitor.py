"""A monitor on the wire to the servos: it judges the bytes, whatever the product believes that it commanded.

    monitor = WireMonitor(wire_limits(profile), ServoTruth(bus))
    bus.tap = monitor                       # or call `to_servos` and `from_servos` with what passes
    ...
    monitor.assert_clean()

What it finds is a `Violation`; `Rule` says what is looked for. Positions are whole ticks, so limits are judged with
what rounding can do: half a tick at either end of the range, one tick in a step, two in the change of a step. That
hides more of a small limit than of a large one, so both are judged over ten steps as well, with the same allowance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from tests.faults.wire_decoder import (
    EVERY_SERVO,
    GOAL_POSITION,
    PRESENT_POSITION,
    TORQUE_ENABLE,
    Act,
    Frame,
    FrameReader,
    RegisterRead,
    RegisterWrite,
    Request,
    When,
    position_ticks,
    requests,
)
from tests.faults.wire_limits import JointLimits, WireLimits

RANGE_ROUNDING_TICKS = 0.5
STEP_ROUNDING_TICKS = 1.0
CHANGE_ROUNDING_TICKS = 2.0
HERE_TICKS = 1.0
"""A goal this near to the joint's position commands no motion."""

LONG = 10
"""Steps that are judged together."""

REST_GAP_PERIODS = 2.5
"""A servo that got no goal for so long has come to a stand at its last one: it may go on from rest."""

BURST_GOALS = 3
"""So many different goals take two periods on the grid of a loop, and more than one however late its ticks are."""
SILENCE_NS = 10_000_000
"""After so long without a byte, servos give up a packet that was begun."""

TORQUE_OFF, MAKE_MIDDLE = 0, 128


class Rule(Enum):
    """What is judged."""

    RANGE = "goal outside the position range"
    VELOCITY = "step between consecutive goals above the velocity limit"
    ACCELERATION = "change of step above the acceleration limit"
    BURST = "several goals within one control period"
    ANCHOR = "torque on before goal = present"
    RELEASE = "torque off away from the park pose that nothing asked for"
    HALF_GOAL = "one byte of a goal whose other byte is unknown"
    STRANGER = "goal or torque for a servo that is not of this arm"


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
class WireSummary:
    """Figures of one stream, or of several. Shares are of the limit, after what rounding can do: 1.0 is the limit."""

    goal_packets: int = 0
    torque_packets: int = 0
    worst_step: float = 0.0
    worst_change: float = 0.0
    fastest_joint: float = 0.0
    """The largest way of a simulated joint in 0.2 s, as a share of what the goals allow; 0: nobody looked."""
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


@dataclass(frozen=True, slots=True)
class GoalPacket:
    """A packet with goals."""

    stamp_ns: int
    moves: bool
    """Whether a servo's goal differs from its last one."""


class Truth(Protocol):
    """What instruments at the servos would show, where a test has them."""

    def hears(self, servo_id: int) -> bool:
        """Whether packets reach it: it has power, and its data line is not cut."""
        ...

    def holds(self, servo_id: int) -> bool:
        """Whether its torque is on."""
        ...

    def position_ticks(self, servo_id: int) -> float:
        """Where its joint is, as register 56 counts."""
        ...


@dataclass(slots=True)
class _Servo:
    """What is known about one servo from the wire."""

    limits: JointLimits
    torque: bool | None = None
    """None: nothing has told yet."""
    goal: int | None = None
    """The last goal since its torque is on; None: it has none from here."""
    step: float = 0.0
    goal_ns: int = 0
    trail: deque[int] = field(default_factory=lambda: deque(maxlen=LONG + 2))
    """The last goals that came without a pause."""
    goal_bytes: dict[int, int] = field(default_factory=dict)
    """Registers 42 and 43 as written last."""
    own_goal: int | None = None
    """Register 42 as it was read after the last goal was sent."""
    present: int | None = None
    """Register 56 as it was read last."""
    released: bool = False
    """Torque off was written since the last goal: it may be repeated until it is confirmed."""
    held_back: RegisterWrite | None = None
    recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=BURST_GOALS - 1))
    """When the last different goals came."""
    told: str = ""
    """The last goal in words."""

    def release(self) -> None:
        """Its torque is off; what its goal register holds is still there."""
        self.torque, self.goal, self.step, self.own_goal = False, None, 0.0, None
        self.recent_ns.clear()
        self.trail.clear()

    def restart(self) -> None:
        """It lost its power: its goal is gone, too."""
        self.release()
        self.goal_bytes.clear()


class WireMonitor:
    """Judges every stream of bytes to the servos of one arm. Every stamp is ns of one clock, whichever."""

    def __init__(
        self,
        limits: WireLimits,
        truth: Truth | None = None,
        on_goal: Callable[[int, int, int], None] = lambda servo_id, goal_ticks, stamp_ns: None,
        *,
        exact_time: bool = False,
    ) -> None:
        """
        Args:
            on_goal: told of every goal, servo by servo.
            exact_time: stamps are those of a lock-step clock, so that bursts can be told from a busy machine.
        """
        self.violations: list[Violation] = []
        self.goal_packets: list[GoalPacket] = []
        """All that came, in order."""
        self._limits = limits
        self._truth = truth
        self._on_goal = on_goal
        self._exact_time = exact_time
        self._servos = {joint.servo_id: _Servo(joint) for joint in limits.joints}
        self._host, self._answers = FrameReader(), FrameReader()
        self._host_ns = 0
        self._asked: RegisterRead | None = None
        self._release_is_asked_for = False
        self._torque_packets = 0
        self._worst_step = self._worst_change = 0.0

    # -- what passes on the wire ------------------------------------------------------------------------------

    def to_servos(self, data: bytes, stamp_ns: int) -> None:
        """Bytes that reach the servos, before they act on them."""
        self._look_at_servos()
        frames = self._host.flush() if stamp_ns - self._host_ns > SILENCE_NS else []
        self._host_ns = stamp_ns
        for frame in frames + self._host.feed(data):
            self._hear_host(frame, stamp_ns)

    def from_servos(self, data: bytes, stamp_ns: int) -> None:
        """Bytes that the servos answer, without an echo of the adapter."""
        for frame in self._answers.feed(data):
            self._hear_answer(frame)

    def power_lost(self, servo_id: int) -> None:
        """Told by a test without `truth`: this servo has started anew, without torque."""
        self._servos[servo_id].restart()

    def ask_for_release(self) -> None:
        """From now on torque off is what a person or the row asked for, wherever the arm is."""
        self._release_is_asked_for = True

    # -- what came of it ---------------------------------------------------------------------------------------

    def summary(self) -> WireSummary:
        counted = (len(self.goal_packets), self._torque_packets)
        return WireSummary(*counted, self._worst_step, self._worst_change, violations=len(self.violations))

    def assert_clean(self) -> None:
        """Raises AssertionError with the first violations."""
        shown = "\n  ".join(map(str, self.violations[:12]))
        assert not self.violations, f"{len(self.violations)} violations on the wire:\n  {shown}"

    # -- the host --------------------------------------------------------------------------------------------

    def _hear_host(self, frame: Frame, stamp_ns: int) -> None:
        asked = requests(frame)
        writes = [write for request in asked for write in self._effective(request)]
        before = {servo_id: servo.goal for servo_id, servo in self._servos.items()}
        for write in writes:
            self._judge(write, stamp_ns)
        self._torque_packets += any(write.byte(TORQUE_ENABLE) is not None for write in writes)
        if any(_touches_goal(write) for write in writes):
            moves = any(before[i] is not None and before[i] != servo.goal for i, servo in self._servos.items())
            self.goal_packets.append(GoalPacket(stamp_ns, moves))
        reads = [request for request in asked if isinstance(request, RegisterRead)]
        self._asked = reads[0] if reads else self._asked

    def _look_at_servos(self) -> None:
        """A servo that lost its power, or missed a torque packet, is not what the wire says.

        One that hears nothing is looked at when it hears again: until then no packet can do anything to it.
        """
        truth = self._truth
        if truth is None:
            return
        for servo_id, servo in self._servos.items():
            if not truth.hears(servo_id):
                continue
            holds = truth.holds(servo_id)
            if servo.torque and not holds:
                servo.restart()
            elif holds and not servo.torque:
                servo.torque, servo.goal = True, None

    def _effective(self, request: Request) -> list[RegisterWrite]:
        """The writes that take effect now, each for one servo."""
        if isinstance(request, RegisterWrite):
            if request.when is When.NOW:
                return [RegisterWrite(to, request.address, request.data) for to in self._addressed(request.servo_id)]
            for servo_id in self._addressed(request.servo_id):
                if servo_id in self._servos:
                    self._servos[servo_id].held_back = RegisterWrite(servo_id, request.address, request.data)
        elif isinstance(request, Act):
            return [held for servo_id in self._addressed(request.servo_id) if (held := self._let_go(servo_id))]
        return []

    def _addressed(self, servo_id: int) -> list[int]:
        return list(self._servos) if servo_id == EVERY_SERVO else [servo_id]

    def _let_go(self, servo_id: int) -> RegisterWrite | None:
        servo = self._servos.get(servo_id)
        if servo is None:
            return None
        held, servo.held_back = servo.held_back, None
        return held

    def _judge(self, write: RegisterWrite, stamp_ns: int) -> None:
        torque = write.byte(TORQUE_ENABLE)
        if torque is None and not _touches_goal(write):
            return
        servo = self._servos.get(write.servo_id)
        if servo is None:
            self._found(Rule.STRANGER, write.servo_id, stamp_ns, f"registers from {write.address} on")
            return
        if torque is not None:
            self._judge_torque(servo, torque, stamp_ns)
        if _touches_goal(write):
            self._judge_goal_bytes(servo, write, stamp_ns)

    # -- torque ----------------------------------------------------------------------------------------------

    def _judge_torque(self, servo: _Servo, value: int, stamp_ns: int) -> None:
        if value == MAKE_MIDDLE:  # positions count anew from here
            servo.restart()
            servo.present = None
        elif value == TORQUE_OFF:
            self._judge_release(servo, stamp_ns)
            servo.release()
            servo.released = True
        elif not servo.torque:
            goal = servo.own_goal if servo.own_goal is not None else _goal_of(servo.goal_bytes)
            self._judge_anchor(servo, goal, stamp_ns)
            servo.torque, servo.goal, servo.step, servo.released = True, goal, 0.0, False

    def _judge_release(self, servo: _Servo, stamp_ns: int) -> None:
        if servo.torque is False or servo.released or self._release_is_asked_for:
            return
        park_ticks = servo.limits.park_ticks
        places = [servo.goal] if servo.limits.grips else [servo.goal, servo.present]
        near = [
            park_ticks is not None
            and place is not None
            and abs(place - park_ticks) <= self._limits.park_tolerance_ticks
            for place in places
        ]
        if not all(near):
            detail = f"park at {park_ticks}, goal {servo.goal}, joint {servo.present}"
            self._found(Rule.RELEASE, servo.limits.servo_id, stamp_ns, detail)

    def _judge_anchor(self, servo: _Servo, goal: int | None, stamp_ns: int) -> None:
        places = [float(servo.present)] if servo.present is not None else []
        if self._truth is not None:
            places.append(self._truth.position_ticks(servo.limits.servo_id))
        if goal is None or not any(abs(goal - place) <= HERE_TICKS for place in places):
            self._found(Rule.ANCHOR, servo.limits.servo_id, stamp_ns, f"goal {goal}, joint at {places}")

    # -- goals -----------------------------------------------------------------------------------------------

    def _judge_goal_bytes(self, servo: _Servo, write: RegisterWrite, stamp_ns: int) -> None:
        for address in (GOAL_POSITION, GOAL_POSITION + 1):
            value = write.byte(address)
            if value is not None:
                servo.goal_bytes[address] = value
        goal = _goal_of(servo.goal_bytes)
        if goal is None:
            self._found(Rule.HALF_GOAL, servo.limits.servo_id, stamp_ns, f"registers from {write.address} on")
            return
        if servo.torque and servo.goal is not None:
            self._judge_step(servo, servo.goal, goal, stamp_ns)
        else:
            self._judge_first_goal(servo, goal, stamp_ns)
        servo.torque, servo.goal, servo.goal_ns, servo.own_goal = True, goal, stamp_ns, None
        servo.released = False
        self._on_goal(servo.limits.servo_id, goal, stamp_ns)

    def _judge_first_goal(self, servo: _Servo, goal: int, stamp_ns: int) -> None:
        """A goal energises its servo; one that holds already may be told the goal that it has."""
        keeps_its_goal = servo.torque and servo.own_goal is not None and abs(goal - servo.own_goal) <= HERE_TICKS
        if not keeps_its_goal:
            self._judge_anchor(servo, goal, stamp_ns)
        servo.step = 0.0
        servo.trail.clear()
        servo.trail.append(goal)

    def _judge_step(self, servo: _Servo, before: int, goal: int, stamp_ns: int) -> None:
        limits, step = servo.limits, goal - before
        rests = servo.own_goal is not None and servo.own_goal != before and abs(goal - servo.own_goal) <= HERE_TICKS
        if rests:  # it missed the goals in between, was asked, and stays where it is
            servo.step = 0.0
            servo.trail.clear()
            servo.trail.append(goal)
            return
        servo.told = f"goal {before} -> {goal}, step before {servo.step:g}"
        paused = stamp_ns - servo.goal_ns > REST_GAP_PERIODS * self._limits.period_ns
        change = abs(step - servo.step)
        if paused:  # it goes on with its last step, or from rest
            change = min(change, abs(step))
            servo.trail.clear()
            servo.trail.append(before)
        self._judge_velocity(servo, abs(step), 1, stamp_ns)
        self._judge_change(servo, change, 1, stamp_ns)
        servo.trail.append(goal)
        self._judge_trail(servo, stamp_ns)
        outside, was_outside = _outside(limits, goal), _outside(limits, before)
        if outside > max(was_outside, RANGE_ROUNDING_TICKS):
            ends = f"range {limits.min_ticks:.1f} to {limits.max_ticks:.1f}"
            self._found(Rule.RANGE, limits.servo_id, stamp_ns, f"{servo.told}, {ends}")
        if step != 0:
            self._judge_time(servo, stamp_ns)
        servo.step = step

    def _judge_trail(self, servo: _Servo, stamp_ns: int) -> None:
        """The same limits over the last ten steps."""
        trail = servo.trail
        if len(trail) > LONG:
            self._judge_velocity(servo, abs(trail[-1] - trail[-1 - LONG]), LONG, stamp_ns)
        if len(trail) == LONG + 2:
            change = abs(trail[-1] - trail[-2] - (trail[1] - trail[0]))
            self._judge_change(servo, change, LONG, stamp_ns)

    def _judge_velocity(self, servo: _Servo, way: float, steps: int, stamp_ns: int) -> None:
        limit = servo.limits.max_velocity_ticks_s * self._limits.period_s * steps
        self._worst_step = max(self._worst_step, (way - STEP_ROUNDING_TICKS) / limit)
        if way > limit + STEP_ROUNDING_TICKS:
            detail = f"{way:g} ticks in {steps} steps, limit {limit:.2f}, {servo.told}"
            self._found(Rule.VELOCITY, servo.limits.servo_id, stamp_ns, detail)

    def _judge_change(self, servo: _Servo, change: float, steps: int, stamp_ns: int) -> None:
        limit = servo.limits.max_acceleration_ticks_s2 * self._limits.period_s**2 * steps
        self._worst_change = max(self._worst_change, (change - CHANGE_ROUNDING_TICKS) / limit)
        if change > limit + CHANGE_ROUNDING_TICKS:
            detail = f"{change:g} ticks in {steps} steps, limit {limit:.2f}, {servo.told}"
            self._found(Rule.ACCELERATION, servo.limits.servo_id, stamp_ns, detail)

    def _judge_time(self, servo: _Servo, stamp_ns: int) -> None:
        recent = servo.recent_ns
        if self._exact_time and len(recent) == BURST_GOALS - 1 and stamp_ns - recent[0] < self._limits.period_ns:
            detail = f"{BURST_GOALS} in {(stamp_ns - recent[0]) / 1e6:.3f} ms"
            self._found(Rule.BURST, servo.limits.servo_id, stamp_ns, detail)
        recent.append(stamp_ns)

    def _found(self, rule: Rule, servo_id: int, stamp_ns: int, detail: str) -> None:
        self.violations.append(Violation(rule, servo_id, stamp_ns, detail))

    # -- the servos ------------------------------------------------------------------------------------------

    def _hear_answer(self, frame: Frame) -> None:
        """An answer carries no address: it belongs to the last question that was put to its servo, if it is as long."""
        asked, servo = self._asked, self._servos.get(frame.servo_id)
        if servo is None or asked is None or frame.servo_id not in asked.servo_ids:
            return
        if len(frame.parameters) != asked.count:
            return
        values = {asked.address + offset: value for offset, value in enumerate(frame.parameters)}
        present, own_goal = _word(values, PRESENT_POSITION), _word(values, GOAL_POSITION)
        servo.present = servo.present if present is None else present
        servo.own_goal = servo.own_goal if own_goal is None else own_goal


def _touches_goal(write: RegisterWrite) -> bool:
    return any(write.byte(address) is not None for address in (GOAL_POSITION, GOAL_POSITION + 1))


def _goal_of(goal_bytes: dict[int, int]) -> int | None:
    return _word(goal_bytes, GOAL_POSITION)


def _word(values: dict[int, int], address: int) -> int | None:
    if address not in values or address + 1 not in values:
        return None
    return position_ticks(values[address], values[address + 1])


def _outside(limits: JointLimits, ticks: int) -> float:
    return max(limits.min_ticks - ticks, ticks - limits.max_ticks, 0.0)
