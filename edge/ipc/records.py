"""The records that the control process receives and sends; packing, JSON and documentation follow from the fields.

    supervisor -> control    ControlCommand, Heartbeat
    control -> supervisor    Ready once, MayHold before torque, TickReport every tick, EmergencyReceived, Final once
    policy -> control        ActionChunk, InferenceBegun, Trouble (edge/ipc/policy_records.py)
    control -> policy        JointSample every tick
    control -> recorder      ArmOpened once, TickTrace every tick (edge/ipc/tick_trace.py)

All times are nanoseconds of CLOCK_MONOTONIC; joints are degrees (gripper 0..100) in the arm profile's order, n of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, TypeAlias

import numpy as np

from sefa_edge.edge.ipc.faults import ArmLeft, Fault
from sefa_edge.edge.ipc.record_header import Kind, RecordError, kind_of
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.edge.ipc.wire_record import WireRecord, wire_record
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.messages import NOT_PREPARED, Preparation
from sefa_edge.profiles.wire_types import BOOL, F32, I64, U8, U32, U64, Text

NONE_NS = -1
"""No age or id: no chunk is playing."""

TEXT_BYTES = 240

STAGES = ("read", "choose", "shape", "check", "send")
"""The stages of a tick that TickReport times, in order."""


@wire_record(Kind.JOINT_SAMPLE)
@dataclass(frozen=True, slots=True, eq=False)
class JointSample(WireRecord):
    """Measured joints, so that the policy can interpolate to the time of a frame."""

    stamp_ns: Annotated[int, I64]
    joint_deg: Annotated[np.ndarray, F32["n"]]


@wire_record(Kind.COMMAND)
@dataclass(frozen=True, slots=True)
class ControlCommand(WireRecord):
    """A command of the supervisor."""

    command: Annotated[Command, U8]


@wire_record(Kind.HEARTBEAT)
@dataclass(frozen=True, slots=True)
class Heartbeat(WireRecord):
    """The supervisor was alive at `stamp_ns`; sent about every 50 ms, also while it waits."""

    stamp_ns: Annotated[int, I64]


@wire_record(Kind.MAY_HOLD)
@dataclass(frozen=True, slots=True)
class MayHold(WireRecord):
    """Sent before the first write that can energise a servo (registers 40 to 47); never dropped.

    From here on the arm must be assumed to hold until a Final says otherwise.
    """

    stamp_ns: Annotated[int, I64]


@wire_record(Kind.EMERGENCY_RECEIVED)
@dataclass(frozen=True, slots=True)
class EmergencyReceived(WireRecord):
    """Sent by the SIGQUIT handler after it has sent torque off, still unconfirmed: the stop is in progress."""

    stamp_ns: Annotated[int, I64]


@wire_record(Kind.TICK)
@dataclass(frozen=True, slots=True, eq=False)
class TickReport(WireRecord):
    """One tick of the loop."""

    tick: Annotated[int, U64]
    """Number of the grid point."""
    start_ns: Annotated[int, I64]
    """When the tick began; its grid point is `start_ns - lateness_ns`."""
    lateness_ns: Annotated[int, I64]
    """How long after its grid point it began."""
    stage_ns: Annotated[tuple[int, ...], U64[len(STAGES)]]
    """How long reading, choosing, shaping, checking and sending took."""
    skipped_ticks: Annotated[int, U64]
    """Grid points skipped since the start."""
    dropped_records: Annotated[int, U64]
    """Records lost since the start because the reader was slow."""
    frame_age_ns: Annotated[int, I64]
    """Age of the frame that the arm acts on; -1 when no chunk is playing."""
    chunk_age_ns: Annotated[int, I64]
    """Time since the chunk that is playing was taken over; -1 when none is."""
    chunk_id: Annotated[int, I64]
    """Id of the chunk that is playing; -1 when none is."""
    mode: Annotated[Mode, U8]
    """What the arm is doing."""
    settled: Annotated[bool, BOOL]
    """At rest where the mode ends: at the start pose, at the park pose, or holding."""
    fault: Annotated[Fault, U8]
    """The fault that has latched, or NONE."""
    fault_joints: Annotated[int, U32]
    """Bit i: the fault is about joint i."""
    clipped_bits: Annotated[int, U32]
    """Bit i: the limiter changed the goal of joint i in this tick."""
    joint_deg: Annotated[np.ndarray, F32["n"]]
    """The measured joints."""
    goal_deg: Annotated[np.ndarray, F32["n"]]
    """The goal that the limiter allowed; NaN: no goal was sent."""
    warm_bits: Annotated[int, U32] = 0
    """Bit i: joint i is warmer than its profile's warning."""

    @property
    def due_ns(self) -> int:
        """Its grid point."""
        return self.start_ns - self.lateness_ns


