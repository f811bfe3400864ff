"""A monitor on the wire to the servos: it judges the bytes, whatever the product believes that it commanded.

    monitor = WireMonitor(wire_limits(profile), ServoTruth(bus))
    bus.tap = monitor                       # or call `to_servos` and `from_servos` with what passes
    ...
    monitor.assert_clean()

What it finds is a `Violation`; `Rule` says what is looked for, `ServoJudge` how it is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from tests.faults.servo_judge import GOAL_BYTES, ServoJudge
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
from tests.faults.wire_limits import WireLimits
from tests.faults.wire_rules import GoalPacket, Rule, Violation, WireSummary

SILENCE_NS = 10_000_000
"""After so long without a byte, servos give up a packet that was begun."""


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

    def goal_ticks(self, servo_id: int) -> int | None:
        """What its register 42 holds; None: not known."""
        ...


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
        self._truth = truth
        self._on_goal = on_goal
        self._servos = {joint.servo_id: ServoJudge(joint, limits, exact_time=exact_time) for joint in limits.joints}
        self._host, self._answers = FrameReader(), FrameReader()
        self._host_ns = 0
        self._asked: RegisterRead | None = None
        self._release_is_asked_for = False
        self._torque_packets = 0

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
        servos = self._servos.values()
        return WireSummary(
            goal_packets=len(self.goal_packets),
            torque_packets=self._torque_packets,
            worst_step=max(servo.worst_step for servo in servos),
            worst_change=max(servo.worst_change for servo in servos),
            violations=len(self.violations),
        )

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
        for servo_id, servo in self._servos.items():
            if truth is not None and truth.hears(servo_id):
                servo.really_holds(truth.holds(servo_id))

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
        torque, servo_id = write.byte(TORQUE_ENABLE), write.servo_id
        if torque is None and not _touches_goal(write):
            return
        servo = self._servos.get(servo_id)
        found = partial(self._found, servo_id, stamp_ns)
        if servo is None:
            found(Rule.STRANGER, f"registers from {write.address} on")
            return
        begins = torque is not None or not servo.follows
        true_ticks = self._truth.position_ticks(servo_id) if begins and self._truth is not None else None
        if torque is not None:
            servo.take_torque(torque, true_ticks, self._release_is_asked_for, found)
        if _touches_goal(write):
            if self._truth is not None and servo.follows and self._truth.hears(servo_id):
                held_ticks = self._truth.goal_ticks(servo_id)
                if held_ticks is not None:
                    servo.really_has_goal(held_ticks)
            goal = servo.take_goal(write, stamp_ns, true_ticks, found)
            if goal is not None:
                self._on_goal(servo_id, goal, stamp_ns)

    def _found(self, servo_id: int, stamp_ns: int, rule: Rule, detail: str) -> None:
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
    return any(write.byte(address) is not None for address in GOAL_BYTES)


def _word(values: dict[int, int], address: int) -> int | None:
    if address not in values or address + 1 not in values:
        return None
    return position_ticks(values[address], values[address + 1])
