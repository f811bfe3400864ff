"""A recording being written: `NAME.mcap.partial`, limited in size, renamed to `NAME.mcap` when it is complete."""

from __future__ import annotations

import operator
import os
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sefa_edge.edge.engines.cache import processor_name
from sefa_edge.edge.ipc.record_header import Kind, RecordError, kind_of
from sefa_edge.edge.ipc.record_json import schema_of, to_json
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.ipc.wire_record import layout_of
from sefa_edge.edge.ipc.wire_values import Schema
from sefa_edge.edge.recording.mcap_file import McapWriter
from sefa_edge.edge.recording.names import PARTIAL
from sefa_edge.edge.recording.topics import (
    FORMAT,
    LOSSES,
    TOPICS,
    Losses,
    Picture,
    Topic,
    picture_of,
    picture_topic,
)
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.exit_codes import ExitCode

RESERVE_SHARE, RESERVE_BYTES = 0.05, 1 << 30
"""The recording leaves this much of the disk free: the smaller of the two."""


class RecordingFull(SefaError):
    """The recording has reached its size limit, or the disk is nearly full."""

    exit_code = ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Facts about the run that the recording contains."""

    cameras: tuple[str, ...]
    horizon: int
    joints: int
    words: Mapping[str, str]
    """Entries of the metadata `run`, in addition to versions and clock."""
    attachments: Mapping[str, str]
    """File name -> JSON."""

    def dims_of(self, topic: Topic) -> dict[str, int]:
        """The dimensions that the records of a topic must have."""
        known = {"T": self.horizon, "n": self.joints}
        return {name: size for name, size in known.items() if name in layout_of(topic.record).dims}


@dataclass(frozen=True, slots=True)
class WrittenTopic:
    """A topic in the file."""

    channel: int
    topic: Topic
    dims: dict[str, int]


class Recording:
    """Writes records and frames as they arrive."""

    def __init__(self, path: Path, limit_bytes: int, facts: RunFacts) -> None:
        """Raises OSError."""
        self.path, self._limit_bytes, self._facts = path, limit_bytes, facts
        self._partial = path.with_name(path.name + PARTIAL)
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._file = file = McapWriter(self._partial)
        file.describe("run", {**facts.words, **_versions(), "realtime_offset_ns": str(self._offset_ns)})
        for name, content in facts.attachments.items():
            file.attach(name, content.encode(), self._now())
        self._topics: dict[Kind, WrittenTopic] = {}
        for topic in TOPICS:
            channel = file.add_topic(topic.name, *_schema(topic.record))
            self._topics[topic.record.kind] = WrittenTopic(channel, topic, facts.dims_of(topic))
        self._losses = file.add_topic(LOSSES, *_schema(Losses))
        picture = schema_of(Picture)
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
        """Add a record of control, policy or supervisor. Raises OSError; RecordError for any other record."""
        kind = kind_of(record)
        if kind not in self._topics:
            raise RecordError(f"{kind.name} records are not recorded")
        written = self._topics[kind]
        value = written.topic.record.unpack(record, **written.dims)
        field = written.topic.stamp_field
        stamp_ns = operator.attrgetter(field)(value) if field else time.monotonic_ns()
        self._write(written.channel, stamp_ns, value)

    def add_picture(self, camera: str, frame: FrameDescriptor, png: bytes) -> None:
        """Raises OSError."""
        picture = picture_of(camera, frame, png, frame.capture_ns + self._offset_ns)
        self._write(self._cameras[camera], frame.capture_ns, picture)

    def add_losses(self, pictures: int, records: int) -> None:
        """Raises OSError."""
        self._write(self._losses, time.monotonic_ns(), Losses(pictures, records))

    def check_room(self) -> None:
        """Raises RecordingFull when no more may be written, OSError when the file was deleted."""
        if self.size_bytes >= self._limit_bytes:
            raise RecordingFull(
                f"it has reached its limit of {self._limit_bytes >> 20} MB", "set a higher one with --record-limit-mb"
            )
        usage = shutil.disk_usage(self._partial.parent)
        if usage.free < min(RESERVE_SHARE * usage.total, RESERVE_BYTES):
            raise RecordingFull("the disk is nearly full", "free some space, or record to another disk")
        if not os.fstat(self._file.fd).st_nlink:
            raise FileNotFoundError(2, "the file was removed")

    def close(self) -> None:
        """Complete the file and rename it. Raises OSError."""
        self._file.close()
        self._partial.replace(self.path)

    def _write(self, channel: int, stamp_ns: int, message: object) -> None:
        self._file.write(channel, stamp_ns + self._offset_ns, to_json(message))

    def _now(self) -> int:
        return time.monotonic_ns() + self._offset_ns


def _schema(cls: type) -> tuple[str, Schema]:
    return f"sefa_edge.{cls.__name__}", schema_of(cls)


def _versions() -> dict[str, str]:
    found = {
        "format": FORMAT,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": processor_name(),
    }
    for name, package in (("sefa_edge_version", "sefa-edge"), ("numpy", "numpy"), ("onnxruntime", "onnxruntime")):
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
