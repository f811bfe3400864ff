"""Reading the structure of an ONNX file without the onnx package: enough to find data in other files.

Field numbers: onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, FunctionProto).
"""

from __future__ import annotations

from collections.abc import Iterator

from sefa_edge.profiles.errors import InputError

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TENSOR_NAME, _TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 8, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
MAX_DEPTH = 64


class OnnxFormatError(InputError):
    """Not an ONNX file, or a damaged one."""


def external_tensors(content: bytes) -> list[str]:
    """Names of the tensors whose values lie in another file, which no checksum of this file covers.

    Raises:
        OnnxFormatError: the file is damaged.
    """
    return list(_external(memoryview(content), "model", MAX_DEPTH))


def _external(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth == 0:
        raise OnnxFormatError("the ONNX file is nested too deeply", "export again")
    name, is_external = "unnamed", False
    for field, value in _fields(message):
        if isinstance(value, memoryview) and field in _CHILDREN[kind]:
            yield from _external(value, _CHILDREN[kind][field], depth - 1)
        elif kind == "tensor" and field == _TENSOR_NAME and isinstance(value, memoryview):
            name = bytes(value).decode(errors="replace")
        elif kind == "tensor":
            is_external |= field == _TENSOR_EXTERNAL_DATA or (field == _TENSOR_DATA_LOCATION and value == 1)
    if is_external:
        yield name


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one protobuf message; fixed-width values are skipped over as bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise OnnxFormatError("the file is not a valid ONNX file", "was it copied completely? export again")
        if at + length > len(message):
            raise OnnxFormatError("the ONNX file ends too early", "was it copied completely? export again")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise OnnxFormatError("the ONNX file ends too early", "was it copied completely? export again")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise OnnxFormatError("the file is not a valid ONNX file", "export again")
