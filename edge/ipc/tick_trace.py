"""All inputs and outputs of one control tick as one record: control -> recorder."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from sefa_edge.edge.ipc.record_header import Kind
from sefa_edge.edge.ipc.records import TickReport
from sefa_edge.edge.ipc.vocabulary import Event
from sefa_edge.edge.ipc.wire_record import WireRecord, wire_record
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, JointState
from sefa_edge.profiles.wire_types import I64, U8, U32, Many

MAX_ENTRIES = 64
"""Maximum number of calls, readings or events in one tick; even the most retries stay far below."""


class Operation(IntEnum):
    """The calls that the loop makes to an arm."""

    OPEN = 1
    READ = 2
    SEND = 3
    ENERGISE = 4
    RELEASE = 5
    READ_COMMAND = 6
    CHECK_STANCE = 7


class Answer(IntEnum):
    """The outcome of a call; the names are those of the errors that an `Arm` may raise."""

    DONE = 0
    TIMEOUT = 1
    DISCONNECTED = 2
    FAULT = 3
    REFUSED = 4
    UNCONFIRMED = 5
    INTERRUPTED = 6
    OUTSIDE = 7
    OTHER_ARM = 8


@dataclass(frozen=True, slots=True)
class ArmCall:
    """One call to the arm, and its outcome."""

    operation: Annotated[Operation, U8]
    answer: Annotated[Answer, U8]
    unconfirmed: Annotated[int, U32] = 0
    """Bit i: joint i did not confirm (UNCONFIRMED), or stands outside its range (OUTSIDE)."""


@wire_record(Kind.TICK_TRACE)
@dataclass(frozen=True, slots=True, eq=False)
class TickTrace(WireRecord):
    """Inputs and outputs of one tick. The first of a run also contains the calls that connected the arm."""

    skipped_before: Annotated[int, I64]
    """Grid points skipped just before this one."""
    events: Annotated[tuple[Event, ...], Many(MAX_ENTRIES, U8)]
    """Commands, observations and faults, in order: `command RUN`, `fault POLICY_LOST`."""
    chunk_arrived: Annotated[int, I64]
    """Id of the chunk that arrived just before; -1: none."""
    heartbeat_ns: Annotated[int, I64]
    """Stamp of the supervisor's last heartbeat; -1: it has not sent one."""
    calls: Annotated[tuple[ArmCall, ...], Many(MAX_ENTRIES)]
    """The calls to the arm, in order."""
    readings: Annotated[tuple[JointState, ...], Many(MAX_ENTRIES)]
    """The answers to the READ calls that were DONE, in order."""
    goal: JointGoal | None
    """The goal that was sent to the arm; null: none."""
    report: TickReport
    """The result of the tick."""
    commands: Annotated[tuple[HeldCommand, ...], Many(MAX_ENTRIES)] = ()
    """The answers to the READ_COMMAND calls that were DONE, in order."""
