"""Codec of numpy arrays.

Foxglove cannot plot arrays of arrays: in JSON the rows of a two-dimensional array are objects with a `row`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sefa_edge.edge.ipc.record_header import RecordError
from sefa_edge.edge.ipc.wire_values import Dims, JsonMismatch, Schema, entries, range_of
from sefa_edge.profiles.shown import shown
from sefa_edge.profiles.wire_types import Array


class ArrayCodec:
    """A numpy array of one or two named dimensions; unpacked, it is a read-only view of the record."""

    def __init__(self, array: Array) -> None:
        self.names = tuple(name for name in array.shape if isinstance(name, str))
        if len(self.names) != len(array.shape) or not 1 <= len(array.shape) <= 2:
            raise TypeError(f"an array of shape {array.shape}: expected one or two named dimensions")
        self.dims = frozenset(self.names)
        self.dtype = np.dtype(np.dtype(array.scalar.code).newbyteorder("<").str)
        self.is_row = len(self.names) == 1
        self._scalar, self._kind = array.scalar, self.dtype.kind
        row: Schema = {"type": "array", "items": {"type": _JSON_TYPES[self._kind]}}
        rows: Schema = {"type": "array", "items": {"type": "object", "properties": {"row": row}}}
        self.schema = row if self.is_row else rows

    def pack_into(self, value: np.ndarray, dims: Dims, parts: list[bytes]) -> None:
        if value.shape != tuple(
            dims.setdefault(name, size) for name, size in zip(self.names, value.shape, strict=False)
        ):
            raise other_shape(value, self.names, dims)
        parts.append((value if value.dtype is self.dtype else value.astype(self.dtype)).tobytes())

    def unpack(self, record: bytes, offset: int, dims: Dims) -> tuple[np.ndarray, int]:
        return self.view(record, offset, tuple([dims[name] for name in self.names]))

    def view(self, record: bytes, offset: int, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
        """The array at an offset, and its end; any byte except 0 is true. Raises RecordError, ValueError."""
        try:
            array = np.ndarray(shape, self.dtype, record, offset)
        except TypeError:  # the buffer is too small
            raise RecordError(f"{len(record)} bytes are too few for an array of shape {shape}") from None
        end = offset + array.nbytes
        return (array.view(np.uint8) != 0 if self._kind == "b" else array), end

    def text(self, value: np.ndarray) -> str:
        if self.is_row:
            return self._row_text(value.tolist())
        return "[" + ",".join([f'{{"row":{self._row_text(row)}}}' for row in value.tolist()]) + "]"

    def read(self, content: object, dims: Dims) -> np.ndarray:
        rows = [content] if self.is_row else [_row_in(entry) for entry in entries(content)]
        numbers = [self._read_row(row, dims) for row in rows]
        if self.is_row:
            return numbers[0]
        self._bind(self.names[0], len(rows), dims)
        return np.stack(numbers) if numbers else np.empty((0, dims.get(self.names[1], 0)), self.dtype)

    def _row_text(self, numbers: list[Any]) -> str:
        text = repr(numbers).replace(" ", "")
        if self._kind == "b":
            return text.lower()
        return text.replace("nan", "null").replace("inf", "1e999") if "n" in text else text

    def _read_row(self, content: object, dims: Dims) -> np.ndarray:
        numbers = entries(content)
        self._bind(self.names[-1], len(numbers), dims)
        kinds = set(map(type, numbers))
        if self._kind == "b":
            if kinds - {bool}:
                raise JsonMismatch("expected a list of true and false")
            return np.array(numbers, bool)
        if self._kind == "f":
            return self._floats(numbers, kinds)
        lowest, highest = range_of(self._scalar)
        if kinds - {int} or not all(lowest <= number <= highest for number in numbers):
            raise JsonMismatch(f"expected a list of whole numbers from {lowest} to {highest}")
        return np.array(numbers, self.dtype)

    def _floats(self, numbers: list[Any], kinds: set[type]) -> np.ndarray:
        if kinds - {int, float, type(None)}:
            raise JsonMismatch("expected a list of numbers and null")
        try:
            exact = np.array([math.nan if number is None else float(number) for number in numbers], np.float64)
        except OverflowError:
            raise JsonMismatch("a whole number is too large for a double") from None
        with np.errstate(over="ignore"):
            values = exact.astype(self.dtype)
        if (np.isinf(values) & ~np.isinf(exact)).any():
            raise JsonMismatch("a number is too large for single precision")
        return values

    @staticmethod
    def _bind(name: str, size: int, dims: Dims) -> None:
        if dims.setdefault(name, size) != size:
            raise JsonMismatch(f"{size} entries, expected {dims[name]}")


_JSON_TYPES = {"b": "boolean", "f": "number", "i": "integer", "u": "integer"}


def other_shape(array: np.ndarray, names: tuple[str, ...], dims: Dims) -> RecordError:
    """The error for an array that does not fit the dimensions of its record."""
    return RecordError(f"an array of shape {array.shape}, expected {tuple(dims.get(name, name) for name in names)}")


def _row_in(content: object) -> object:
    if not isinstance(content, dict) or content.keys() != {"row"}:
        raise JsonMismatch(f"{shown(content)} is not an object with a row")
    return content["row"]
