"""What a loop is placed in when a run is computed anew: an arm that answers, and links that speak, as recorded."""

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
    """The loop asks what it did not ask when it was recorded. Not a SefaError: no part of the loop catches it."""


class RecordedArm:
    """Implements `Arm` out of the calls of a tick, and `open` is how it is opened."""

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
        """Take in what the arm was asked in one more tick."""
        self._calls += trace.calls
        self._readings += trace.readings
        self._commands += trace.commands

    def preload(self, state: JointState) -> None:
        """The arm is opened and read once before anything that is loaded."""
        self._calls.extend((ArmCall(Operation.OPEN, Answer.DONE), ArmCall(Operation.READ, Answer.DONE)))
        self._readings.append(state)

    def expect_silence(self) -> None:
        """Raises Diverged when the loop has asked less than it did."""
        if self._calls:
            raise Diverged(f"the loop does not ask the arm to {self._calls[0].operation.name.lower()}")

    def open(self) -> RecordedArm:
        self._answer(Operation.OPEN)
        return self

    def prepare(self) -> Preparation:
        """It was told when the run was recorded."""
        return NOT_PREPARED

    def read_state(self) -> JointState:
        self._answer(Operation.READ)
        if not self._readings:
            raise Diverged("the recording holds no more readings of this tick")
        return self._readings.popleft()

    def read_command(self) -> HeldCommand:
        self._answer(Operation.READ_COMMAND)
        if not self._commands:
            raise Diverged("the recording holds no more commands of this tick")
        return self._commands.popleft()

    def send(self, goal: JointGoal) -> None:
        self._answer(Operation.SEND)

    def check_position_limits(self) -> None:
        self._answer(Operation.CHECK_STANCE)

    def read_torque(self) -> TorqueReading:
        """Not asked in a tick."""
        return TorqueReading((), self.joint_names)

    def enable_torque(self) -> None:
        self._answer(Operation.ENERGISE)

    def release_torque(self) -> None:
        self._answer(Operation.RELEASE)

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, operation: Operation) -> None:
        recorded = self._calls.popleft() if self._calls else None
        if recorded is None or recorded.operation is not operation:
            instead = "nothing" if recorded is None else recorded.operation.name.lower()
            raise Diverged(f"the loop asks the arm to {operation.name.lower()}, recorded is {instead}")
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
        """Take in what arrived before one tick."""
        self._events, self._chunk = trace.events, chunk
        self.heartbeat_ns = None if trace.heartbeat_ns == NONE_NS else trace.heartbeat_ns

    def events(self) -> Iterator[Event]:
        yield from self._events

    def newest_chunk(self) -> ActionChunk | None:
        return self._chunk

    def publish(self, state: JointState) -> None:
        """Nobody listens."""

    def report(self, report: TickReport) -> None:
        """Nobody listens."""
