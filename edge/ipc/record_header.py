"""The first 8 bytes of every record: kind, version, size, little-endian. One datagram is one record."""

from __future__ import annotations

import struct
from enum import IntEnum

from sefa_edge.profiles.errors import SefaError

VERSION = 2
HEADER = struct.Struct("<BBxxI")


class RecordError(SefaError):
    """A record whose kind, version, size or content is not what its receiver expects."""


class Kind(IntEnum):
    """One number per record class. A number is never used for another kind later."""

    CHUNK = 1
    JOINT_SAMPLE = 2
    COMMAND = 3
    TICK = 4
    READY = 5
    FINAL = 6
    POLICY_COMMAND = 7
    POLICY_REPORT = 8
    VIDEO_COMMAND = 9
    TROUBLE = 10
    TICK_TRACE = 11
    INFERENCE = 12
    RUN_EVENT = 13
    HEARTBEAT = 16
    INFERENCE_BEGUN = 25
    MAY_HOLD = 26
    EMERGENCY_RECEIVED = 27
    ARM = 30
    FRAME = 31


_KINDS = {int(kind): kind for kind in Kind}


def kind_of(record: bytes) -> Kind:
    """What a record is. Raises RecordError when its header is missing or unknown, or its size is not its length."""
    if len(record) < HEADER.size:
        raise RecordError(f"a record of {len(record)} bytes has no header")
    kind, version, size = HEADER.unpack_from(record)
    if version != VERSION or size != len(record) or kind not in _KINDS:
        raise RecordError(f"kind {kind}, version {version}, {len(record)} of {size} bytes: not a known record")
    return _KINDS[kind]
