"""Records as JSON, for recordings: written, read back strictly, and described by a schema."""

from __future__ import annotations

import json
from typing import TypeVar

from sefa_edge.edge.ipc.wire_record import layout_of
from sefa_edge.edge.ipc.wire_values import JsonMismatch, Schema
from sefa_edge.profiles.errors import InputError

MAX_JSON_BYTES = 1 << 20
"""Limit for one record, which has at most 64 kB between processes; blobs are not included."""

RecordT = TypeVar("RecordT")


def to_json(record: object) -> bytes:
    """One JSON object; its keys are the fields of the record."""
    return layout_of(type(record)).text(record).encode()


def from_json(content: bytes, cls: type[RecordT], place: str, **dims: int) -> RecordT:
    """The record. `place` is its origin, for the error message; `dims` are sizes that its arrays must have.

    Raises:
        InputError: the content is not the JSON of such a record.
    """
    try:
        layout = layout_of(cls)
        if len(content) > (most := MAX_JSON_BYTES + layout.blob_letters):
            raise JsonMismatch(f"it has {len(content)} bytes, expected at most {most}")
        return layout.read(json.loads(content, parse_constant=_refuse), dict(dims))
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:  # JsonMismatch, json.JSONDecodeError, UnicodeDecodeError, numbers of over 4300 digits
        problem = str(error)
    raise InputError(f"a message of {place} is damaged: {problem}", "was it recorded here?")


def schema_of(cls: type) -> Schema:
    """The JSON schema of its messages, without references, which Foxglove does not follow."""
    return layout_of(cls).schema


def _refuse(word: str) -> float:
    raise JsonMismatch(f"{word} is not JSON")
