"""The fields of a record in groups that are packed together: all of fixed size, all rows of one length, any other."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sefa_edge.edge.ipc.wire_arrays import ArrayCodec, other_shape
from sefa_edge.edge.ipc.wire_values import Codec, Dims, FixedCodec


class Part(Protocol):
    """Fields whose size depends on the record."""

    names: tuple[str, ...]
    """Which, in the order in which `unpack` returns their values."""

    def pack_into(self, record: object, dims: Dims, parts: list[bytes]) -> None:
        """Append their bytes. Raises RecordError, struct.error."""
        ...

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[Sequence[Any], int]:
        """Their values, and where they end. Raises RecordError, struct.error, ValueError, IndexError."""
        ...


class FixedPart:
    """All fields of fixed size, for one struct: single values, then tuples."""

    def __init__(self, codecs: Mapping[str, FixedCodec]) -> None:
        single = {name: codec for name, codec in codecs.items() if codec.count is None}
        tuples = {name: codec.count for name, codec in codecs.items() if codec.count is not None}
        self.names = (*single, *tuples)
        self.codes = "".join(codecs[name].code for name in self.names)
        self._single_of = getter(single)
        self._tuples_of = [operator.attrgetter(name) for name in tuples]
        ends = list(itertools.accumulate(tuples.values(), initial=len(single)))
        self._tuple_places = [slice(start, end) for start, end in itertools.pairwise(ends)]
        self._single = len(single)
        self._to_struct = [(i, codec.to_struct) for i, codec in enumerate(single.values()) if codec.to_struct]
        self._from_struct = [(i, codec.from_struct) for i, codec in enumerate(single.values()) if codec.from_struct]

    def struct_values(self, record: object) -> tuple[Any, ...]:
        """What goes into the struct."""
        values = self._single_of(record)
        if self._to_struct:
            values = _converted(values, self._to_struct)
        for tuple_of in self._tuples_of:
            values += tuple_of(record)
        return values

    def field_values(self, values: Sequence[Any]) -> list[Any]:
        """The fields in the order of `names`, from what came out of the struct. Raises RecordError."""
        found = list(values[: self._single])
        for index, convert in self._from_struct:
            found[index] = convert(found[index])
        for place in self._tuple_places:
            found.append(tuple(values[place]))
        return found


class RowsPart:
    """All one-dimensional arrays that share a dimension."""

    def __init__(self, arrays: Mapping[str, ArrayCodec]) -> None:
        self.names = tuple(arrays)
        self._arrays = list(arrays.values())
        self._dim = self._arrays[0].names[0]
        self._dtypes = [array.dtype for array in self._arrays]
        self._rows_of = getter(arrays)

    def pack_into(self, record: object, dims: Dims, parts: list[bytes]) -> None:
        rows = self._rows_of(record)
        count = dims.setdefault(self._dim, len(rows[0]))
        for row, dtype in zip(rows, self._dtypes):  # noqa: B905  # a dozen in a tick
            if len(row) != count:
                raise other_shape(row, (self._dim,), dims)
            parts.append((row if row.dtype is dtype else row.astype(dtype)).tobytes())

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[list[np.ndarray], int]:
        count, rows = dims[self._dim], []
        for array in self._arrays:
            rows.append(array.checked(np.frombuffer(record, array.dtype, count, offset)))
            offset += count * array.dtype.itemsize
        return rows, offset


class OtherPart:
    """One field whose codec knows its size."""

    def __init__(self, name: str, codec: Codec) -> None:
        self.names, self._codec = (name,), codec
        self._value_of = operator.attrgetter(name)

    def pack_into(self, record: object, dims: Dims, parts: list[bytes]) -> None:
        self._codec.pack_into(self._value_of(record), dims, parts)

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[tuple[Any], int]:
        value, end = self._codec.unpack(record, offset, dims)
        return (value,), end


def other_parts(codecs: Mapping[str, FixedCodec | Codec]) -> list[Part]:
    """The parts of a record with these fields, besides those of fixed size."""
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


def _converted(values: Iterable[Any], conversions: Iterable[tuple[int, Callable[[Any], Any]]]) -> tuple[Any, ...]:
    converted = list(values)
    for index, convert in conversions:
        converted[index] = convert(converted[index])
    return tuple(converted)
