"""Codecs of single values: each wire type as bytes, as JSON, and in a schema.

JSON reads back bit for bit: Python writes the shortest digits that give the same double. NaN is `null`, infinity
`1e999`, an enum its name.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Collection
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from sefa_edge.edge.ipc.record_header import RecordError
from sefa_edge.profiles.shown import shown
from sefa_edge.profiles.wire_types import Blob, Scalar, Text

Dims: TypeAlias = dict[str, int]
"""Size of each named dimension of one record."""

Schema: TypeAlias = dict[str, object]


class JsonMismatch(ValueError):
    """A value in JSON that does not fit its field."""


class Codec(Protocol):
    """A value whose size depends on the record: arrays, tuples, records."""

    schema: Schema
    dims: frozenset[str]
    """Names of the dimensions in it."""

    def pack_into(self, value: Any, dims: Dims, parts: list[bytes]) -> None:
        """Append its bytes; dimensions that are not yet in `dims` are added. Raises RecordError, struct.error."""
        ...

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[Any, int]:
        """The value at an offset, and its end. Raises RecordError, struct.error, ValueError."""
        ...

    def text(self, value: Any) -> str:
        """As JSON."""
        ...

    def read(self, content: object, dims: Dims) -> Any:
        """From parsed JSON. Raises JsonMismatch."""
        ...


class FixedCodec(NamedTuple):
    """A value of fixed size, a part of a struct."""

    code: str
    schema: Schema
    read: Callable[[object], Any]
    """From parsed JSON. Raises JsonMismatch."""
    to_struct: Callable[[Any], Any] | None = None
    from_struct: Callable[[Any], Any] | None = None
    """Raises RecordError."""
    text: Callable[[Any], str] | None = None
    """As JSON; None: an integer, written as its digits."""
    length: int | None = None
    """Length of a tuple; None: a single value."""


def whole(scalar: Scalar) -> FixedCodec:
    """An int."""
    lowest, highest = range_of(scalar)

    def read(content: object) -> int:
        if type(content) is not int or not lowest <= content <= highest:
            raise JsonMismatch(f"{shown(content)} is not a whole number from {lowest} to {highest}")
        return content

    return FixedCodec(scalar.code, {"type": "integer"}, read)


def boolean(scalar: Scalar) -> FixedCodec:
    """A bool."""

    def read(content: object) -> bool:
        if not isinstance(content, bool):
            raise JsonMismatch(f"{shown(content)} is not true or false")
        return content

    return FixedCodec(scalar.code, {"type": "boolean"}, read, text=lambda value: "true" if value else "false")


def flags(scalar: Scalar, enum: type[IntFlag]) -> FixedCodec:
    """A combination of flags: an integer, also in JSON."""
    number = whole(scalar)
    return FixedCodec(scalar.code, number.schema, lambda content: enum(number.read(content)), from_struct=enum)


def member(scalar: Scalar, enum: type[IntEnum], among: Collection[IntEnum]) -> FixedCodec:
    """A member of an enum: its value in a record, its name in JSON."""
    by_value = {int(one): one for one in among}
    by_name = {one.name: one for one in among}

    def from_struct(value: int) -> IntEnum:
        try:
            return by_value[value]
        except KeyError:
            raise RecordError(f"{value} is not a {enum.__name__} that belongs here") from None

    def read(content: object) -> IntEnum:
        found = by_name.get(content) if isinstance(content, str) else None
        if found is None:
            raise JsonMismatch(f"{shown(content)} is not a {enum.__name__} that belongs here")
        return found

    return FixedCodec(scalar.code, {"type": "string"}, read, None, from_struct, lambda value: f'"{value.name}"')


def string(text: Text) -> FixedCodec:
    """A str in a zero-padded field; an incomplete character at its end is dropped."""

    def read(content: object) -> str:
        if not isinstance(content, str) or len(content.encode(errors="replace")) > text.max_bytes:
            raise JsonMismatch(f"{shown(content)} is not a text of up to {text.max_bytes} bytes")
        return content.encode(errors="replace").decode()

    return FixedCodec(
        f"{text.max_bytes}s",
        {"type": "string"},
        read,
        lambda value: value.encode(errors="replace")[: text.max_bytes],
        lambda raw: raw.rstrip(b"\0").decode(errors="ignore"),
        json.dumps,
    )


def numbers(scalar: Scalar, count: int) -> FixedCodec:
    """A tuple of a fixed number of ints."""
    number = whole(scalar)

    def read(content: object) -> tuple[int, ...]:
        found = entries(content)
        if len(found) != count:
            raise JsonMismatch(f"{len(found)} entries, expected {count}")
        return tuple(map(number.read, found))

    return FixedCodec(
        f"{count}{scalar.code}",
        {"type": "array", "items": number.schema},
        read,
        text=lambda value: repr(list(value)).replace(" ", ""),
        length=count,
    )


def range_of(scalar: Scalar) -> tuple[int, int]:
    """The lowest and highest value of an integer type."""
    limits = np.iinfo(np.dtype(scalar.code))
    return int(limits.min), int(limits.max)


def entries(content: object, highest: int | None = None) -> list[Any]:
    """The entries of a JSON array. Raises JsonMismatch: not an array, or longer than `highest`."""
    if not isinstance(content, list):
        raise JsonMismatch(f"{shown(content)} is not a list")
    if highest is not None and len(content) > highest:
        raise JsonMismatch(f"{len(content)} entries, expected at most {highest}")
    return content


class MembersCodec:
    """A tuple of members of one or more enums: which enum and its value, two bytes each; `command RUN` in JSON."""

    dims: frozenset[str] = frozenset()

    def __init__(self, max_count: int, enums: tuple[type[IntEnum], ...]) -> None:
        self._max_count, self._enums = max_count, enums
        self._by_code = [{int(one): one for one in enum} for enum in enums]
        self._by_word = {_word(one): one for enum in enums for one in enum}
        self.schema: Schema = {"type": "array", "items": {"type": "string"}}

    def pack_into(self, value: tuple[IntEnum, ...], dims: Dims, parts: list[bytes]) -> None:
        if len(value) > self._max_count:
            raise RecordError(f"{len(value)} entries, expected at most {self._max_count}")
        parts.append(bytes((len(value), *(code for one in value for code in (self._enums.index(type(one)), one)))))

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[tuple[IntEnum, ...], int]:
        first, end = offset + 1, offset + 1 + 2 * record[offset]
        if end > len(record) or record[offset] > self._max_count:
            raise RecordError(f"{record[offset]} entries in a record of {len(record)} bytes")
        try:
            members = [self._by_code[record[at]][record[at + 1]] for at in range(first, end, 2)]
        except LookupError:
            raise RecordError(f"{record[first:end].hex(' ', 2)}: not all are known") from None
        return tuple(members), end

    def text(self, value: tuple[IntEnum, ...]) -> str:
        return "[" + ",".join([f'"{_word(one)}"' for one in value]) + "]"

    def read(self, content: object, dims: Dims) -> tuple[IntEnum, ...]:
        words = entries(content, self._max_count)
        for word in words:
            if not isinstance(word, str) or word not in self._by_word:
                raise JsonMismatch(f"{shown(word)} is not known here")
        return tuple(self._by_word[word] for word in words)


def _word(one: IntEnum) -> str:
    return f"{type(one).__name__.lower()} {one.name}"


class BlobCodec:
    """Bytes, after their number."""

    dims: frozenset[str] = frozenset()
    _count = struct.Struct("<I")

    def __init__(self, blob: Blob) -> None:
        self._max_bytes = blob.max_bytes
        self.max_letters = 4 * (blob.max_bytes // 3 + 1)
        self.schema: Schema = {"type": "string", "contentEncoding": "base64"}

    def pack_into(self, value: bytes, dims: Dims, parts: list[bytes]) -> None:
        if len(value) > self._max_bytes:
            raise RecordError(f"{len(value)} bytes, expected at most {self._max_bytes}")
        parts += (self._count.pack(len(value)), value)

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[bytes, int]:
        first = offset + self._count.size
        end = first + self._count.unpack_from(record, offset)[0]
        if end > len(record) or end - first > self._max_bytes:
            raise RecordError(f"{end - first} bytes in a record of {len(record)}")
        return record[first:end], end

    def text(self, value: bytes) -> str:
        return f'"{base64.b64encode(value).decode()}"'

    def read(self, content: object, dims: Dims) -> bytes:
        try:
            if isinstance(content, str) and len(content) <= self.max_letters:
                return base64.b64decode(content, validate=True)
        except ValueError:
            pass
        raise JsonMismatch(f"{shown(content)} is not base64 of up to {self._max_bytes} bytes")
