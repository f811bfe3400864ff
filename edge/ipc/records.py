"""The fixed-size records that enter and leave the control process: declared once, packed with struct.

Every record is `kind, version, size` (8 bytes, little-endian) and a body whose size follows from the number
of joints n (and the horizon T): another size, kind or version is refused. One datagram is one record.

    supervisor -> control    ControlCommand, Heartbeat
    control -> supervisor    Ready once, MayHold before torque, TickReport every tick, EmergencyHeard, Final once
    policy -> control        ActionChunk (edge/control/chunks.py), InferenceBegun, Trouble (edge/ipc/policy_records.py)
    control -> policy        JointSample every tick

All times are nanoseconds of CLOCK_MONOTONIC; joints are degrees (gripper 0..100) in the arm profile's order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TypeAlias, TypeVar

import numpy as np

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.transport import RecordError
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.arm_identity import JOINT_BYTES, ArmIdentity
from sefa_edge.firmware_bridge.host.messages import NOT_PREPARED, Preparation

VERSION = 1
NONE_NS = -1
_TEXT_BYTES = 240
"""An age or id that there is not: no chunk is playing."""

STAGES = ("read", "choose", "shape", "check", "send")
"""The stages of a tick that TickReport times, in order."""


class Kind(IntEnum):
    CHUNK = 1
    JOINT_SAMPLE = 2
    COMMAND = 3
    TICK = 4
    READY = 5
    FINAL = 6
    POLICY_COMMAND = 7
    POLICY_REPORT = 8
    FILM_ORDER = 9
    TROUBLE = 10
    TICK_TRACE = 11
    INFERENCE = 12
    RUN_EVENT = 13
    HEARTBEAT = 16
    INFERENCE_BEGUN = 25
    MAY_HOLD = 26
    EMERGENCY_HEARD = 27
    ARM = 30


_HEADER = struct.Struct("<BBxxI")


def seal(kind: Kind, body: bytes) -> bytes:
    """A whole record: header and body."""
    return _HEADER.pack(kind, VERSION, _HEADER.size + len(body)) + body


def kind_of(record: bytes) -> Kind:
    """What a record is. Raises RecordError when it is not one of ours or is cut short."""
    if len(record) < _HEADER.size:
        raise RecordError(f"a record of {len(record)} bytes has no header")
    kind, version, size = _HEADER.unpack_from(record)
    if version != VERSION or size != len(record) or kind not in Kind._value2member_map_:
        raise RecordError(f"kind {kind}, version {version}, {len(record)} of {size} bytes: not a record of ours")
    return Kind(kind)


def unseal(record: bytes, kind: Kind, body_bytes: int) -> memoryview:
    """The body of a record of this kind and size. Raises RecordError."""
    if kind_of(record) is not kind:
        raise RecordError(f"expected a {kind.name} record, got {kind_of(record).name}")
    body = memoryview(record)[_HEADER.size :]
    if len(body) != body_bytes:
        raise RecordError(f"a {kind.name} record has a body of {body_bytes} bytes, this one {len(body)}")
    return body


@dataclass(frozen=True, slots=True, eq=False)
class JointSample:
    """Measured joints float32 [n], so that the policy can interpolate to the time of a picture."""

    stamp_ns: int
    joint_deg: np.ndarray

    def pack(self) -> bytes:
        return seal(Kind.JOINT_SAMPLE, _STAMP.pack(self.stamp_ns) + _packed(self.joint_deg))

    @classmethod
    def unpack(cls, record: bytes, joints: int) -> JointSample:
        """Raises RecordError."""
        body = unseal(record, Kind.JOINT_SAMPLE, _STAMP.size + 4 * joints)
        return cls(_STAMP.unpack_from(body)[0], np.frombuffer(body, "<f4", joints, _STAMP.size))


_STAMP = struct.Struct("<q")


@dataclass(frozen=True, slots=True)
class ControlCommand:
    """What the supervisor asks for."""

    command: Command

    def pack(self) -> bytes:
        return seal(Kind.COMMAND, _COMMAND.pack(self.command))

    @classmethod
    def unpack(cls, record: bytes) -> ControlCommand:
        """Raises RecordError."""
        return cls(_member(Command, _COMMAND.unpack(unseal(record, Kind.COMMAND, _COMMAND.size))[0]))


_COMMAND = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The supervisor lived at `stamp_ns`; sent every 50 ms or so, in every wait."""

    stamp_ns: int

    def pack(self) -> bytes:
        return seal(Kind.HEARTBEAT, _STAMP.pack(self.stamp_ns))

    @classmethod
    def unpack(cls, record: bytes) -> Heartbeat:
        """Raises RecordError."""
        return cls(_STAMP.unpack(unseal(record, Kind.HEARTBEAT, _STAMP.size))[0])


