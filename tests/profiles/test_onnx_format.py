"""What the ONNX reader refuses, with which message, and where it finds references to external values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.onnxfile.reader import load_onnx, read_onnx
from sefa_edge.profiles.onnxfile.wire import MAX_NAME_BYTES, OnnxFormatError
from sefa_edge.profiles.onnxfile.wiring import Wiring

onnx = pytest.importorskip("onnx")
h, t = onnx.helper, onnx.TensorProto


def proto() -> Any:
    """y = relu(x + w)."""
    nodes = [h.make_node("Add", ["x", "w"], ["sum"], "add"), h.make_node("Relu", ["sum"], ["y"], "relu")]
    values = [h.make_tensor_value_info(name, t.FLOAT, [2]) for name in "xy"]
    weight = onnx.numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    graph = h.make_graph(nodes, "g", values[:1], values[1:], [weight])
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)


def test_tensors_are_views_of_the_file() -> None:
    content = proto().SerializeToString()
    data = read_onnx(content).initializers["w"].data
    assert data is not None
    assert np.shares_memory(data, np.frombuffer(content, np.uint8))
    assert not data.flags.writeable


def change(text: str) -> Callable[[Any], None]:
    """A statement about `p`, a ModelProto."""

    def run(p: Any) -> None:
        exec(text, {"p": p, "h": h, "t": t, "np": np})

    return run


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("p.ClearField('graph')", "no graph"),
        ("p.ir_version = 0", "no version"),
        ("p.training_info.add()", "training graph"),
        ("p.opset_import[0].version = -1", "opset -1"),
        ("p.opset_import.add(domain='', version=18)", "two entries for opset of ''"),
        ("p.graph.node[0].op_type = ''", "node 'add' without an operator"),
        ("p.graph.node[0].input[1] = 'later'", "node 'add' reads 'later', which no earlier node computes"),
        ("p.graph.node.reverse()", "node 'relu' reads 'sum'"),
        ("p.graph.node[1].output[0] = 'sum'", "defines 'sum' twice"),
        ("p.graph.output[0].name = 'z'", "an output 'z' that no node computes"),
        ("p.graph.input.append(p.graph.input[0])", "two entries for input 'x'"),
        ("p.graph.initializer.append(p.graph.initializer[0])", "two entries for initializer 'w'"),
        ("p.graph.node[0].name = 'a\\x1b[31m'", "control characters"),
        ("p.graph.node[0].name = 'a' * 1025", "a name of 1025 bytes"),
        ("p.graph.initializer[0].dims[0] = 3", r"'w' .* has 2 float32, its shape \[3\] needs 3"),
        ("p.graph.initializer[0].dims[0] = -2", r"shape \[-2\]"),
        ("p.graph.initializer[0].dims[:] = [1] * 17", "shape"),
        ("p.graph.initializer[0].dims[:] = [2**40, 2**40]", "shape"),
        ("p.graph.initializer[0].data_type = 99", "unknown type, number 99"),
        ("p.graph.initializer[0].data_type = 0", "'w' of the ONNX file has no type"),
        ("p.graph.initializer[0].float_data[:] = [1, 2]", "has its values twice"),
        ("p.graph.initializer[0].external_data.add(key='location', value='x')", "is here and in another file"),
        ("p.graph.initializer[0].raw_data = b'1234567'", "ends inside a value"),
        ("p.graph.initializer[0].segment.begin = 1", "is segmented"),
        ("p.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1", "a dimension of -1"),
        ("p.graph.node[0].attribute.add(name='a', type=2, f=1.0)", "attribute 'a' of the ONNX file has no single type"),
        ("p.graph.node[0].attribute.add(name='a', f=1.0, i=2)", "attribute 'a'"),
        ("p.graph.node[0].attribute.extend([h.make_attribute('a', 1)] * 2)", "two entries for attribute 'a'"),
    ],
)
def test_contradictions_are_refused(statement: str, message: str) -> None:
    damaged = proto()
    change(statement)(damaged)
    with pytest.raises(OnnxFormatError, match=message):
        read_onnx(damaged.SerializeToString())


def test_a_second_graph_cannot_hide_behind_the_first() -> None:
    """Protobuf merges the two; a reader of only one of them would see another network than the one that runs."""
    twice = proto().SerializeToString() + proto().SerializeToString()
    assert len(onnx.load_from_string(twice).graph.node) == 4
    with pytest.raises(OnnxFormatError, match="a single field occurs twice"):
        read_onnx(twice)


def test_nesting_is_bounded() -> None:
    inner = proto().graph
    del inner.input[:]
    inner.node[0].input[0] = "w"
    for _ in range(30):
        node = h.make_node("Loop", [], ["y"], "loop", body=inner)
        inner = h.make_graph([node], "g", [], [h.make_tensor_value_info("y", t.FLOAT, None)])
    with pytest.raises(OnnxFormatError, match="nested too deeply"):
        read_onnx(h.make_model(inner).SerializeToString())


def test_names_may_be_as_long_as_the_limit() -> None:
    named = proto()
    named.graph.node[0].name = "n" * MAX_NAME_BYTES
    assert read_onnx(named.SerializeToString()).nodes[0].name == "n" * MAX_NAME_BYTES


def outside(name: str) -> Any:
    tensor = t(name=name, data_type=t.FLOAT, dims=[2], data_location=t.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    return tensor


def test_external_values_are_found_everywhere() -> None:
    p = proto()
    p.graph.initializer.append(outside("initializer"))
    p.graph.node[0].attribute.append(h.make_attribute("one", outside("attribute")))
    p.graph.node[0].attribute.append(h.make_attribute("many", [outside("in_list")]))
    inner = h.make_graph([], "g", [], [], [outside("in_subgraph")])
    p.graph.node[1].attribute.append(h.make_attribute("body", inner))
    constant = h.make_node("Constant", [], ["c"], value=outside("in_function"))
    p.functions.append(h.make_function("d", "f", [], ["c"], [constant], [h.make_opsetid("", 17)]))
    p.graph.sparse_initializer.add(values=outside("sparse"), indices=outside("indices"), dims=[9])
    found = read_onnx(p.SerializeToString()).external_tensors
    expected = ["initializer", "attribute", "in_list", "in_subgraph", "in_function", "sparse", "indices"]
    assert sorted(found) == sorted(expected)


def test_an_initializer_that_a_caller_may_replace_is_not_a_constant() -> None:
    p = proto()
    assert Wiring(read_onnx(p.SerializeToString())).constant("w") is not None
    p.graph.input.append(h.make_tensor_value_info("w", t.FLOAT, [2]))
    assert Wiring(read_onnx(p.SerializeToString())).constant("w") is None


def test_types_follow_from_operators() -> None:
    nodes = [
        h.make_node("Cast", ["x"], ["half"], to=t.FLOAT16),
        h.make_node("Shape", ["half"], ["shape"]),
        h.make_node("Less", ["half", "half"], ["less"]),
        h.make_node("Where", ["less", "half", "half"], ["where"]),
        h.make_node("Relu", ["where"], ["relu"]),
        h.make_node("QuantizeLinear", ["x", "scale"], ["quantised"]),
        h.make_node("DequantizeLinear", ["quantised", "scale"], ["back"]),
        h.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        h.make_node("CastLike", ["x", "shape"], ["like"]),
    ]
    values = [h.make_tensor_value_info("x", t.FLOAT, [1])]
    scale = onnx.numpy_helper.from_array(np.array(1, np.float32), "scale")
    graph = h.make_graph(
        nodes, "g", values, [], [scale], value_info=[h.make_tensor_value_info("quantised", t.INT8, [1])]
    )
    wiring = Wiring(read_onnx(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)]).SerializeToString()))
    found = [wiring.dtype(node.output) for node in wiring.graph.nodes]
    expected = ["float16", "int64", "bool", "float16", "float16", "uint8", "float32", "float32", "int64"]
    assert found == expected  # the output of a QuantizeLinear without zero point is uint8, whatever the file says


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "nowhere.onnx", "."])
def test_load_refuses_a_path_that_is_not_a_file(name: str) -> None:
    with pytest.raises(InputError):
        load_onnx(Path(name))


def test_load_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(proto().SerializeToString()[:-20])
    with pytest.raises(OnnxFormatError, match=r"model\.onnx: .*ends too early"):
        load_onnx(path)
    path.write_bytes(proto().SerializeToString())
    assert [node.label for node in load_onnx(path).nodes] == ["add", "relu"]
