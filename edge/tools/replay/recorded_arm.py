"""The surroundings of a replayed loop: an arm that answers as recorded, and links that deliver what was recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from sefa_edge.edge.control.control_tap import error_of
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import NONE_NS, TickReport
from sefa_edge.edge.ipc.tick_trace import Answer, ArmCall, Operation, TickTrace
from sefa_edge.edge.ipc.vocabulary import Event
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.messages import (
    NOT_PREPARED,
    HeldCommand,
    JointGoal,
    JointState,
    Preparation,
    TorqueReading,
)


class Diverged(Exception):
    """The loop calls the arm differently from the recording. Not a SefaError, so that the loop does not catch it."""


class RecordedArm:
    """Implements `Arm` from the recorded calls. `open` is passed to the loop as the function that opens the arm."""

    def __init__(self, joint_names: tuple[str, ...], identity: ArmIdentity) -> None:
        self._names = joint_names
        self._identity = identity
        self._calls: deque[ArmCall] = deque()
        self._readings: deque[JointState] = deque()
        self._commands: deque[HeldCommand] = deque()

    @property
    def joint_names(self) -> tuple[str, ...]:
        return self._names

    @property
    def identity(self) -> ArmIdentity:
        return self._identity

    def load(self, trace: TickTrace) -> None:
        """Add the recorded calls of one more tick."""
        self._calls += trace.calls
        self._readings += trace.readings
        self._commands += trace.commands

    def expect_no_more_calls(self) -> None:
        """Raises Diverged when recorded calls are left that the loop has not made."""
        if self._calls:
            raise Diverged(f"the loop does not call {self._calls[0].operation.name.lower()} as recorded")

    def open(self) -> RecordedArm:
        self._answer(Operation.OPEN)
        return self

    def prepare(self) -> Preparation:
        """Printed when the run was recorded."""
        return NOT_PREPARED

    def read_state(self) -> JointState:
        self._answer(Operation.READ)
        if not self._readings:
            raise Diverged("the recording has no more readings for this tick")
        return self._readings.popleft()

    def read_command(self) -> HeldCommand:
        self._answer(Operation.READ_COMMAND)
        if not self._commands:
            raise Diverged("the recording has no more commands for this tick")
        return self._commands.popleft()

    def send(self, goal: JointGoal) -> None:
        self._answer(Operation.SEND)

    def check_position_limits(self) -> None:
        self._answer(Operation.CHECK_STANCE)

    def read_torque(self) -> TorqueReading:
        """Never called in a tick."""
        return TorqueReading((), self.joint_names)

    def enable_torque(self) -> None:
        self._answer(Operation.ENERGISE)

    def release_torque(self) -> None:
        self._answer(Operation.RELEASE)

    def close(self) -> None:
        """Nothing to release."""

    def _answer(self, operation: Operation) -> None:
        recorded = self._calls.popleft() if self._calls else None
        if recorded is None or recorded.operation is not operation:
            expected = "no call" if recorded is None else recorded.operation.name.lower()
            raise Diverged(f"the loop calls {operation.name.lower()}, the recording has {expected}")
        if recorded.answer is not Answer.DONE:
            raise error_of(recorded, self._names)


class RecordedLinks:
    """Implements `Links`."""

    def __init__(self) -> None:
        self._events: tuple[Event, ...] = ()
        self._chunk: ActionChunk | None = None
        self.heartbeat_ns: int | None = None

    @property
    def dropped(self) -> int:
        return 0

    def load(self, trace: TickTrace, chunk: ActionChunk | None) -> None:
        """Set what arrived before one tick."""
        self._events, self._chunk = trace.events, chunk
        self.heartbeat_ns = None if trace.heartbeat_ns == NONE_NS else trace.heartbeat_ns

    def events(self) -> Iterator[Event]:
        yield from self._events

    def newest_chunk(self) -> ActionChunk | None:
        return self._chunk

    def publish(self, state: JointState) -> None:
        """Ignored in a replay."""

    def report(self, report: TickReport) -> None:
        """Ignored in a replay."""
