"""A record is a frozen dataclass whose fields carry their wire type; bytes, JSON and schema follow from them.

    @wire_record(Kind.HEARTBEAT)
    @dataclass(frozen=True, slots=True)
    class Heartbeat(WireRecord):
        stamp_ns: Annotated[int, I64]

    Heartbeat.unpack(Heartbeat(5).pack()) == Heartbeat(5)

Wire types: profiles/wire_types.py. After the header (edge/ipc/record_header.py) come the sizes of the record's named
dimensions, then its fields: those of fixed size first. A receiver passes the dimensions that it expects to `unpack`
(`ActionChunk.unpack(record, T=16, n=6)`); a record of other dimensions, of another kind or length is refused.
JSON is in edge/ipc/record_json.py.
"""

from __future__ import annotations

import functools
import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import IntEnum, IntFlag
from types import NoneType
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from sefa_edge.edge.ipc.record_header import HEADER, VERSION, Kind, RecordError, kind_of
from sefa_edge.edge.ipc.wire_arrays import ArrayCodec
from sefa_edge.edge.ipc.wire_parts import FixedPart, getter, other_parts
from sefa_edge.edge.ipc.wire_values import (
    BlobCodec,
    Codec,
    Dims,
    FixedCodec,
    JsonMismatch,
    MembersCodec,
    Schema,
    boolean,
    entries,
    flags,
    member,
    numbers,
    string,
    whole,
)
from sefa_edge.profiles.shown import shown
from sefa_edge.profiles.wire_types import Among, Array, Blob, Many, Scalar, Text

RecordT = TypeVar("RecordT", bound="WireRecord")
ClassT = TypeVar("ClassT")


class WireRecord:
    """Base of the records; `wire_record` completes a class."""

    __slots__ = ()
    kind: ClassVar[Kind]
    _codec: ClassVar[RecordCodec]

    def pack(self) -> bytes:
        """The whole record. Raises RecordError when a value does not fit its wire type."""
        raise NotImplementedError("put @wire_record above the class")

    @classmethod
    def unpack(cls: type[RecordT], record: bytes, **dims: int) -> RecordT:
        """The record from its bytes; arrays are read-only views of them. Raises RecordError: another kind or size."""
        return cls._codec.unpack(record, dims)


def wire_record(kind: Kind) -> Callable[[type[RecordT]], type[RecordT]]:
    """Class decorator, above @dataclass. Raises TypeError for a field that cannot be encoded."""

    def complete(cls: type[RecordT]) -> type[RecordT]:
        cls.kind, cls._codec = kind, RecordCodec(kind, cls)
        setattr(cls, "pack", cls._codec.packer())  # noqa: B010  # type checkers keep the method of the base
        return cls

    return complete


class RecordCodec:
    """Header, dimensions and fields of one class of records; those of fixed size are one struct with the header."""

    def __init__(self, kind: Kind, cls: type) -> None:
        self._kind, self._layout = kind, layout_of(cls)
        self._names = sorted(self._layout.dims)
        self._count = len(self._names)
        self._head = struct.Struct(HEADER.format + "H" * len(self._names) + self._layout.fixed.codes)

    def packer(self) -> Callable[[Any], bytes]:
        """The method `pack` of the class: a closure, because it runs in every tick."""
        number, names, count, head, head_bytes = int(self._kind), self._names, self._count, self._head, self._head.size
        struct_values = self._layout.fixed.struct_values
        packers = [part.pack_into for part in self._layout.others]
        sizes_of = operator.itemgetter(*names) if count > 1 else dict[str, int].values

        def pack(record: Any) -> bytes:
            dims: Dims = {}
            parts: list[bytes] = []
            try:
                for pack_into in packers:
                    pack_into(record, dims, parts)
                if len(dims) < count:  # no array has them
                    dims = dict.fromkeys(names, 0) | dims
                body = b"".join(parts)
                size = head_bytes + len(body)
                return head.pack(number, VERSION, size, *sizes_of(dims), *struct_values(record)) + body
            except struct.error as error:
                raise RecordError(f"a {self._kind.name} record cannot be packed: {error}") from None

        return pack

    def unpack(self, record: bytes, expected: Mapping[str, int]) -> Any:
        if (kind := kind_of(record)) is not self._kind:
            raise RecordError(f"expected a {self._kind.name} record, got {kind.name}")
        try:
            _, _, _, *values = self._head.unpack_from(record)
            dims = dict(zip(self._names, values))  # noqa: B905  # the fields follow
            if expected and expected != dims:
                self._compare(dims, expected)
            value, end = self._layout.complete(values[self._count :], record, self._head.size, dims)
        except (struct.error, ValueError, IndexError) as error:
            raise RecordError(f"a {kind.name} record of {len(record)} bytes: {error}") from None
        if end != len(record):
            raise RecordError(f"a {kind.name} record of {len(record)} bytes, expected {end}")
        return value

    def _compare(self, dims: Dims, expected: Mapping[str, int]) -> None:
        for name, size in expected.items():
            if dims.get(name) != size:
                raise RecordError(f"a {self._kind.name} record with {name} = {dims.get(name)}, expected {size}")


