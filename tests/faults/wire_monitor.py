"""A monitor on the wire to the servos: judges the bytes themselves, not what the product believes it commanded.

    monitor = WireMonitor(wire_limits(profile), ServoTruth(bus))
    bus.tap = monitor                       # or call `to_servos` and `from_servos` with the bytes
    ...
    monitor.assert_clean()

It records each broken `Rule` as a `Violation`; `ServoJudge` implements the rules.
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
"""After this long without a byte, servos drop an incomplete packet."""


class Truth(Protocol):
    """The true state of the servos, where a test can read it."""

    def is_reachable(self, servo_id: int) -> bool:
        """Whether packets reach the servo: it has power, and its data line is not cut."""
        ...

    def holds(self, servo_id: int) -> bool:
        """Whether its torque is on."""
        ...

    def position_ticks(self, servo_id: int) -> float:
        """Position of its joint, as register 56 counts."""
        ...

    def goal_ticks(self, servo_id: int) -> int | None:
        """Its register 42; None: not known."""
        ...


class WireMonitor:
    """Judges the byte stream to the servos of one arm. All stamps are ns of one clock."""

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
            on_goal: called with servo id, goal (ticks) and stamp (ns) of every goal.
            exact_time: stamps are those of a lock-step clock, so bursts are not the effect of a busy machine.
        """
        self.violations: list[Violation] = []
        self.goal_packets: list[GoalPacket] = []
        """All packets with goals, in order."""
        self._truth = truth
        self._on_goal = on_goal
        self._servos = {joint.servo_id: ServoJudge(joint, limits, exact_time=exact_time) for joint in limits.joints}
        self._host, self._answers = FrameReader(), FrameReader()
        self._host_ns = 0
        self._last_read: RegisterRead | None = None
        self._release_is_requested = False
        self._torque_packets = 0

    # -- input ------------------------------------------------------------------------------------------------

    def to_servos(self, data: bytes, stamp_ns: int) -> None:
        """Bytes that reach the servos, before they act on them."""
        self._update_true_torque()
        frames = self._host.flush() if stamp_ns - self._host_ns > SILENCE_NS else []
        self._host_ns = stamp_ns
        for frame in frames + self._host.feed(data):
            self._on_host_frame(frame, stamp_ns)

    def from_servos(self, data: bytes, stamp_ns: int) -> None:
        """Bytes that the servos reply, without the adapter's echo."""
        for frame in self._answers.feed(data):
            self._on_answer(frame)

    def power_lost(self, servo_id: int) -> None:
        """For tests without `truth`: this servo has restarted without torque."""
        self._servos[servo_id].restart()

    def ask_for_release(self) -> None:
        """From now on torque off is requested, wherever the arm is."""
        self._release_is_requested = True

    # -- results -----------------------------------------------------------------------------------------------

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
        """Raises AssertionError, which lists the first violations, if there are any."""
        shown = "\n  ".join(map(str, self.violations[:12]))
        assert not self.violations, f"{len(self.violations)} violations on the wire:\n  {shown}"

    # -- the host --------------------------------------------------------------------------------------------

    def _on_host_frame(self, frame: Frame, stamp_ns: int) -> None:
        received = requests(frame)
        writes = [write for request in received for write in self._effective(request)]
        before = {servo_id: servo.goal for servo_id, servo in self._servos.items()}
        for write in writes:
            self._judge(write, stamp_ns)
        self._torque_packets += any(write.byte(TORQUE_ENABLE) is not None for write in writes)
        if any(_touches_goal(write) for write in writes):
            moves = any(before[i] is not None and before[i] != servo.goal for i, servo in self._servos.items())
            self.goal_packets.append(GoalPacket(stamp_ns, moves))
        reads = [request for request in received if isinstance(request, RegisterRead)]
        self._last_read = reads[0] if reads else self._last_read

    def _update_true_torque(self) -> None:
        """Correct the torque of servos that lost their power or missed a torque packet.

        An unreachable servo is checked once it is reachable again: until then no packet affects it.
        """
        truth = self._truth
        for servo_id, servo in self._servos.items():
            if truth is not None and truth.is_reachable(servo_id):
                servo.set_true_torque(truth.holds(servo_id))

    def _effective(self, request: Request) -> list[RegisterWrite]:
        """The writes that take effect now, each for one servo."""
        if isinstance(request, RegisterWrite):
            if request.when is When.NOW:
                return [RegisterWrite(to, request.address, request.data) for to in self._addressed(request.servo_id)]
            for servo_id in self._addressed(request.servo_id):
                if servo_id in self._servos:
                    self._servos[servo_id].pending_write = RegisterWrite(servo_id, request.address, request.data)
        elif isinstance(request, Act):
            pending = map(self._take_pending_write, self._addressed(request.servo_id))
            return [write for write in pending if write is not None]
        return []

    def _addressed(self, servo_id: int) -> list[int]:
        return list(self._servos) if servo_id == EVERY_SERVO else [servo_id]

    def _take_pending_write(self, servo_id: int) -> RegisterWrite | None:
        servo = self._servos.get(servo_id)
        if servo is None:
            return None
        write, servo.pending_write = servo.pending_write, None
        return write

    def _judge(self, write: RegisterWrite, stamp_ns: int) -> None:
        torque, servo_id = write.byte(TORQUE_ENABLE), write.servo_id
        if torque is None and not _touches_goal(write):
            return
        servo = self._servos.get(servo_id)
        report = partial(self._report, servo_id, stamp_ns)
        if servo is None:
            report(Rule.UNKNOWN_SERVO, f"registers from {write.address} on")
            return
        may_begin = torque is not None or not servo.follows
        true_ticks = self._truth.position_ticks(servo_id) if may_begin and self._truth is not None else None
        if torque is not None:
            servo.on_torque_write(torque, true_ticks, self._release_is_requested, report)
        if _touches_goal(write):
            if self._truth is not None and servo.follows and self._truth.is_reachable(servo_id):
                true_goal = self._truth.goal_ticks(servo_id)
                if true_goal is not None:
                    servo.set_true_goal(true_goal)
            goal = servo.on_goal_write(write, stamp_ns, true_ticks, report)
            if goal is not None:
                self._on_goal(servo_id, goal, stamp_ns)

    def _report(self, servo_id: int, stamp_ns: int, rule: Rule, detail: str) -> None:
        self.violations.append(Violation(rule, servo_id, stamp_ns, detail))

    # -- the servos ------------------------------------------------------------------------------------------

    def _on_answer(self, frame: Frame) -> None:
        """A reply carries no address: it belongs to the last read request for its servo if their lengths agree."""
        read, servo = self._last_read, self._servos.get(frame.servo_id)
        if servo is None or read is None or frame.servo_id not in read.servo_ids:
            return
        if len(frame.parameters) != read.count:
            return
        values = {read.address + offset: value for offset, value in enumerate(frame.parameters)}
        present, own_goal = _word(values, PRESENT_POSITION), _word(values, GOAL_POSITION)
        servo.present = servo.present if present is None else present
        servo.own_goal = servo.own_goal if own_goal is None else own_goal


def _touches_goal(write: RegisterWrite) -> bool:
    return any(write.byte(address) is not None for address in GOAL_BYTES)


def _word(values: dict[int, int], address: int) -> int | None:
    if address not in values or address + 1 not in values:
        return None
    return position_ticks(values[address], values[address + 1])
