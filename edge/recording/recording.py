"""A recording while it grows: `NAME.mcap.partial`, bounded, renamed to `NAME.mcap` when it is complete."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sefa_edge.edge.control.chunks import ActionChunk
from sefa_edge.edge.control.tick_trace import TickTrace
from sefa_edge.edge.engines.cache import processor_name
from sefa_edge.edge.ipc.inference import Inference
from sefa_edge.edge.ipc.records import ArmOpened, Kind, kind_of
from sefa_edge.edge.ipc.transport import FrameDescriptor, RecordError
from sefa_edge.edge.recording import messages
from sefa_edge.edge.recording.mcap_file import McapWriter
from sefa_edge.edge.recording.names import ARM, CHUNK, EVENT, INFERENCE, LOSSES, PARTIAL, TICK, picture_topic
from sefa_edge.edge.recording.run_event import RunEvent
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.exit_codes import ExitCode

RESERVE_SHARE, RESERVE_BYTES = 0.05, 1 << 30
"""This much of the disk stays free: the smaller of the two."""


class RecordingFull(SefaError):
    """The recording has reached its limit, or the disk has."""

    exit_code = ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a recording says about its run."""

    cameras: tuple[str, ...]
    horizon: int
    joints: int
    words: Mapping[str, str]
    """Metadata `run`, beside versions and clock."""
    attachments: Mapping[str, str]
    """File name -> JSON."""


class Recording:
    """Takes records and pictures as they come."""

    def __init__(self, path: Path, limit_bytes: int, facts: RunFacts) -> None:
        """Raises OSError."""
        self.path, self._limit_bytes, self._facts = path, limit_bytes, facts
        self._partial = path.with_name(path.name + PARTIAL)
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._file = file = McapWriter(self._partial)
        file.describe("run", {**facts.words, **_versions(), "realtime_offset_ns": str(self._offset_ns)})
        for name, content in facts.attachments.items():
            file.attach(name, content.encode(), self._now())
        self._arm = file.add_topic(ARM, "sefa_edge.Arm", messages.schema_of(messages.ArmMessage))
        self._tick = file.add_topic(TICK, "sefa_edge.Tick", messages.schema_of(messages.Tick))
        self._chunk = file.add_topic(CHUNK, "sefa_edge.Chunk", messages.schema_of(messages.Chunk))
        self._event = file.add_topic(EVENT, "sefa_edge.RunEvent", messages.schema_of(messages.RunEventMessage))
        self._losses = file.add_topic(LOSSES, "sefa_edge.Losses", messages.schema_of(messages.Losses))
        self._inference = file.add_topic(
            INFERENCE, "sefa_edge.Inference", messages.schema_of(messages.InferenceMessage)
        )
        picture = messages.schema_of(messages.Picture)
        self._cameras = {
            name: file.add_topic(picture_topic(name), "foxglove.CompressedImage", picture) for name in facts.cameras
        }

    @property
    def fd(self) -> int:
        return self._file.fd

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def add_record(self, record: bytes) -> None:
        """One record of control, policy or supervisor. Raises OSError, and RecordError for any other."""
        kind = kind_of(record)
        if kind is Kind.TICK_TRACE:
            trace = TickTrace.unpack(record)
            self._write(self._tick, trace.report.start_ns, messages.tick_message(trace))
        elif kind is Kind.ARM:
            self._write(self._arm, time.monotonic_ns(), messages.arm_message(ArmOpened.unpack(record)))
        elif kind is Kind.CHUNK:
            chunk = ActionChunk.unpack(record, self._facts.horizon, self._facts.joints)
            self._write(self._chunk, time.monotonic_ns(), messages.chunk_message(chunk))
        elif kind is Kind.INFERENCE:
            inference = Inference.unpack(record)
            self._write(
                self._inference, time.monotonic_ns(), messages.inference_message(inference, self._facts.cameras)
            )
        elif kind is Kind.RUN_EVENT:
            event = RunEvent.unpack(record)
            self._write(self._event, event.stamp_ns, messages.event_message(event))
        else:
            raise RecordError(f"a {kind.name} record is not recorded")

    def add_picture(self, camera: str, frame: FrameDescriptor, png: bytes) -> None:
        """Raises OSError."""
        log_ns = frame.capture_ns + self._offset_ns
        self._write(self._cameras[camera], frame.capture_ns, messages.picture_message(camera, frame, png, log_ns))

    def add_losses(self, pictures: int, records: int) -> None:
        """Raises OSError."""
        self._write(self._losses, time.monotonic_ns(), {"pictures": pictures, "records": records})

    def check_room(self) -> None:
        """Raises RecordingFull when no more may be written, OSError when the folder is gone."""
        if self.size_bytes >= self._limit_bytes:
            raise RecordingFull(
                f"it has reached its limit of {self._limit_bytes >> 20} MB", "--record-limit-mb sets it"
            )
        usage = shutil.disk_usage(self._partial.parent)
        if usage.free < min(RESERVE_SHARE * usage.total, RESERVE_BYTES):
            raise RecordingFull("the disk is nearly full", "make room, or record elsewhere")
        if not os.fstat(self._file.fd).st_nlink:
            raise FileNotFoundError(2, "the file was removed")

    def close(self) -> None:
        """Complete the file and put it in its place. Raises OSError."""
        self._file.close()
        self._partial.replace(self.path)

    def _write(self, channel: int, stamp_ns: int, message: messages.Json) -> None:
        self._file.write(channel, stamp_ns + self._offset_ns, messages.encode(message))

    def _now(self) -> int:
        return time.monotonic_ns() + self._offset_ns


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine(), "processor": processor_name()}
    for name, package in (("sefa_edge_version", "sefa-edge"), ("numpy", "numpy"), ("onnxruntime", "onnxruntime")):
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