class Layout:
    """The fields of a dataclass, as a Codec."""

    def __init__(self, cls: type) -> None:
        hints = _hints(cls)
        codecs = {field.name: _codec_for(f"{cls.__name__}.{field.name}", hints[field.name]) for field in fields(cls)}
        self._cls, self._codecs = cls, codecs
        self._optional = {f.name for f in fields(cls) if f.default is not MISSING or f.default_factory is not MISSING}
        self.dims = frozenset[str]().union(*(c.dims for c in codecs.values() if not isinstance(c, FixedCodec)))
        self.fixed = FixedPart({name: codec for name, codec in codecs.items() if isinstance(codec, FixedCodec)})
        self.others = other_parts(codecs)
        self.blob_letters = sum(codec.max_letters for codec in codecs.values() if isinstance(codec, BlobCodec))
        self._struct = struct.Struct("<" + self.fixed.codes)
        names = [name for part in (self.fixed, *self.others) for name in part.names]
        places = [names.index(name) for name in codecs]
        self._in_order = operator.itemgetter(*places) if len(places) > 1 else tuple
        self._values_of = getter(codecs)
        self._texts = [(i, codec.text) for i, codec in enumerate(codecs.values()) if codec.text]
        keys = (f'"{name}":{"%s" if codec.text else "%d"}' for name, codec in codecs.items())
        self._template = "{" + ",".join(keys) + "}"
        self.schema: Schema = {"type": "object", "properties": {name: codec.schema for name, codec in codecs.items()}}

    def pack_into(self, value: object, dims: Dims, parts: list[bytes]) -> None:
        parts.append(self._struct.pack(*self.fixed.struct_values(value)))
        for part in self.others:
            part.pack_into(value, dims, parts)

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[Any, int]:
        fixed = self._struct.unpack_from(record, offset)
        return self.complete(fixed, record, offset + self._struct.size, dims)

    def complete(self, fixed: Sequence[Any], record: bytes, offset: int, dims: Dims) -> tuple[Any, int]:
        """The dataclass from the struct's values and the bytes that follow at an offset; and the end of those."""
        values = self.fixed.field_values(*fixed)
        for part in self.others:
            found, offset = part.unpack(record, offset, dims)
            values += found
        return self._cls(*self._in_order(values)), offset

    def text(self, value: object) -> str:
        values = list(self._values_of(value))
        for index, text in self._texts:
            values[index] = text(values[index])
        return self._template % tuple(values)

    def read(self, content: object, dims: Dims) -> Any:
        """A key may be missing when its field has a default: the field is newer than the recording."""
        if not isinstance(content, dict):
            raise JsonMismatch(f"{shown(content)} is not an object")
        if unknown := content.keys() - self._codecs.keys():
            raise JsonMismatch(f"the key {shown(min(unknown))} is not known")
        if missing := self._codecs.keys() - content.keys() - self._optional:
            raise JsonMismatch(f"the key {min(missing)} is missing")
        return self._cls(**{name: self._read_field(name, part, dims) for name, part in content.items()})

    def _read_field(self, name: str, content: object, dims: Dims) -> Any:
        codec = self._codecs[name]
        try:
            return codec.read(content) if isinstance(codec, FixedCodec) else codec.read(content, dims)
        except JsonMismatch as error:
            raise JsonMismatch(f"{name}: {error}") from None


@functools.cache
def layout_of(cls: type) -> Layout:
    """The layout of a dataclass. Raises TypeError for a field that cannot be encoded."""
    return Layout(cls)


class ManyCodec:
    """A tuple of records, preceded by their number."""

    def __init__(self, max_count: int, layout: Layout) -> None:
        self._max_count, self._layout = max_count, layout
        self.dims = layout.dims
        self.schema: Schema = {"type": "array", "items": layout.schema}

    def pack_into(self, value: tuple[object, ...], dims: Dims, parts: list[bytes]) -> None:
        if len(value) > self._max_count:
            raise RecordError(f"{len(value)} entries, expected at most {self._max_count}")
        parts.append(bytes((len(value),)))
        for one in value:
            self._layout.pack_into(one, dims, parts)

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[tuple[Any, ...], int]:
        count, offset = record[offset], offset + 1
        if count > self._max_count:
            raise RecordError(f"{count} entries, expected at most {self._max_count}")
        values = []
        for _ in range(count):
            value, offset = self._layout.unpack(record, offset, dims)
            values.append(value)
        return tuple(values), offset

    def text(self, value: tuple[object, ...]) -> str:
        return "[" + ",".join(map(self._layout.text, value)) + "]"

    def read(self, content: object, dims: Dims) -> tuple[Any, ...]:
        return tuple(self._layout.read(one, dims) for one in entries(content, self._max_count))