@dataclass(frozen=True, slots=True)
class MayHold:
    """Sent before the first write that can energise a servo (registers 40 to 47); never dropped.

    From here on the arm must be assumed to hold until a Final says otherwise.
    """

    stamp_ns: int

    def pack(self) -> bytes:
        return seal(Kind.MAY_HOLD, _STAMP.pack(self.stamp_ns))

    @classmethod
    def unpack(cls, record: bytes) -> MayHold:
        """Raises RecordError."""
        return cls(_STAMP.unpack(unseal(record, Kind.MAY_HOLD, _STAMP.size))[0])


@dataclass(frozen=True, slots=True)
class EmergencyHeard:
    """Sent from the handler of SIGQUIT, after torque off was sent unconfirmed: this process is at work on it."""

    stamp_ns: int

    def pack(self) -> bytes:
        return seal(Kind.EMERGENCY_HEARD, _STAMP.pack(self.stamp_ns))

    @classmethod
    def unpack(cls, record: bytes) -> EmergencyHeard:
        """Raises RecordError."""
        return cls(_STAMP.unpack(unseal(record, Kind.EMERGENCY_HEARD, _STAMP.size))[0])


@dataclass(frozen=True, slots=True, eq=False)
class TickReport:
    """One tick of the loop. Arrays are float32 [n]; goal_deg is NaN where nothing was commanded."""

    tick: int
    start_ns: int
    """When the tick began; its place on the grid is `start_ns - lateness_ns`."""
    lateness_ns: int
    stage_ns: tuple[int, int, int, int, int]
    """How long each of STAGES took."""
    skipped_ticks: int
    """Grid points skipped since the start."""
    dropped_records: int
    """Records that a slow reader lost since the start."""
    frame_age_ns: int
    """Age of the picture that the arm acts on; NONE_NS when no chunk is playing."""
    chunk_age_ns: int
    """Time since the chunk that is playing was taken over; NONE_NS when none is."""
    chunk_id: int
    mode: Mode
    settled: bool
    """At rest where the mode leads: at the start pose, at the park pose, or holding still."""
    fault: Fault
    fault_joints: int
    """Bit i: the fault is about joint i."""
    clipped_bits: int
    """Bit i: the limiter changed the goal of joint i in this tick."""
    joint_deg: np.ndarray
    goal_deg: np.ndarray
    warm_bits: int = 0
    """Bit i: joint i is warmer than its profile's warning."""

    def pack(self) -> bytes:
        head = _TICK.pack(
            self.tick, self.start_ns, self.lateness_ns, *self.stage_ns,
            self.skipped_ticks, self.dropped_records, self.frame_age_ns, self.chunk_age_ns, self.chunk_id,
            self.mode, self.settled, self.fault, self.fault_joints, self.clipped_bits, self.warm_bits,
        )  # fmt: skip
        return seal(Kind.TICK, head + _packed(self.joint_deg) + _packed(self.goal_deg))

    @classmethod
    def unpack(cls, record: bytes, joints: int) -> TickReport:
        """Raises RecordError."""
        body = unseal(record, Kind.TICK, _TICK.size + 8 * joints)
        tick, start_ns, lateness_ns, *rest = _TICK.unpack_from(body)
        stage_ns, (skipped, dropped, frame_age, chunk_age, chunk_id) = rest[:5], rest[5:10]
        mode, settled, fault, fault_joints, clipped_bits, warm_bits = rest[10:]
        joint_deg, goal_deg = np.frombuffer(body, "<f4", 2 * joints, _TICK.size).reshape(2, joints)
        return cls(
            tick, start_ns, lateness_ns, tuple(stage_ns), skipped, dropped, frame_age, chunk_age, chunk_id,
            _member(Mode, mode), settled, _member(Fault, fault), fault_joints, clipped_bits,
            joint_deg, goal_deg, warm_bits,
        )  # fmt: skip


