"""All that went into one tick of control and all that came out, as one record: control -> recorder."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import NONE_NS, Kind, TickReport, seal, unseal
from sefa_edge.edge.ipc.transport import RecordError
from sefa_edge.edge.ipc.vocabulary import Command, Event, Progress
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, JointState

MAX_ENTRIES = 64
"""Calls, readings or events of one tick; an arm that is asked as often as it may be stays far below."""


class Operation(IntEnum):
    """What the loop asks of an arm."""

    OPEN = 1
    READ = 2
    SEND = 3
    ENERGISE = 4
    RELEASE = 5
    READ_COMMAND = 6
    CHECK_STANCE = 7


class Answer(IntEnum):
    """How it went; the names of the errors that an `Arm` may raise."""

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
    operation: Operation
    answer: Answer
    unconfirmed: int = 0
    """Bit i: joint i did not confirm (UNCONFIRMED), or stands outside its range (OUTSIDE)."""


@dataclass(frozen=True, slots=True, eq=False)
class TickTrace:
    """One tick. `readings` are the states of the READ calls that were DONE, in order; so are `commands` those of
    READ_COMMAND, and `goal` is that of SEND.

    The first trace of a run also holds the calls that connected the arm.
    """

    skipped_before: int
    events: tuple[Event, ...]
    chunk_arrived: int
    """Id of the chunk that arrived just before; NONE_NS: none did."""
    heartbeat_ns: int
    """Stamp of the supervisor's last heartbeat; NONE_NS: it has not sent one."""
    calls: tuple[ArmCall, ...]
    readings: tuple[JointState, ...]
    goal: JointGoal | None
    report: TickReport
    commands: tuple[HeldCommand, ...] = ()

    def pack(self) -> bytes:
        """Raises RecordError when there is more in it than fits."""
        if max(len(self.events), len(self.calls)) > MAX_ENTRIES:
            raise RecordError(f"a tick with {len(self.events)} events and {len(self.calls)} calls of the arm")
        goal, report = self.goal, self.report.pack()
        joints = len(self.report.joint_deg)
        head = _HEAD.pack(
            self.skipped_before, self.chunk_arrived, self.heartbeat_ns,
            *((goal.sequence, goal.due_ns, goal.expires_ns) if goal else (NONE_NS, NONE_NS, NONE_NS)),
            joints, len(self.events), len(self.calls), len(self.readings), len(self.commands), len(report),
            goal.left_out if goal else 0,
        )  # fmt: skip
        parts = [head, report]
        parts += [_PAIR.pack(_family(event), event) for event in self.events]
        parts += [_CALL.pack(call.operation, call.answer, call.unconfirmed) for call in self.calls]
        if goal is not None:
            parts.append(goal.joint_deg.astype("<f8").tobytes())
        parts += [_packed_state(state) for state in self.readings]
        parts += [_packed_command(command) for command in self.commands]
        return seal(Kind.TICK_TRACE, b"".join(parts))

    @classmethod
    def unpack(cls, record: bytes) -> TickTrace:
        """Raises RecordError."""
        body = memoryview(record)[8:]
        if len(body) < _HEAD.size:
            raise RecordError(f"a trace of {len(record)} bytes has no head")
        skipped, chunk, heartbeat_ns, sequence, due_ns, expires_ns, *sizes = _HEAD.unpack_from(body)
        n, events, calls, readings, commands, report, left_out = sizes
        goal_bytes = 0 if sequence == NONE_NS else 8 * n
        size = _HEAD.size + report + 2 * events + _CALL.size * calls + goal_bytes
        size += readings * _state_bytes(n) + commands * _command_bytes(n)
        body = unseal(record, Kind.TICK_TRACE, size)
        cut = _Cutter(body, _HEAD.size)
        report_record = bytes(cut.take(report))
        seen = tuple(_event(*_PAIR.unpack(cut.take(2))) for _ in range(events))
        made = tuple(_call(*_CALL.unpack(cut.take(_CALL.size))) for _ in range(calls))
        goal_deg = np.frombuffer(cut.take(goal_bytes), "<f8")
        states = tuple(_state(cut.take(_state_bytes(n)), n) for _ in range(readings))
        held = tuple(_command(cut.take(_command_bytes(n)), n) for _ in range(commands))
        goal = None if sequence == NONE_NS else JointGoal(sequence, due_ns, expires_ns, goal_deg, left_out)
        return cls(skipped, seen, chunk, heartbeat_ns, made, states, goal, TickReport.unpack(report_record, n), held)


_HEAD = struct.Struct("<qqqqqqBBBBBII")
_PAIR = struct.Struct("<BB")
_CALL = struct.Struct("<BBI")
_STATE_HEAD = struct.Struct("<qqq")
_FAMILIES: tuple[type[Command] | type[Progress] | type[Fault], ...] = (Command, Progress, Fault)


class _Cutter:
    def __init__(self, body: memoryview, offset: int) -> None:
        self._body, self._offset = body, offset

    def take(self, size: int) -> memoryview:
        self._offset += size
        return self._body[self._offset - size : self._offset]


def _family(event: Event) -> int:
    return _FAMILIES.index(type(event))


def _event(family: int, code: int) -> Event:
    try:
        return _FAMILIES[family](code)
    except (IndexError, ValueError):
        raise RecordError(f"{family}, {code} is no event") from None


def _call(operation: int, answer: int, unconfirmed: int) -> ArmCall:
    try:
        return ArmCall(Operation(operation), Answer(answer), unconfirmed)
    except ValueError:
        raise RecordError(f"{operation}, {answer} is no call of an arm") from None


def _state_bytes(joints: int) -> int:
    return _STATE_HEAD.size + (5 * 8 + 8 + 1 + 1) * joints


def _packed_state(state: JointState) -> bytes:
    floats = (state.joint_deg, state.velocity_deg_s, state.load_pct, state.current_ma, state.temperature_c)
    return b"".join(
        (
            _STATE_HEAD.pack(state.sequence, state.stamp_ns, state.supply_mv),
            np.array(floats, "<f8").tobytes(),
            state.age_ns.astype("<i8").tobytes(),
            state.status_bits.astype(np.uint8).tobytes(),
            state.valid_mask.astype(np.uint8).tobytes(),
        )
    )


def _state(raw: memoryview, n: int) -> JointState:
    sequence, stamp_ns, supply_mv = _STATE_HEAD.unpack_from(raw)
    floats = np.frombuffer(raw, "<f8", 5 * n, _STATE_HEAD.size).reshape(5, n)
    age_ns = np.frombuffer(raw, "<i8", n, _STATE_HEAD.size + 40 * n)
    status, valid = np.frombuffer(raw, np.uint8, 2 * n, _STATE_HEAD.size + 48 * n).reshape(2, n)
    joint_deg, velocity_deg_s, load_pct, current_ma, temperature_c = floats
    return JointState(
        sequence, stamp_ns, joint_deg, velocity_deg_s, load_pct, current_ma, temperature_c,
        supply_mv, status, valid.astype(bool), age_ns,
    )  # fmt: skip


def _command_bytes(joints: int) -> int:
    return (8 + 3) * joints


def _packed_command(command: HeldCommand) -> bytes:
    flags = (command.valid_mask, command.torque_on, command.powered_throughout)
    return command.goal_deg.astype("<f8").tobytes() + np.array(flags, np.uint8).tobytes()


def _command(raw: memoryview, n: int) -> HeldCommand:
    valid, torque, powered = np.frombuffer(raw, np.uint8, 3 * n, 8 * n).reshape(3, n).astype(bool)
    return HeldCommand(valid, torque, powered, np.frombuffer(raw, "<f8", n))
