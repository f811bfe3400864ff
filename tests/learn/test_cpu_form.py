"""The CPU's form of an INT8 graph: the same function within its rounding, on ONNX Runtime's integer kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

from sefa_edge.export.int8.cpu_form import to_cpu_form

SHIPPED = Path(__file__).parents[2] / "edge" / "shipped" / "lift" / "model.onnx"
INPUT_MAX, HIDDEN_MAX = 3.0, 6.0


def int8_graph() -> onnx.ModelProto:
    """As TensorRT wants it: Conv, ReLU, Conv, Gemm, all quantised, float biases, no zero point but 0."""
    random = np.random.default_rng(0)
    tensors = {"zero": np.array(0, np.int8), "shape": np.array([1, -1], np.int64)}
    nodes = []

    def quantised(name: str, largest: float) -> str:
        tensors[f"{name}.s"] = np.array(largest / 127, np.float32)
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}.s", "zero"], [f"{name}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.s", "zero"], [f"{name}.dq"]))
        return f"{name}.dq"

    def layer(operator: str, data: str, output: str, shape: tuple[int, ...]) -> None:
        weights = random.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        scale = np.abs(weights.reshape(shape[0], -1)).max(1) / 127
        steps = np.rint(weights / scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.int8)
        tensors[f"{output}.w"], tensors[f"{output}.ws"] = steps, scale.astype(np.float32)
        tensors[f"{output}.wz"] = np.zeros(shape[0], np.int8)
        tensors[f"{output}.b"] = random.standard_normal(shape[0]).astype(np.float32)
        inputs = [f"{output}.w", f"{output}.ws", f"{output}.wz"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{output}.wdq"], axis=0))
        node = helper.make_node(operator, [data, f"{output}.wdq", f"{output}.b"], [output])
        if operator == "Gemm":
            node.attribute.append(helper.make_attribute("transB", 1))
        nodes.append(node)

    layer("Conv", quantised("x", INPUT_MAX), "first", (16, 8, 3, 3))
    nodes.append(helper.make_node("Relu", ["first"], ["hidden"]))
    layer("Conv", quantised("hidden", HIDDEN_MAX), "second", (16, 16, 3, 3))
    nodes.append(helper.make_node("Reshape", [quantised("second", HIDDEN_MAX), "shape"], ["flat"]))
    layer("Gemm", quantised("flat", HIDDEN_MAX), "y", (8, 16 * 4 * 4))
    graph = helper.make_graph(
        nodes,
        "int8",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def operators(model: onnx.ModelProto, folder: Path) -> list[str]:
    """What ONNX Runtime makes of it."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def test_same_function_within_its_rounding() -> None:
    model = int8_graph()
    form = to_cpu_form(model)
    checker.check_model(form, full_check=True)
    random = np.random.default_rng(1)
    for _ in range(20):
        x = random.uniform(-INPUT_MAX, INPUT_MAX, (1, 8, 8, 8)).astype(np.float32)
        np.testing.assert_allclose(run(form, x), run(model, x), atol=4 * HIDDEN_MAX / 127)


def test_source_is_left_alone_and_float_graphs_come_back_as_they_were() -> None:
    model = int8_graph()
    before = model.SerializeToString()
    to_cpu_form(model)
    assert model.SerializeToString() == before
    shipped = onnx.load(SHIPPED)
    assert to_cpu_form(shipped).graph.node == shipped.graph.node
    assert to_cpu_form(shipped).graph.initializer == shipped.graph.initializer


def test_activations_unsigned_biases_integers_weights_signed() -> None:
    form = to_cpu_form(int8_graph())
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in form.graph.initializer}
    zeros = {node.input[0]: values[node.input[2]] for node in form.graph.node if node.op_type == "QuantizeLinear"}
    assert {name: (zero.dtype.name, int(zero)) for name, zero in zeros.items()} == {
        "x": ("uint8", 128),
        "hidden": ("uint8", 0),
        "second": ("uint8", 128),
        "flat": ("uint8", 128),
    }
    assert [values[f"{name}.bias.integer"].dtype for name in ("first", "second", "y")] == [np.int32] * 3
    assert [values[f"{name}.w"].dtype for name in ("first", "second", "y")] == [np.int8] * 3
    assert "first.b" not in values


def test_onnx_runtime_computes_in_integers(tmp_path: Path) -> None:
    assert operators(int8_graph(), tmp_path).count("QLinearConv") < 2  # the reason why this form exists
    found = operators(to_cpu_form(int8_graph()), tmp_path)
    assert found.count("QLinearConv") == 2
    assert found.count("QGemm") == 1