class OptionalCodec:
    """A record or None, preceded by a byte that is 1 or 0; `null` in JSON."""

    def __init__(self, layout: Layout) -> None:
        self._layout, self.dims, self.schema = layout, layout.dims, layout.schema

    def pack_into(self, value: object, dims: Dims, parts: list[bytes]) -> None:
        parts.append(b"\0" if value is None else b"\1")
        if value is not None:
            self._layout.pack_into(value, dims, parts)

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[Any, int]:
        if record[offset] > 1:
            raise RecordError(f"{record[offset]} is neither absent (0) nor present (1)")
        return self._layout.unpack(record, offset + 1, dims) if record[offset] else (None, offset + 1)

    def text(self, value: object) -> str:
        return "null" if value is None else self._layout.text(value)

    def read(self, content: object, dims: Dims) -> Any:
        return None if content is None else self._layout.read(content, dims)


def pack_fields(value: object) -> bytes:
    """A dataclass without arrays as bytes, without the header of a record."""
    parts: list[bytes] = []
    layout_of(type(value)).pack_into(value, {}, parts)
    return b"".join(parts)


def unpack_fields(cls: type[ClassT], raw: bytes) -> ClassT:
    """From the bytes of `pack_fields`. Raises RecordError."""
    try:
        value, end = layout_of(cls).unpack(raw, 0, {})
    except (struct.error, IndexError) as error:
        raise RecordError(f"{len(raw)} bytes are not the {cls.__name__} that was expected: {error}") from None
    if end != len(raw):
        raise RecordError(f"{len(raw)} bytes, expected {end}")
    return value


def _hints(cls: type) -> dict[str, Any]:
    """Annotations of the fields. Record modules keep them as objects: evaluating strings would double an import."""
    hints = cls.__annotations__
    if any(isinstance(hint, str) for hint in hints.values()):
        return get_type_hints(cls, include_extras=True)
    return hints


def _codec_for(place: str, hint: Any) -> FixedCodec | Codec:
    annotation, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    mark = marks[0] if marks else None
    codec = _marked(annotation, mark, marks) if mark is not None else _nested(annotation)
    if codec is None:
        raise TypeError(f"{place}: {annotation} with {mark} cannot travel; see profiles/wire_types.py")
    return codec


def _marked(annotation: Any, mark: object, marks: list[object]) -> FixedCodec | Codec | None:
    if isinstance(mark, Scalar) and isinstance(annotation, type):
        return _number(annotation, mark, marks)
    if isinstance(mark, Text) and annotation is str:
        return string(mark)
    if isinstance(mark, Blob) and annotation is bytes:
        return BlobCodec(mark)
    if isinstance(mark, Array) and annotation is np.ndarray:
        return ArrayCodec(mark)
    if get_origin(annotation) is not tuple:
        return None
    element = get_args(annotation)[0]
    if isinstance(mark, Array) and element is int and isinstance(mark.shape[0], int):
        return numbers(mark.scalar, mark.shape[0])
    if isinstance(mark, Many) and mark.scalar is not None:
        enums: Any = get_args(element) or (element,)
        return MembersCodec(mark.max_count, enums)
    return ManyCodec(mark.max_count, layout_of(element)) if isinstance(mark, Many) and is_dataclass(element) else None


def _number(annotation: type, scalar: Scalar, marks: list[object]) -> FixedCodec | None:
    if issubclass(annotation, IntFlag):
        return flags(scalar, annotation)
    if issubclass(annotation, IntEnum):
        among = next((mark.members for mark in marks if isinstance(mark, Among)), annotation)
        return member(scalar, annotation, tuple(among))
    return {bool: boolean, int: whole}[annotation](scalar) if annotation in (bool, int) else None


def _nested(annotation: Any) -> Codec | None:
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    if len(kinds) == 1 and is_dataclass(kinds[0]):
        return OptionalCodec(layout_of(kinds[0]))  # pyright: ignore[reportArgumentType]
    return layout_of(annotation) if isinstance(annotation, type) and is_dataclass(annotation) else None