_TICK = struct.Struct("<Qqq5QQQqqqB?BxIII")


class Privilege(IntFlag):
    """What the operating system granted; all are optional."""

    NONE = 0
    FIFO = 1  # SCHED_FIFO
    MEMORY_LOCK = 2  # mlockall
    AFFINITY = 4  # one core
    TIMER_SLACK = 8  # prctl(PR_SET_TIMERSLACK): wakes without rounding under SCHED_OTHER


@dataclass(frozen=True, slots=True)
class ArmOpened:
    """Control -> recorder, once, before its first tick."""

    identity: ArmIdentity
    """Its ranges cut the limits of the profile."""
    looks_first: bool
    """Whether ARM waits until the arm's readings have been judged."""

    def pack(self) -> bytes:
        return seal(Kind.ARM, _ARM.pack(self.looks_first) + self.identity.pack())

    @classmethod
    def unpack(cls, record: bytes) -> ArmOpened:
        """Raises RecordError."""
        body = unseal(record, Kind.ARM, max(_ARM.size, len(record) - _HEADER.size))
        return cls(_identity(body[_ARM.size :]), _ARM.unpack_from(body)[0])


_ARM = struct.Struct("<?")


def _identity(raw: bytes | memoryview) -> ArmIdentity:
    try:
        return ArmIdentity.unpack(bytes(raw))
    except ValueError as error:
        raise RecordError(str(error)) from None


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """Sent once, when the arm answers and the loop is about to start. joint_deg is float32 [n]."""

    period_ns: int
    asked: Privilege
    granted: Privilege
    joint_deg: np.ndarray
    preparation: Preparation = NOT_PREPARED
    """What was done to the servos' settings; each text at most 240 bytes."""
    range_note: str = ""
    """What a person should know about this arm's calibrated range; at most 240 bytes."""
    identity: ArmIdentity | None = None
    """Which arm it is, for a process that must find the same one again; None: not told."""

    def pack(self) -> bytes:
        texts = (self.preparation.written, self.preparation.left, self.range_note)
        words = (clipped(text, _TEXT_BYTES) for text in texts)
        head = _READY.pack(self.period_ns, self.asked, self.granted, self.identity is not None, *words)
        arm = b"" if self.identity is None else self.identity.pack()
        return seal(Kind.READY, head + _packed(self.joint_deg) + arm)

    @classmethod
    def unpack(cls, record: bytes, joints: int) -> Ready:
        """Raises RecordError."""
        body = memoryview(record)[_HEADER.size :]
        with_arm = len(body) >= _READY.size and _READY.unpack_from(body)[3]
        size = _READY.size + 4 * joints
        body = unseal(record, Kind.READY, size + JOINT_BYTES * joints if with_arm else size)
        period_ns, asked, granted, _, written, left, note = _READY.unpack_from(body)
        joint_deg = np.frombuffer(body, "<f4", joints, _READY.size)
        preparation = Preparation(text_of(written), text_of(left))
        identity = _identity(body[size:]) if with_arm else None
        return cls(
            period_ns, Privilege(asked), Privilege(granted), joint_deg, preparation, text_of(note), identity
        )  # fmt: skip

    @property
    def refused(self) -> Privilege:
        """What was asked for and not granted: worth one line to a person, never fatal."""
        return self.asked & ~self.granted


