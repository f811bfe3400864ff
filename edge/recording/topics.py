"""The topics of a recording, with one record class each. The fields of the class are the keys of the messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sefa_edge.edge.ipc.policy_records import ActionChunk, Inference
from sefa_edge.edge.ipc.records import ArmOpened
from sefa_edge.edge.ipc.run_event import RunEvent
from sefa_edge.edge.ipc.tick_trace import TickTrace
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.ipc.wire_record import WireRecord
from sefa_edge.profiles.units import NS_PER_S
from sefa_edge.profiles.wire_types import I64, U32, U64, Blob, Text

FORMAT = "2"
"""Version of the messages. Adding a field with a default needs no new version. Files without this entry are 1."""

ARM = "/control/arm"
TICK, CHUNK, INFERENCE = "/control/tick", "/control/chunk", "/policy/inference"
EVENT, LOSSES = "/run/event", "/recorder/losses"


def picture_topic(camera: str) -> str:
    return f"/camera/{camera}/image"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic with the records of one class."""

    name: str
    record: type[WireRecord]
    stamp_field: str = ""
    """The field with the message's time; empty: the time of writing."""


TOPICS = (
    Topic(ARM, ArmOpened),
    Topic(TICK, TickTrace, "report.start_ns"),
    Topic(CHUNK, ActionChunk),
    Topic(INFERENCE, Inference),
    Topic(EVENT, RunEvent, "stamp_ns"),
)
"""Topics of the other processes. The recorder itself adds Losses, and Picture on one topic per camera."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Frames and records that are missing, counted since the start."""

    pictures: Annotated[int, U64]
    """Frames that were lost."""
    records: Annotated[int, U64]
    """Records that were lost or invalid."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """CLOCK_REALTIME in Foxglove's format."""

    sec: Annotated[int, I64]
    nsec: Annotated[int, U32]


@dataclass(frozen=True, slots=True)
class Picture:
    """A `foxglove.CompressedImage`, with the stamps of the frame."""

    timestamp: Stamp
    """CLOCK_REALTIME of `capture_ns`."""
    frame_id: Annotated[str, Text(240)]
    """Name of the camera."""
    data: Annotated[bytes, Blob(48 << 20)]
    """PNG in the policy's size."""
    format: Annotated[str, Text(16)]
    """png."""
    sequence: Annotated[int, I64]
    """Number of the frame."""
    capture_ns: Annotated[int, I64]
    """Time of capture."""
    received_ns: Annotated[int, I64]
    """Time of arrival."""


def picture_of(camera: str, frame: FrameDescriptor, png: bytes, realtime_ns: int) -> Picture:
    """The message for a frame that was captured at `realtime_ns`."""
    stamp = Stamp(*divmod(realtime_ns, NS_PER_S))
    return Picture(stamp, camera, png, "png", frame.sequence, frame.capture_ns, frame.received_ns)
