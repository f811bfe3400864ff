"""Tensors and types of an ONNX file: TensorProto, SparseTensorProto, ValueInfoProto, TypeProto."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TypeVar

import numpy as np

from sefa_edge.profiles.onnxfile.graph import BIT_PATTERNS, DTYPES, VALUES_PER_BYTE, SparseTensor, Tensor, ValueInfo
from sefa_edge.profiles.onnxfile.wire import Message, OnnxFormatError

MAX_RANK = 16
MAX_VALUES = 1 << 32
FLOAT_DATA, INT32_DATA, STRING_DATA, INT64_DATA, RAW_DATA, DOUBLE_DATA, UINT64_DATA = 4, 5, 6, 7, 9, 10, 11
DATA_FIELDS = (FLOAT_DATA, INT32_DATA, STRING_DATA, INT64_DATA, RAW_DATA, DOUBLE_DATA, UINT64_DATA)
TYPED_FIELDS = {
    "float32": FLOAT_DATA,
    "complex64": FLOAT_DATA,
    "float64": DOUBLE_DATA,
    "complex128": DOUBLE_DATA,
    "int64": INT64_DATA,
    "uint32": UINT64_DATA,
    "uint64": UINT64_DATA,
    "string": STRING_DATA,
}
"""The typed field for a type; all other types use int32_data."""
NOT_TENSORS = {4: "sequence", 5: "map", 7: "opaque", 8: "sparse_tensor", 9: "optional"}
"""What a TypeProto may be instead of a tensor (1), by field."""

ValueT = TypeVar("ValueT")


def named(what: str, pairs: Iterable[tuple[str, ValueT]]) -> dict[str, ValueT]:
    """A dictionary of pairs whose names must differ. Raises OnnxFormatError."""
    table: dict[str, ValueT] = {}
    for name, value in pairs:
        if name in table:
            raise OnnxFormatError(f"the ONNX file has two entries for {what} '{name}'", "export again")
        table[name] = value
    return table


def read_tensor(message: Message) -> Tensor:
    """A TensorProto. Raises OnnxFormatError if its values do not fill its shape."""
    name, dtype = message.name(8), _dtype(message.integer(2))
    dims = tuple(message.integers(1))
    if len(dims) > MAX_RANK or min(dims, default=0) < 0 or prod(max(dim, 1) for dim in dims) > MAX_VALUES:
        raise OnnxFormatError(f"tensor '{name}' of the ONNX file has the shape {list(dims)}", "export again")
    if dtype == "undefined" or message.has(3):
        raise OnnxFormatError(f"tensor '{name}' of the ONNX file has no type, or is segmented", "export again")
    present = [number for number in DATA_FIELDS if message.has(number)]
    if message.integer(14) or message.has(13):
        if present:
            raise OnnxFormatError(f"tensor '{name}' of the ONNX file is here and in another file", "export again")
        return Tensor(name, dtype, dims, None)
    if len(present) > 1:
        raise OnnxFormatError(f"tensor '{name}' of the ONNX file has its values twice", "export again")
    return Tensor(name, dtype, dims, _shaped(_values(message, name, dtype), name, dtype, dims))


def read_sparse(message: Message) -> SparseTensor:
    """A SparseTensorProto. Raises OnnxFormatError."""
    values, indices = message.child(1), message.child(2)
    if values is None or indices is None:
        raise OnnxFormatError("a sparse tensor of the ONNX file lacks its values or indices", "export again")
    return SparseTensor(read_tensor(values), read_tensor(indices))


def read_value_info(message: Message) -> ValueInfo:
    """A ValueInfoProto. Raises OnnxFormatError."""
    kind = message.child(2)
    name = message.name(1)
    return ValueInfo(name, "undefined", None) if kind is None else read_type(name, kind)


def read_type(name: str, message: Message) -> ValueInfo:
    """The TypeProto of the value `name`. Raises OnnxFormatError."""
    tensor = message.child(1)
    if tensor is None:
        kind = next((name for number, name in NOT_TENSORS.items() if message.has(number)), "undefined")
        return ValueInfo(name, kind, None)
    shape = tensor.child(2)
    dims = None if shape is None else tuple(_dimension(name, shape.open(part)) for part in shape.children(1))
    return ValueInfo(name, _dtype(tensor.integer(1)), dims)


def _dimension(name: str, message: Message) -> int | None:
    """A number, or None for a symbolic or unknown dimension."""
    if not message.has(1):
        return None
    if (value := message.integer(1)) < 0 or message.has(2):
        raise OnnxFormatError(f"value '{name}' of the ONNX file has a dimension of {value}", "export again")
    return value


def _dtype(number: int) -> str:
    if number not in DTYPES:
        raise OnnxFormatError(f"the ONNX file holds values of an unknown type, number {number}", "export again")
    return DTYPES[number]


def _storage(dtype: str) -> np.dtype:
    """Storage type of one value, or of one byte of packed values."""
    if _is_packed(dtype):
        return np.dtype(np.uint8)
    return np.dtype(BIT_PATTERNS.get(dtype, dtype)).newbyteorder("<")


def _values(message: Message, name: str, dtype: str) -> np.ndarray:
    """Values in file order, as `_storage`; the field must be the one for the type."""
    if dtype == "string":
        strings = message.contents(STRING_DATA)
        values = np.empty(len(strings), object)
        values[:] = strings
        return values
    storage = _storage(dtype)
    field = TYPED_FIELDS.get(dtype, INT32_DATA)
    if (raw := message.view(RAW_DATA)) is not None:
        if len(raw) % storage.itemsize:
            raise OnnxFormatError(f"tensor '{name}' of the ONNX file ends inside a value")
        return np.frombuffer(raw, storage)
    if field in (FLOAT_DATA, DOUBLE_DATA):
        parts = message.fixed(field, np.dtype("<f4" if field == FLOAT_DATA else "<f8"))
        if storage.kind == "c" and parts.size % 2:
            raise OnnxFormatError(f"tensor '{name}' of the ONNX file ends inside a value")
        return parts.view(storage)
    if dtype == "float16":
        return message.varints(field, np.dtype(np.uint16)).view(storage)
    return message.varints(field, storage)


def _shaped(values: np.ndarray, name: str, dtype: str, dims: tuple[int, ...]) -> np.ndarray:
    expected = prod(dims)
    if values.size not in _stored_sizes(dtype, expected):
        raise OnnxFormatError(
            f"tensor '{name}' of the ONNX file has {values.size} {dtype}, its shape {list(dims)} needs {expected}"
        )
    if dtype == "bool" and values.size and values.view(np.uint8).max() > 1:
        raise OnnxFormatError(f"tensor '{name}' of the ONNX file has a bool that is neither 0 nor 1")
    values.flags.writeable = False
    return values if _is_packed(dtype) else values.reshape(dims)


def _stored_sizes(dtype: str, count: int) -> tuple[int, ...]:
    """Possible numbers of stored elements for `count` values; 6-bit types use one byte each, or three for four."""
    if dtype.startswith("float6_"):
        return count, -(-count * 3 // 4)
    return (-(-count // VALUES_PER_BYTE.get(dtype, 1)),)


def _is_packed(dtype: str) -> bool:
    return dtype in VALUES_PER_BYTE or dtype.startswith("float6_")