class Privilege(IntFlag):
    """What the operating system granted; all are optional."""

    NONE = 0
    FIFO = 1  # SCHED_FIFO
    MEMORY_LOCK = 2  # mlockall
    AFFINITY = 4  # one core
    TIMER_SLACK = 8  # prctl(PR_SET_TIMERSLACK): wakes without rounding under SCHED_OTHER


@wire_record(Kind.ARM)
@dataclass(frozen=True, slots=True)
class ArmOpened(WireRecord):
    """The arm of the run; sent once, before the first tick."""

    identity: ArmIdentity
    """The identity that its servos report; its ranges narrow the limits of the profile."""
    looks_first: Annotated[bool, BOOL]
    """Whether ARM waits until the arm's readings have passed the check."""


@wire_record(Kind.READY)
@dataclass(frozen=True, slots=True, eq=False)
class Ready(WireRecord):
    """Sent once, when the arm answers and the loop is about to start."""

    period_ns: Annotated[int, I64]
    asked: Annotated[Privilege, U32]
    granted: Annotated[Privilege, U32]
    joint_deg: Annotated[np.ndarray, F32["n"]]
    preparation: Preparation = NOT_PREPARED
    """Which servo settings were written."""
    range_note: Annotated[str, Text(TEXT_BYTES)] = ""
    """Notes for the user about this arm's calibrated range."""
    identity: ArmIdentity | None = None
    """Which arm it is, for a process that must find the same one again; None: unknown."""

    @property
    def refused(self) -> Privilege:
        """What was asked for and not granted: worth one line of output, never fatal."""
        return self.asked & ~self.granted


class Torque(IntEnum):
    """The last known torque state of the arm."""

    UNTOUCHED = 0
    ON = 1
    OFF = 2
    UNKNOWN = 3  # asked for, not confirmed


@wire_record(Kind.FINAL)
@dataclass(frozen=True, slots=True)
class Final(WireRecord):
    """Sent once, as the last record: how the run ended. `message` and `hint` are for a person."""

    mode: Annotated[Mode, U8]
    fault: Annotated[Fault, U8]
    fault_joints: Annotated[int, U32]
    torque: Annotated[Torque, U8]
    left: Annotated[ArmLeft, U8]
    """How the arm is left, as far as this process knows."""
    exit_code: Annotated[int, U8]
    ticks: Annotated[int, U64]
    skipped_ticks: Annotated[int, U64]
    message: Annotated[str, Text(TEXT_BYTES)]
    hint: Annotated[str, Text(TEXT_BYTES)]


SupervisorRecord: TypeAlias = Ready | MayHold | TickReport | EmergencyReceived | Final
_WITH_JOINTS = {cls.kind: cls for cls in (Ready, TickReport)}
_WITHOUT_JOINTS = {cls.kind: cls for cls in (MayHold, EmergencyReceived, Final)}


def unpack_for_supervisor(record: bytes, joints: int) -> SupervisorRecord:
    """Unpack any record that the control process sends to its supervisor. Raises RecordError."""
    kind = kind_of(record)
    if kind in _WITH_JOINTS:
        return _WITH_JOINTS[kind].unpack(record, n=joints)
    if kind in _WITHOUT_JOINTS:
        return _WITHOUT_JOINTS[kind].unpack(record)
    raise RecordError(f"a {kind.name} record is not for the supervisor")


def names_of(joint_bits: int, names: Sequence[str]) -> tuple[str, ...]:
    """The names of the joints in a bit field: bit i is the i-th of `names`."""
    return tuple(name for index, name in enumerate(names) if joint_bits >> index & 1)


def one_line(notes: Sequence[str]) -> str:
    """As many notes as fit into a text field of a record, and the number of the others."""
    for count in range(len(notes), 0, -1):
        more = f"; and {len(notes) - count} more" if count < len(notes) else ""
        line = "; ".join(notes[:count]) + more
        if len(line.encode()) <= TEXT_BYTES:
            return line
    return f"{len(notes)} notes about its ranges" if notes else ""
