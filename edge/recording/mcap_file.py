"""MCAP files: the only module that imports mcap and zstandard."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Attachment, Channel, Chunk, McapRecord, Message, Metadata
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.writer import CompressionType, Writer

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.file_kinds import HEAD_BYTES, seems_to_be
from sefa_edge.profiles.files import open_regular

CHUNK_BYTES = 256 << 10
"""At most this much is lost in a crash: a third of a second of a run with one camera."""

MAX_RECORD_BYTES = 64 << 20
"""Limit for a record, and for an uncompressed chunk, of a file that is read."""


class McapWriter:
    """An MCAP file being written. Everything up to the last complete chunk has been passed to the kernel."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; also when `path` exists."""
        self._file = path.open("xb")
        self._writer = Writer(self._file, CHUNK_BYTES, CompressionType.ZSTD)
        self._writer.start(profile="", library="sefa-edge")
        self._flushed_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._flushed_bytes

    @property
    def fd(self) -> int:
        return self._file.fileno()

    def describe(self, name: str, entries: Mapping[str, str]) -> None:
        self._writer.add_metadata(name, dict(entries))
        self._flush()

    def attach(self, name: str, content: bytes, log_ns: int) -> None:
        self._writer.add_attachment(log_ns, log_ns, name, "application/json", content)
        self._flush()

    def add_topic(self, topic: str, schema_name: str, schema: object) -> int:
        """Returns the channel to write to."""
        schema_id = self._writer.register_schema(schema_name, "jsonschema", json.dumps(schema).encode())
        return self._writer.register_channel(topic, "json", schema_id)

    def write(self, channel: int, log_ns: int, content: bytes) -> None:
        """Raises OSError."""
        self._writer.add_message(channel, log_ns, content, log_ns)
        self._flush()

    def close(self) -> None:
        """Write the index and close. Raises OSError."""
        try:
            self._writer.finish()
            self._file.flush()
            os.fsync(self.fd)
        finally:
            self._file.close()

    def _flush(self) -> None:
        if self._file.tell() != self._flushed_bytes:  # a chunk was completed
            self._file.flush()
            self._flushed_bytes = self._file.tell()


@dataclass(frozen=True, slots=True)
class StoredMessage:
    topic: str
    content: bytes


@dataclass(frozen=True, slots=True)
class StoredAttachment:
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class StoredMetadata:
    name: str
    entries: dict[str, str]


@dataclass(frozen=True, slots=True)
class Truncated:
    """The last item of a file that ends early or is damaged, with the reason."""

    reason: str


Stored = StoredMessage | StoredAttachment | StoredMetadata | Truncated


def read_mcap(path: Path) -> Iterator[Stored]:
    """Everything in a file, in the order in which it was written, up to the first damage.

    Raises:
        InputError: it cannot be opened, or is not an MCAP file.
    """
    topics: dict[int, str] = {}
    with _BoundedReader(open_regular(path)) as file:
        _skip_magic(path, file)
        reader = StreamReader(file, skip_magic=True, emit_chunks=True, record_size_limit=MAX_RECORD_BYTES)
        try:
            for record in reader.records:
                for part in _unpacked(record):
                    if isinstance(part, Channel):
                        topics[part.id] = part.topic
                    elif (stored := _stored(part, topics)) is not None:
                        yield stored
        except EndOfFile:
            yield Truncated("it ends in the middle")
        except OSError as error:
            yield Truncated(f"it cannot be read further: {error.strerror}")
        except _DAMAGE as error:
            yield Truncated(f"it is damaged: {type(error).__name__}")


class _BoundedReader(io.BufferedReader):
    """Limits each read: a length in a damaged file could request any amount of memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(MAX_RECORD_BYTES if size is None or size < 0 else min(size, MAX_RECORD_BYTES))


MAGIC = b"\x89MCAP0\r\n"
_DAMAGE = (McapError, zstandard.ZstdError, struct.error, ValueError, KeyError, OverflowError, MemoryError)
"""The exceptions of the library on invalid data."""


def _skip_magic(path: Path, file: io.BufferedReader) -> None:
    try:
        head = file.peek(HEAD_BYTES)[:HEAD_BYTES]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the disk") from None
    if not head.startswith(MAGIC):
        what = seems_to_be(head)
        reason = f": it is {what}" if what else ""
        raise InputError(f"{path} is not a recording{reason}", "pass the .mcap file of a `sefa-edge run --record`")
    file.read(len(MAGIC))


def _unpacked(record: McapRecord) -> list[McapRecord]:
    if not isinstance(record, Chunk):
        return [record]
    if record.compression == "zstd":  # its header states the uncompressed size
        size = zstandard.frame_content_size(record.data)
        if not 0 <= size <= MAX_RECORD_BYTES:
            raise ValueError(f"a chunk of {size} bytes")
    elif record.compression:
        raise ValueError(f"compression {record.compression[:20]!r}")
    return breakup_chunk(record, validate_crc=True)


def _stored(record: McapRecord, topics: Mapping[int, str]) -> Stored | None:
    if isinstance(record, Message):
        return StoredMessage(topics[record.channel_id], record.data)
    if isinstance(record, Attachment):
        return StoredAttachment(record.name, record.data)
    if isinstance(record, Metadata):
        return StoredMetadata(record.name, record.metadata)
    return None
