"""Records that the policy process sends and takes, besides chunks and joints; the others are in edge/ipc/records.py."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import Kind, clipped, seal, text_of, unseal
from sefa_edge.edge.ipc.transport import RecordError


class Order(IntEnum):
    """What the supervisor may ask of the policy."""

    RUN = 1
    PAUSE = 2


class Happening(IntEnum):
    """What the policy may report."""

    READY = 1  # engine open and warm
    PAUSED = 2  # no chunk of the episode will follow this report
    CHUNK = 3  # a chunk was sent
    NO_FRAME = 4  # a policy step without a fresh picture: nothing was sent
    NO_JOINTS = 5  # a policy step without fresh joints: nothing was sent
    GAP = 6  # pictures or joints of the past were missing: the nearest ones were used


@dataclass(frozen=True, slots=True)
class PolicyCommand:
    """RUN starts an episode with its noise seed, on pictures caught from `after_ns` on; PAUSE ends it."""

    order: Order
    episode: int = 0
    seed: int = 0
    after_ns: int = 0

    def pack(self) -> bytes:
        return seal(Kind.POLICY_COMMAND, _COMMAND.pack(self.order, self.episode, self.seed, self.after_ns))

    @classmethod
    def unpack(cls, record: bytes) -> PolicyCommand:
        """Raises RecordError."""
        order, *fields = _COMMAND.unpack(unseal(record, Kind.POLICY_COMMAND, _COMMAND.size))
        if order not in Order._value2member_map_:
            raise RecordError(f"{order} is no order")
        return cls(Order(order), *fields)


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """One event of the policy; `frame_age_ns` is the age of the picture when the inference began."""

    happening: Happening
    episode: int
    chunk_id: int = 0
    inference_ns: int = 0
    frame_age_ns: int = 0
    skipped_steps: int = 0
    """Policy steps by which inferences began late, since the process started; the next two likewise."""
    overlong: int = 0
    """Inferences that took longer than their period."""
    late_steps: int = 0
    """Steps of chunks that were due before they could be sent."""

    def pack(self) -> bytes:
        return seal(
            Kind.POLICY_REPORT,
            _REPORT.pack(
                self.happening, self.episode, self.chunk_id, self.inference_ns, self.frame_age_ns,
                self.skipped_steps, self.overlong, self.late_steps,
            ),
        )  # fmt: skip

    @classmethod
    def unpack(cls, record: bytes) -> PolicyReport:
        """Raises RecordError."""
        happening, *fields = _REPORT.unpack(unseal(record, Kind.POLICY_REPORT, _REPORT.size))
        if happening not in Happening._value2member_map_:
            raise RecordError(f"{happening} is no happening")
        return cls(Happening(happening), *fields)


@dataclass(frozen=True, slots=True)
class InferenceBegun:
    """Policy to control: no chunk comes until this inference has ended. Lets control say why it waits in vain."""

    begun_ns: int

    def pack(self) -> bytes:
        return seal(Kind.INFERENCE_BEGUN, _BEGUN.pack(self.begun_ns))

    @classmethod
    def unpack(cls, record: bytes) -> InferenceBegun:
        """Raises RecordError."""
        return cls(*_BEGUN.unpack(unseal(record, Kind.INFERENCE_BEGUN, _BEGUN.size)))


@dataclass(frozen=True, slots=True)
class Trouble:
    """Policy to control: the run cannot go on. `about` says which camera, or what; at most 64 bytes of it travel."""

    fault: Fault
    about: str = ""

    def pack(self) -> bytes:
        return seal(Kind.TROUBLE, _TROUBLE.pack(self.fault, clipped(self.about, _ABOUT_BYTES)))

    @classmethod
    def unpack(cls, record: bytes) -> Trouble:
        """Raises RecordError, also for a fault that is not the policy's to tell."""
        fault, about = _TROUBLE.unpack(unseal(record, Kind.TROUBLE, _TROUBLE.size))
        if fault not in TOLD_BY_POLICY:
            raise RecordError(f"{fault} is no trouble of a policy")
        return cls(Fault(fault), text_of(about))


TOLD_BY_POLICY = frozenset(
    {Fault.CAMERA_STALE, Fault.CAMERA_FROZEN, Fault.CAMERA_DARK, Fault.CAMERA_SKEW, Fault.ENGINE_FAILED}
)

_ABOUT_BYTES = 64
_TROUBLE = struct.Struct(f"<B{_ABOUT_BYTES}s")
_COMMAND = struct.Struct("<Iqqq")
_REPORT = struct.Struct("<Iqqqqqqq")
_BEGUN = struct.Struct("<q")