_READY = struct.Struct(f"<qII?{_TEXT_BYTES}s{_TEXT_BYTES}s{_TEXT_BYTES}s")


class Torque(IntEnum):
    """What this process last knew about the torque of the arm."""

    UNTOUCHED = 0
    ON = 1
    OFF = 2
    UNKNOWN = 3  # asked for, not confirmed


@dataclass(frozen=True, slots=True)
class Final:
    """Sent once, last: how it ended. `message` and `hint` are for a person, at most 240 bytes each."""

    mode: Mode
    fault: Fault
    fault_joints: int
    torque: Torque
    exit_code: int
    ticks: int
    skipped_ticks: int
    message: str
    hint: str

    def pack(self) -> bytes:
        body = _FINAL.pack(
            self.mode, self.fault, self.torque, self.exit_code, self.fault_joints,
            self.ticks, self.skipped_ticks,
            clipped(self.message, _TEXT_BYTES), clipped(self.hint, _TEXT_BYTES),
        )  # fmt: skip
        return seal(Kind.FINAL, body)

    @classmethod
    def unpack(cls, record: bytes) -> Final:
        """Raises RecordError."""
        body = unseal(record, Kind.FINAL, _FINAL.size)
        mode, fault, torque, exit_code, fault_joints, ticks, skipped, message, hint = _FINAL.unpack(body)
        return cls(
            _member(Mode, mode), _member(Fault, fault), fault_joints, _member(Torque, torque), exit_code,
            ticks, skipped, text_of(message), text_of(hint),
        )  # fmt: skip


_FINAL = struct.Struct(f"<BBBBIQQ{_TEXT_BYTES}s{_TEXT_BYTES}s")

SupervisorRecord: TypeAlias = Ready | MayHold | TickReport | EmergencyHeard | Final


def unpack_for_supervisor(record: bytes, joints: int) -> SupervisorRecord:
    """Whatever the control process tells its supervisor. Raises RecordError."""
    kind = kind_of(record)
    if kind is Kind.TICK:
        return TickReport.unpack(record, joints)
    if kind is Kind.READY:
        return Ready.unpack(record, joints)
    if kind is Kind.MAY_HOLD:
        return MayHold.unpack(record)
    if kind is Kind.EMERGENCY_HEARD:
        return EmergencyHeard.unpack(record)
    return Final.unpack(record)


EnumT = TypeVar("EnumT", bound=IntEnum)


def _member(enum: type[EnumT], value: int) -> EnumT:
    try:
        return enum(value)
    except ValueError:
        raise RecordError(f"{value} is no {enum.__name__}") from None


def _packed(joint_deg: np.ndarray) -> bytes:
    return joint_deg.astype("<f4").tobytes()


def names_of(joint_bits: int, names: Sequence[str]) -> tuple[str, ...]:
    """The joints that a field of bits is about: bit i is the i-th of `names`."""
    return tuple(name for index, name in enumerate(names) if joint_bits >> index & 1)


def clipped(text: str, size: int) -> bytes:
    """Text as at most `size` bytes of UTF-8."""
    return text.encode()[:size]


def one_line(notes: Sequence[str]) -> str:
    """As many notes as fit into a record's text, and how many more there are."""
    for count in range(len(notes), 0, -1):
        more = f"; and {len(notes) - count} more" if count < len(notes) else ""
        line = "; ".join(notes[:count]) + more
        if len(line.encode()) <= _TEXT_BYTES:
            return line
    return f"{len(notes)} notes about its ranges" if notes else ""


def text_of(raw: bytes) -> str:
    """The text of a zero-padded field; half a character at its end is dropped."""
    return raw.rstrip(b"\0").decode(errors="ignore")
