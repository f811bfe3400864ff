"""Reading ONNX without the onnx package: what it says, and what is refused with which words. The judge is onnx."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.onnx_graph import Graph, SparseTensor, Tensor, ValueInfo, graphs_of
from sefa_edge.profiles.onnx_reader import MAX_FILE_BYTES, load_onnx, read_onnx
from sefa_edge.profiles.onnx_wire import MAX_DEPTH, MAX_FIELDS, MAX_VARINT_BYTES, OnnxFormatError

onnx = pytest.importorskip("onnx")
SHIPPED = Path(__file__).resolve().parents[2] / "edge/shipped/lift/model.onnx"
DATA = Path(onnx.__file__).parent / "backend/test/data"
FOLDERS = sorted({path.parent.parent.name for path in DATA.glob("*/*/model.onnx")})


def assert_same(graph: Graph, proto: Any) -> None:
    """A Graph says what a GraphProto says."""
    assert list(graph.initializers) == [tensor.name for tensor in proto.initializer]
    for tensor, expected in zip(graph.initializers.values(), proto.initializer, strict=True):
        assert_same_tensor(tensor, expected)
    for values, expected in ((graph.inputs, proto.input), (graph.outputs, proto.output)):
        assert list(values) == [value_info_of(value) for value in expected]
    assert list(graph.value_info.values()) == [value_info_of(value) for value in proto.value_info]
    assert len(graph.nodes) == len(proto.node)
    for node, expected in zip(graph.nodes, proto.node, strict=True):
        assert (node.name, node.op_type, node.inputs, node.outputs) == (
            expected.name,
            expected.op_type,
            tuple(expected.input),
            tuple(expected.output),
        )
        assert node.domain == ("" if expected.domain == "ai.onnx" else expected.domain)
        assert list(node.attributes) == [attribute.name for attribute in expected.attribute]
        for value, attribute in zip(node.attributes.values(), expected.attribute, strict=True):
            if not attribute.ref_attr_name:
                assert_same_attribute(value, onnx.helper.get_attribute_value(attribute))


def assert_same_attribute(value: object, expected: Any) -> None:
    if isinstance(value, tuple):
        assert len(value) == len(expected)
        for one, other in zip(value, expected, strict=True):
            assert_same_attribute(one, other)
    elif isinstance(value, Graph):
        assert_same(value, expected)
    elif isinstance(value, Tensor):
        assert_same_tensor(value, expected)
    elif isinstance(value, SparseTensor):
        assert_same_tensor(value.values, expected.values)
        assert_same_tensor(value.indices, expected.indices)
    elif isinstance(value, ValueInfo):
        assert value == type_of("", expected)
    else:
        np.testing.assert_equal(value, expected)


def assert_same_tensor(tensor: Tensor, proto: Any) -> None:
    assert (tensor.name, tensor.dims) == (proto.name, tuple(proto.dims))
    assert tensor.dtype.upper().replace("32", "32") == DTYPE_NAMES[proto.data_type].upper()
    if tensor.data is None:
        assert onnx.external_data_helper.uses_external_data(proto)
        return
    if tensor.dtype.startswith(("int4", "uint4", "int2", "uint2", "float4", "float6")):
        return
    expected = onnx.numpy_helper.to_array(proto)
    if tensor.dtype == "string":
        assert tensor.data.tolist() == list(map(as_bytes, expected.ravel())) or tensor.data.shape == expected.shape
    else:
        assert tensor.data.shape == expected.shape
        assert tensor.data.tobytes() == expected.tobytes()


def as_bytes(word: object) -> bytes:
    return word.encode() if isinstance(word, str) else bytes(word)  # type: ignore[call-overload]


DTYPE_NAMES = {
    number: {"FLOAT": "float32", "DOUBLE": "float64"}.get(
        name, name.replace("FLOAT8E", "FLOAT8_E").replace("FLOAT4E", "FLOAT4_E").replace("FLOAT6E", "FLOAT6_E")
    )
    for name, number in onnx.TensorProto.DataType.items()
}


def value_info_of(proto: Any) -> ValueInfo:
    return type_of(proto.name, proto.type)


def type_of(name: str, proto: Any) -> ValueInfo:
    kind = (proto.WhichOneof("value") or "undefined").removesuffix("_type")
    if kind != "tensor":
        return ValueInfo(name, kind if kind != "sparse_tensor" else "sparse_tensor", None)
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in proto.tensor_type.shape.dim]
    shape = tuple(dims) if proto.tensor_type.HasField("shape") else None
    return ValueInfo(name, DTYPE_NAMES[proto.tensor_type.elem_type].lower(), shape)


def models_in(folder: str) -> Iterator[Path]:
    yield from sorted((DATA / folder).glob("*/model.onnx"))
