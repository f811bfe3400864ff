"""Groups of fields that are packed together: those of fixed size, those of rows of one length, and each other field."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from sefa_edge.edge.ipc.record_header import RecordError
from sefa_edge.edge.ipc.wire_arrays import ArrayCodec, other_shape
from sefa_edge.edge.ipc.wire_values import Codec, Dims, FixedCodec

PackInto: TypeAlias = Callable[[Any, Dims, list[bytes]], None]
"""Append the bytes of some fields of a record to the parts. Raises RecordError, struct.error."""


class Part(Protocol):
    """Fields whose size depends on the record."""

    names: tuple[str, ...]
    """The fields, in the order in which `unpack` returns their values."""

    @property
    def pack_into(self) -> PackInto: ...

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[Sequence[Any], int]:
        """Their values, and their end. Raises RecordError, struct.error, ValueError, IndexError."""
        ...


class FixedPart:
    """All fields of fixed size, for one struct: single values, then tuples.

    Its two functions are expressions compiled once per class, as `dataclass` does: records are packed in every tick.
    """

    def __init__(self, codecs: Mapping[str, FixedCodec]) -> None:
        single = [name for name, codec in codecs.items() if codec.length is None]
        tuples = [name for name, codec in codecs.items() if codec.length is not None]
        self.names = (*single, *tuples)
        self.codes = "".join(codecs[name].code for name in self.names)
        self.struct_values = _struct_values(codecs, self.names)
        self.field_values = _field_values(codecs, self.names)


def _struct_values(codecs: Mapping[str, FixedCodec], names: Sequence[str]) -> Callable[[object], tuple[Any, ...]]:
    """A function from a record to the values for the struct."""
    convert = {f"convert_{name}": codecs[name].to_struct for name in names}
    values = (
        f"convert_{name}(record.{name})"
        if codecs[name].to_struct
        else f"{'*' * bool(codecs[name].length)}record.{name}"
        for name in names
    )
    return eval(f"lambda record: ({''.join(value + ', ' for value in values)})", convert)


def _field_values(codecs: Mapping[str, FixedCodec], names: Sequence[str]) -> Callable[..., list[Any]]:
    """A function from the struct's values to the fields in the order of `names`; it raises RecordError."""
    convert = {f"convert_{name}": codecs[name].from_struct for name in names}
    arguments: list[str] = []
    values: list[str] = []
    for name in names:
        length, place = codecs[name].length, len(arguments)
        entries = [f"value_{place + index}" for index in range(1 if length is None else length)]
        arguments += entries
        if length is not None:
            values.append(f"({''.join(entry + ', ' for entry in entries)})")
        else:
            values.append(f"convert_{name}({entries[0]})" if codecs[name].from_struct else entries[0])
    return eval(f"lambda {', '.join(arguments)}: [{', '.join(values)}]", convert)


class RowsPart:
    """All one-dimensional arrays that share a dimension. `pack_into` is generated and compiled once per class."""

    def __init__(self, arrays: Mapping[str, ArrayCodec]) -> None:
        self.names = tuple(arrays)
        self._arrays = list(arrays.values())
        self._dim = self._arrays[0].names[0]
        self.pack_into = _rows_packer(self._dim, arrays)

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[list[np.ndarray], int]:
        shape, rows = (dims[self._dim],), []
        for array in self._arrays:
            row, offset = array.view(record, offset, shape)
            rows.append(row)
        return rows, offset


def _rows_packer(dim: str, arrays: Mapping[str, ArrayCodec]) -> PackInto:
    """The function that checks and packs these rows of a record."""
    rows = [f"row_{index}" for index in range(len(arrays))]
    types = {f"{row}_type": array.dtype for row, array in zip(rows, arrays.values(), strict=True)}
    lines = [
        "def pack_into(record, dims, parts):",
        *(f"  {row} = record.{name}" for row, name in zip(rows, arrays, strict=True)),
        f"  count = dims.setdefault(dim, len({rows[0]}))",
        f"  if {' or '.join(f'len({row}) != count' for row in rows)}:",
        f"    raise uneven(dim, count, ({', '.join(rows)},))",
        *(
            f"  parts.append(({row} if {row}.dtype is {row}_type else {row}.astype({row}_type)).tobytes())"
            for row in rows
        ),
    ]
    names: dict[str, Any] = {"dim": dim, "uneven": _uneven, **types}
    exec("\n".join(lines), names)
    return names["pack_into"]


def _uneven(dim: str, count: int, rows: Sequence[np.ndarray]) -> RecordError:
    other = next(row for row in rows if len(row) != count)
    return other_shape(other, (dim,), {dim: count})


class OtherPart:
    """One field whose size its codec determines."""

    def __init__(self, name: str, codec: Codec) -> None:
        self.names, self._codec = (name,), codec
        self._value_of = operator.attrgetter(name)

    def pack_into(self, record: object, dims: Dims, parts: list[bytes]) -> None:
        self._codec.pack_into(self._value_of(record), dims, parts)

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[tuple[Any], int]:
        value, end = self._codec.unpack(record, offset, dims)
        return (value,), end


def other_parts(codecs: Mapping[str, FixedCodec | Codec]) -> list[Part]:
    """The parts of a record with these fields, except the fixed part."""
    rows: dict[str, dict[str, ArrayCodec]] = {}
    others: list[Part] = []
    for name, codec in codecs.items():
        if isinstance(codec, ArrayCodec) and codec.is_row:
            rows.setdefault(codec.names[0], {})[name] = codec
        elif not isinstance(codec, FixedCodec):
            others.append(OtherPart(name, codec))
    return [*(RowsPart(arrays) for arrays in rows.values()), *others]


def getter(names: Iterable[str]) -> Callable[[object], tuple[Any, ...]]:
    """A function that returns these attributes of a record."""
    names = tuple(names)
    if len(names) == 1:
        only = operator.attrgetter(*names)
        return lambda record: (only(record),)
    return operator.attrgetter(*names) if names else lambda record: ()
