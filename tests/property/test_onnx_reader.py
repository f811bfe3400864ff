"""The ONNX reader against the onnx package: both read the same from every file; damaged files are read or refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.profiles.onnxfile.graph import DTYPES, VALUES_PER_BYTE, Graph, SparseTensor, Tensor, ValueInfo
from sefa_edge.profiles.onnxfile.reader import read_onnx
from sefa_edge.profiles.onnxfile.rules import broken_rules
from sefa_edge.profiles.onnxfile.targets import ONNX_RUNTIME, TENSORRT_8_6
from sefa_edge.profiles.onnxfile.wire import OnnxFormatError

onnx = pytest.importorskip("onnx")
MODELS = sorted((Path(onnx.__file__).parent / "backend/test/data").glob("*/*/model.onnx"))
"""About a hundred small models that the onnx package contains."""
NUMPY_TYPES = ["float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "bool", "float16", "float64", "uint64"]
RAW_TYPES = ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "UINT4"]


# ---- comparison with the onnx package


def assert_same_graph(graph: Graph, proto: Any) -> None:
    assert list(graph.inputs) == [value_info_of(value) for value in proto.input]
    assert list(graph.outputs) == [value_info_of(value) for value in proto.output]
    assert list(graph.value_info.values()) == [value_info_of(value) for value in proto.value_info]
    for tensor, expected in zip(graph.initializers.values(), proto.initializer, strict=True):
        assert_same_tensor(tensor, expected)
    for node, expected in zip(graph.nodes, proto.node, strict=True):
        actual = (node.name, node.op_type, node.domain, list(node.inputs), list(node.outputs), list(node.attributes))
        domain = "" if expected.domain == "ai.onnx" else expected.domain
        names = [attribute.name for attribute in expected.attribute]
        assert actual == (expected.name, expected.op_type, domain, list(expected.input), list(expected.output), names)
        for value, attribute in zip(node.attributes.values(), expected.attribute, strict=True):
            if not attribute.ref_attr_name:
                assert_same_value(value, onnx.helper.get_attribute_value(attribute))


def assert_same_value(value: object, expected: Any) -> None:
    if isinstance(value, tuple):
        assert len(value) == len(expected)
        for one, other in zip(value, expected, strict=True):
            assert_same_value(one, other)
    elif isinstance(value, Graph):
        assert_same_graph(value, expected)
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
    assert (tensor.name, tensor.dtype, tensor.dims) == (proto.name, DTYPES[proto.data_type], tuple(proto.dims))
    assert tensor.data is not None
    if tensor.dtype in VALUES_PER_BYTE:
        packed = proto.raw_data or np.array(proto.int32_data).astype(np.uint8).tobytes()
        assert tensor.data.tobytes() == packed
        return
    expected = onnx.numpy_helper.to_array(proto)
    assert tensor.data.shape == expected.shape
    if tensor.dtype == "string":
        assert [bytes(text) for text in tensor.data.ravel()] == list(proto.string_data)
    else:
        assert tensor.data.tobytes() == expected.tobytes()


def value_info_of(proto: Any) -> ValueInfo:
    return type_of(proto.name, proto.type)


def type_of(name: str, proto: Any) -> ValueInfo:
    kind = (proto.WhichOneof("value") or "undefined").removesuffix("_type")
    if kind != "tensor":
        return ValueInfo(name, kind, None)
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in proto.tensor_type.shape.dim]
    shape = tuple(dims) if proto.tensor_type.HasField("shape") else None
    return ValueInfo(name, DTYPES[proto.tensor_type.elem_type], shape)


def assert_same_model(content: bytes) -> None:
    model, proto = read_onnx(content), onnx.load_from_string(content)
    assert (model.ir_version, model.opset) == (
        proto.ir_version,
        max((o.version for o in proto.opset_import if not o.domain), default=0),
    )
    assert len(model.functions) == len(proto.functions)
    assert_same_graph(model, proto.graph)


# ---- random files

names = st.text("abcXYZ_/.:0 é", min_size=1, max_size=12)
numbers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(width=32)


@st.composite
def tensors(draw: st.DrawFn, name: str = "t") -> Any:
    dims = draw(st.lists(st.integers(0, 4), max_size=3))
    count = int(np.prod(dims, dtype=np.int64)) if dims else 1
    if draw(st.booleans()):
        dtype = np.dtype(draw(st.sampled_from(NUMPY_TYPES)))
        limit = 2 if dtype.kind == "b" else 256
        raw = draw(
            st.lists(st.integers(0, limit - 1), min_size=count * dtype.itemsize, max_size=count * dtype.itemsize)
        )
        array = np.frombuffer(bytes(raw), dtype).reshape(dims)
        if draw(st.booleans()):
            return onnx.numpy_helper.from_array(array, name)
        kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return onnx.helper.make_tensor(name, kind, dims, array.ravel())
    if draw(st.booleans()):
        strings = draw(st.lists(st.text("aé", max_size=5).map(str.encode), min_size=count, max_size=count))
        return onnx.helper.make_tensor(name, onnx.TensorProto.STRING, dims, strings)
    kind = onnx.TensorProto.DataType.Value(draw(st.sampled_from(RAW_TYPES)))
    each = {"INT4": 0.5, "UINT4": 0.5, "BFLOAT16": 2}.get(onnx.TensorProto.DataType.Name(kind), 1)
    size = int(np.ceil(count * each))
    return onnx.helper.make_tensor(name, kind, dims, draw(st.binary(min_size=size, max_size=size)), raw=True)


@st.composite
def graphs(draw: st.DrawFn, depth: int = 2) -> Any:
    """Sorted graphs with every kind of attribute; the operators are meaningless, which does not matter to a reader."""
    known = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    values = [onnx.helper.make_tensor_value_info(name, draw(st.integers(1, 28)), draw(shapes)) for name in known]
    initializers = [draw(tensors(f"weight{at}")) for at in range(draw(st.integers(0, 2)))]
    known += [tensor.name for tensor in initializers]
    nodes = []
    for at in range(draw(st.integers(0, 4))):
        inputs = draw(st.lists(st.sampled_from(["", *known]), max_size=3))
        made = [f"made{depth}_{at}_{index}" for index in range(draw(st.integers(0, 2)))]
        attributes = draw(st.dictionaries(names, attribute_values(depth), max_size=3))
        node = onnx.helper.make_node(
            draw(names), inputs, made, draw(names), domain=draw(st.sampled_from(["", "ai.onnx", "x"]))
        )
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
        nodes.append(node)
        known += made
    outputs = [onnx.helper.make_tensor_value_info(draw(st.sampled_from(known)), 1, draw(shapes))]
    return onnx.helper.make_graph(nodes, draw(names), values, outputs, initializers)


shapes = st.one_of(st.none(), st.lists(st.one_of(st.integers(0, 99), st.none(), st.just("batch")), max_size=4))


def attribute_values(depth: int) -> st.SearchStrategy[Any]:
    flat = st.one_of(
        numbers,
        floats,
        st.binary(max_size=8),
        tensors(),
        st.lists(numbers, min_size=1, max_size=4),
        st.lists(floats, min_size=1, max_size=4),
        st.lists(st.binary(max_size=4), min_size=1, max_size=3),
        st.lists(tensors(), min_size=1, max_size=2),
    )
    return st.one_of(flat, graphs(depth - 1)) if depth > 0 else flat


def model_of(graph: Any, opset: int = 17) -> bytes:
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("x", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_a_model_reads_as_in_onnx(path: Path) -> None:
    assert_same_model(path.read_bytes())


def test_every_type_number_of_onnx_is_known() -> None:
    known = {number: name.replace("_", "").upper() for number, name in DTYPES.items()}
    expected = {number: name for name, number in onnx.TensorProto.DataType.items()}
    expected |= {onnx.TensorProto.FLOAT: "FLOAT32", onnx.TensorProto.DOUBLE: "FLOAT64"}
    assert {number: known.get(number) for number in expected} == expected


@given(graphs())
def test_a_random_graph_reads_as_in_onnx(graph: Any) -> None:
    assert_same_model(model_of(graph))


# ---- damage


def quantised_model() -> bytes:
    """A small model with most of what the rules check."""
    h, t = onnx.helper, onnx.TensorProto
    constant = onnx.numpy_helper.from_array
    inner = h.make_graph(
        [h.make_node("Identity", ["y"], ["z"])], "inner", [], [h.make_tensor_value_info("z", t.FLOAT, None)]
    )
    nodes = [
        h.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"], "q"),
        h.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"], "dq"),
        h.make_node("DequantizeLinear", ["weight", "scales"], ["wd"], "dqw", axis=0),
        h.make_node("Transpose", ["wd"], ["wt"], "t", perm=[1, 0]),
        h.make_node("MatMul", ["xd", "wt"], ["y"], "m"),
        h.make_node("Constant", [], ["yes"], "c", value=constant(np.array(True))),
        h.make_node("If", ["yes"], ["out"], "i", then_branch=inner, else_branch=inner),
        h.make_node("Cast", ["out"], ["half"], "h", to=t.FLOAT16),
    ]
    graph = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info("x", t.FLOAT, [1, 3])],
        [h.make_tensor_value_info("half", t.FLOAT16, [1, 2])],
        [
            constant(np.array(0.5, np.float32), "scale"),
            constant(np.array(0, np.int8), "zero"),
            h.make_tensor("weight", t.INT8, [2, 3], [1, -2, 3, -4, 5, -6]),
            constant(np.array([0.1, 0.2], np.float32), "scales"),
        ],
        value_info=[h.make_tensor_value_info("y", t.FLOAT, ["n", 2])],
    )
    return model_of(graph)


def read_and_check(content: bytes) -> None:
    """Read a file and check every rule on it, unless it is refused. Raises AssertionError on unprintable text."""
    model, refusal = None, ""
    try:
        model = read_onnx(content)
    except OnnxFormatError as error:
        refusal = str(error)
    assert refusal.isprintable()
    if model is None:
        return
    for target in (TENSORRT_8_6, ONNX_RUNTIME):
        for broken in broken_rules(model, target):
            assert all(text.isprintable() for text in (broken.node, broken.explanation, broken.hint))


@given(st.data())
def test_flipped_bits_are_refused_or_read(data: st.DataObject) -> None:
    content = bytearray(quantised_model())
    for at in data.draw(st.lists(st.integers(0, len(content) * 8 - 1), min_size=1, max_size=3)):
        content[at // 8] ^= 1 << (at % 8)
    read_and_check(bytes(content))


@given(st.data())
def test_replaced_bytes_are_refused_or_read(data: st.DataObject) -> None:
    content = quantised_model()
    at, length = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 40))
    read_and_check(content[:at] + data.draw(st.binary(max_size=40)) + content[at + length :])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(content: bytes) -> None:
    read_and_check(content)
    read_and_check(b"\x08\x09\x3a" + bytes([len(content) & 0x7F]) + content)


def test_every_truncation_and_a_flipped_bit_in_every_byte() -> None:
    content = quantised_model()
    for length in range(len(content)):
        read_and_check(content[:length])
    for at in range(0, len(content) * 8, 3):  # coprime to 8: every byte, and every bit of a byte in turn
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << (at % 8)
        read_and_check(bytes(damaged))


def message(number: int, content: bytes) -> bytes:
    """Protobuf encoding of one field of bytes."""
    length, size = len(content), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


@pytest.mark.parametrize(
    "graph",
    [
        b"\x0a\x00" * 250_000,  # nodes with nothing in them
        message(1, b"\x0a\x00" * 250_000),  # a node with very many inputs
        message(1, message(5, message(8, b"\x01" * 2_000_000))),  # an attribute of very many integers
        message(5, b"\x10\x07" + message(7, b"\x01" * (64 << 20) + b"\x01")),  # more packed integers than allowed
    ],
    ids=["nodes", "inputs", "integers", "packed"],
)
@pytest.mark.once
def test_memory_stays_bounded(graph: bytes) -> None:
    content = b"\x08\x09" + message(7, graph)
    tracemalloc.start()
    with pytest.raises(OnnxFormatError):
        read_onnx(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20
