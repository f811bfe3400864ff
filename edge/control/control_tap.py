"""Taps the control loop at the arm and at the links, and sends one record per tick to the recorder.

The loop is unaware of the taps. Replay uses the same taps on the recorded arm, so both write the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from sefa_edge.edge.control.links import Links
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import NONE_NS, TickReport, names_of
from sefa_edge.edge.ipc.sinks import Sink
from sefa_edge.edge.ipc.tick_trace import MAX_ENTRIES, Answer, ArmCall, Operation, TickTrace
from sefa_edge.edge.ipc.vocabulary import Event
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.errors import (
    ArmDisconnected,
    ArmFault,
    ArmInterrupted,
    ArmTimeout,
    ArmUnconfirmed,
    JointsOutside,
    OtherArm,
)
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, JointState, Preparation, TorqueReading
from sefa_edge.profiles.errors import SefaError

T = TypeVar("T")


class ArmTap:
    """All calls to the arm since the last tick, and their results."""

    def __init__(self) -> None:
        self.calls: list[ArmCall] = []
        self.readings: list[JointState] = []
        self.commands: list[HeldCommand] = []
        self.goal: JointGoal | None = None
        self._names: tuple[str, ...] = ()

    def around(self, open_arm: Callable[[], Arm]) -> Callable[[], Arm]:
        """`open_arm` with every call recorded."""
        return lambda: self._tapped(self.record(Operation.OPEN, open_arm))

    def _tapped(self, arm: Arm) -> TappedArm:
        self._names = arm.joint_names
        return TappedArm(arm, self)

    def record(self, operation: Operation, call: Callable[[], T]) -> T:
        """Make a call and record its outcome."""
        try:
            result = call()
        except SefaError as error:
            self.calls.append(ArmCall(operation, _answer(error), self._unconfirmed(error)))
            raise
        self.calls.append(ArmCall(operation, Answer.DONE))
        return result

    def _unconfirmed(self, error: SefaError) -> int:
        joints = error.joints if isinstance(error, (ArmUnconfirmed, JointsOutside)) else ()
        return sum(1 << index for index, name in enumerate(self._names) if name in joints)

    def clear(self) -> None:
        self.calls.clear()
        self.readings.clear()
        self.commands.clear()
        self.goal = None


class TappedArm:
    """An `Arm` whose calls are recorded."""

    def __init__(self, arm: Arm, tap: ArmTap) -> None:
        self._arm, self._tap = arm, tap

    @property
    def joint_names(self) -> tuple[str, ...]:
        return self._arm.joint_names

    @property
    def identity(self) -> ArmIdentity:
        return self._arm.identity

    def prepare(self) -> Preparation:
        """Not recorded: it happens before the first tick, and the supervisor reports it."""
        return self._arm.prepare()

    def read_state(self) -> JointState:
        state = self._tap.record(Operation.READ, self._arm.read_state)
        self._tap.readings.append(state)
        return state

    def read_command(self) -> HeldCommand:
        command = self._tap.record(Operation.READ_COMMAND, self._arm.read_command)
        self._tap.commands.append(command)
        return command

    def send(self, goal: JointGoal) -> None:
        self._tap.goal = goal
        self._tap.record(Operation.SEND, lambda: self._arm.send(goal))

    def check_position_limits(self) -> None:
        self._tap.record(Operation.CHECK_STANCE, self._arm.check_position_limits)

    def read_torque(self) -> TorqueReading:
        """Not recorded: read before the first tick or after the last."""
        return self._arm.read_torque()

    def enable_torque(self) -> None:
        self._tap.record(Operation.ENERGISE, self._arm.enable_torque)

    def release_torque(self) -> None:
        self._tap.record(Operation.RELEASE, self._arm.release_torque)

    def close(self) -> None:
        self._arm.close()


class TappedLinks:
    """`Links` whose events are recorded; the report of a tick closes its record."""

    def __init__(self, links: Links, arm: ArmTap, sink: Sink) -> None:
        self._links, self._arm, self._sink = links, arm, sink
        self._events: list[Event] = []
        self._chunk_id = NONE_NS
        self._skipped_ticks = 0

    @property
    def dropped(self) -> int:
        return self._links.dropped

    @property
    def heartbeat_ns(self) -> int | None:
        return self._links.heartbeat_ns

    def events(self) -> Iterator[Event]:
        for event in self._links.events():
            self._events.append(event)
            yield event

    def newest_chunk(self) -> ActionChunk | None:
        chunk = self._links.newest_chunk()
        if chunk is not None:
            self._chunk_id = chunk.chunk_id
            self._sink.put(chunk.pack())
        return chunk

    def publish(self, state: JointState) -> None:
        self._links.publish(state)

    def report(self, report: TickReport) -> None:
        self._links.report(report)
        arm = self._arm
        trace = TickTrace(
            report.skipped_ticks - self._skipped_ticks, tuple(self._events), self._chunk_id,
            NONE_NS if self.heartbeat_ns is None else self.heartbeat_ns,
            tuple(arm.calls), tuple(arm.readings), arm.goal, report, tuple(arm.commands),
        )  # fmt: skip
        self._skipped_ticks, self._chunk_id = report.skipped_ticks, NONE_NS
        self._events.clear()
        arm.clear()
        if len(trace.calls) <= MAX_ENTRIES and len(trace.events) <= MAX_ENTRIES:
            self._sink.put(trace.pack())


def _answer(error: SefaError) -> Answer:
    if isinstance(error, ArmTimeout):
        return Answer.TIMEOUT
    if isinstance(error, ArmDisconnected):
        return Answer.DISCONNECTED
    if isinstance(error, ArmUnconfirmed):
        return Answer.UNCONFIRMED
    if isinstance(error, JointsOutside):
        return Answer.OUTSIDE
    if isinstance(error, OtherArm):
        return Answer.OTHER_ARM
    if isinstance(error, ArmInterrupted):
        return Answer.INTERRUPTED
    return Answer.FAULT if isinstance(error, ArmFault) else Answer.REFUSED


def error_of(call: ArmCall, names: tuple[str, ...]) -> SefaError:
    """The error to raise for a recorded answer of an arm with these joints."""
    if call.answer is Answer.UNCONFIRMED:
        return ArmUnconfirmed(names_of(call.unconfirmed, names), "confirm, as it was recorded")
    if call.answer is Answer.OUTSIDE:
        return JointsOutside(names_of(call.unconfirmed, names), "as it was recorded")
    kinds: dict[Answer, type[SefaError]] = {
        Answer.TIMEOUT: ArmTimeout,
        Answer.DISCONNECTED: ArmDisconnected,
        Answer.FAULT: ArmFault,
        Answer.OTHER_ARM: OtherArm,
        Answer.INTERRUPTED: ArmInterrupted,
    }
    return kinds.get(call.answer, SefaError)("as it was recorded")
