"""The CPU's form of an INT8 graph: the same function within its rounding, on ONNX Runtime's integer kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, checker, helper, numpy_helper

from sefa_edge.export.int8.cpu_form import to_cpu_form
from sefa_edge.export.session import Kernels, open_session
from tests.learn.pair_sums import LARGEST_16_BITS, worst_pair_sums

SHIPPED = Path(__file__).parents[2] / "edge" / "shipped" / "lift" / "model.onnx"
INPUT_MAX, HIDDEN_MAX = 3.0, 6.0


def int8_graph() -> onnx.ModelProto:
    """In the form that TensorRT needs: Conv, ReLU, Conv, Gemm, all quantised, float biases, every zero point 0."""
    rng = np.random.default_rng(0)
    tensors = {"zero": np.array(0, np.int8), "shape": np.array([1, -1], np.int64)}
    nodes = []

    def quantised(name: str, largest: float) -> str:
        tensors[f"{name}.s"] = np.array(largest / 127, np.float32)
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}.s", "zero"], [f"{name}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.s", "zero"], [f"{name}.dq"]))
        return f"{name}.dq"

    def layer(operator: str, data: str, output: str, shape: tuple[int, ...]) -> None:
        weights = rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        scale = np.abs(weights.reshape(shape[0], -1)).max(1) / 127
        steps = np.rint(weights / scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.int8)
        tensors[f"{output}.w"], tensors[f"{output}.ws"] = steps, scale.astype(np.float32)
        tensors[f"{output}.wz"] = np.zeros(shape[0], np.int8)
        tensors[f"{output}.b"] = rng.standard_normal(shape[0]).astype(np.float32)
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


def run(model: onnx.ModelProto, x: np.ndarray, kernels: Kernels = "integer") -> np.ndarray:
    return np.asarray(open_session(model, kernels).run(None, {"x": x})[0])


def operators(model: onnx.ModelProto, folder: Path) -> list[str]:
    """The operators of the graph after ONNX Runtime's optimisation."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def test_the_cpu_form_is_the_same_function_within_its_rounding() -> None:
    model = int8_graph()
    form = to_cpu_form(model)
    checker.check_model(form, full_check=True)
    rng = np.random.default_rng(1)
    for _ in range(20):
        x = rng.uniform(-INPUT_MAX, INPUT_MAX, (1, 8, 8, 8)).astype(np.float32)
        # As written: otherwise ONNX Runtime chooses integer kernels for some layers, which are wrong without VNNI.
        np.testing.assert_allclose(run(form, x), run(model, x, "as_written"), atol=4 * HIDDEN_MAX / 127)
        np.testing.assert_allclose(run(form, x), run(form, x, "as_written"), atol=HIDDEN_MAX / 127)


def test_no_sum_of_two_products_can_leave_16_bits() -> None:
    sums = worst_pair_sums(to_cpu_form(int8_graph()))
    assert set(sums) == {"first", "second", "y"}
    assert 25_000 < max(sums.values()) <= LARGEST_16_BITS


def test_weights_within_the_limit_are_unchanged() -> None:
    model = rescaled(int8_graph(), 64)
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in m.graph.initializer}
        for m in (model, to_cpu_form(model))
    )
    for name in ("first.w", "first.ws", "second.w", "second.ws", "y.w", "y.ws"):
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize("operator", ["Conv", "Gemm", "MatMul"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_exact_on_this_processor(operator: str, sign: int) -> None:
    channels, size, step = 64, 6, np.float32(1 / 64)
    shape = {"Conv": (channels, channels, 3, 3)}.get(operator, (channels, channels))
    tensors = {
        "xs": np.float32(1 / 255), "xz": np.uint8(0), "ws": step, "wz": np.int8(0),
        "w": np.full(shape, sign * 127, np.int8), "ys": np.float32(16), "yz": np.uint8(128),
    }  # fmt: skip
    image = [1, channels, size, size] if operator == "Conv" else [4, channels]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node(operator, ["d", "wd"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "ys", "yz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "largest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    form = to_cpu_form(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    x = np.ones(image, np.float32)
    expected = sign * 127 * step * channels * (9 if operator == "Conv" else 1)
    np.testing.assert_allclose(run(form, x).flat[0], expected, atol=8)
    assert set(worst_pair_sums(form).values()) == {2 * 255 * 64}


def rescaled(model: onnx.ModelProto, largest: int) -> onnx.ModelProto:
    """The same graph with weights within plus and minus `largest`, which changes its values."""
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".w"):
            values = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(np.rint(values * largest / 127).astype(np.int8), tensor.name))
    return model


def test_the_source_and_float_graphs_are_unchanged() -> None:
    model = int8_graph()
    before = model.SerializeToString()
    to_cpu_form(model)
    assert model.SerializeToString() == before
    shipped = onnx.load(SHIPPED)
    assert to_cpu_form(shipped).graph.node == shipped.graph.node
    assert to_cpu_form(shipped).graph.initializer == shipped.graph.initializer


def test_activations_are_unsigned_biases_int32_and_weights_signed() -> None:
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
