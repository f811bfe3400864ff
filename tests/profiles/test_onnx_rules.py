"""One broken graph per rule, made with the onnx package: each is refused with the name of its node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.onnxfile.graph import OnnxGraph
from sefa_edge.profiles.onnxfile.reader import load_onnx, read_onnx
from sefa_edge.profiles.onnxfile.rules import broken_rules, require_rules
from sefa_edge.profiles.onnxfile.targets import (
    ALL_TARGETS,
    ONNX_RUNTIME,
    TENSORRT_8_6,
    TENSORRT_10_3,
    TENSORRT_10_16,
    TENSORRT_11,
    TENSORRT_RTX,
    Target,
)

onnx = pytest.importorskip("onnx")
h, t = onnx.helper, onnx.TensorProto
SHIPPED = Path(__file__).resolve().parents[2] / "edge/shipped/lift/model.onnx"
CHANNELS, FEATURES = 4, 6


@dataclass
class Draft:
    """A quantised layer y = x W; each test breaks it in one place."""

    constants: dict[str, np.ndarray]
    nodes: list[Any]
    inputs: list[Any] = field(default_factory=lambda: [h.make_tensor_value_info("x", t.FLOAT, [1, FEATURES])])
    output: tuple[int, list[int | str]] = (t.FLOAT, [1, CHANNELS])
    opset: int = 17
    extra: list[Any] = field(default_factory=list)

    def node(self, name: str) -> Any:
        return next(node for node in self.nodes if node.name == name)

    def proto(self) -> Any:
        tensors = [onnx.numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        outputs = [h.make_tensor_value_info("y", *self.output)]
        graph = h.make_graph(self.nodes, "layer", self.inputs, outputs, [*tensors, *self.extra])
        opsets = [h.make_opsetid("", self.opset), h.make_opsetid("com.microsoft", 1), h.make_opsetid("my.ops", 1)]
        return h.make_model(graph, opset_imports=opsets, ir_version=9)

    def graph(self) -> OnnxGraph:
        return read_onnx(self.proto().SerializeToString())


def draft() -> Draft:
    """No rule is broken: symmetric INT8, one activation scale, one weight scale per output channel, float bias."""
    rng = np.random.default_rng(0)
    constants = {
        "x_scale": np.array(0.1, np.float32),
        "x_zero": np.array(0, np.int8),
        "w": rng.integers(-127, 128, (CHANNELS, FEATURES)).astype(np.int8),
        "w_scale": np.full(CHANNELS, 0.01, np.float32),
        "w_zero": np.zeros(CHANNELS, np.int8),
        "bias": np.zeros(CHANNELS, np.float32),
    }
    nodes = [
        h.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], "quantise"),
        h.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], "dequantise"),
        h.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], "weight", axis=0),
        h.make_node("Gemm", ["xd", "wd", "bias"], ["y"], "gemm", transB=1),
    ]
    return Draft(constants, nodes)


def set_axis(d: Draft, axis: int) -> None:
    d.node("weight").attribute[0].i = axis


def uint8_zero_point(d: Draft) -> None:
    d.constants["x_zero"] = np.array(0, np.uint8)


def missing_zero_point(d: Draft) -> None:
    del d.node("quantise").input[2:]
    del d.node("dequantise").input[2:]


def shifted_zero_point(d: Draft) -> None:
    d.constants["w_zero"] = np.array([0, 0, 3, 0], np.int8)


def computed_zero_point(d: Draft) -> None:
    d.nodes.insert(0, h.make_node("Sub", ["x_zero", "x_zero"], ["computed"], "sub"))
    d.node("quantise").input[2] = "computed"


def replaceable_zero_point(d: Draft) -> None:
    d.inputs.append(h.make_tensor_value_info("x_zero", t.INT8, []))


def computed_scale(d: Draft) -> None:
    d.nodes.insert(0, h.make_node("ReduceMax", ["x"], ["largest"], "reduce", keepdims=0))
    d.node("quantise").input[1] = "largest"


def int32_bias(d: Draft) -> None:
    d.constants |= {"bias": np.zeros(CHANNELS, np.int32), "bias_scale": np.full(CHANNELS, 1e-3, np.float32)}
    d.nodes.insert(3, h.make_node("DequantizeLinear", ["bias", "bias_scale"], ["bias_d"], "bias_dequantise", axis=0))
    d.node("gemm").input[2] = "bias_d"


def int16_activation(d: Draft) -> None:
    d.constants["x_zero"] = np.array(0, np.int16)
    d.opset = 21


def per_channel_activation(d: Draft) -> None:
    d.constants |= {"x_scale": np.full(FEATURES, 0.1, np.float32), "x_zero": np.zeros(FEATURES, np.int8)}


def wrong_gemm_axis(d: Draft) -> None:
    set_axis(d, 1)
    d.constants |= {"w_scale": np.full(FEATURES, 0.01, np.float32), "w_zero": np.zeros(FEATURES, np.int8)}


def scales_of_other_length(d: Draft) -> None:
    set_axis(d, 1)


def wrong_gemm_axis_behind_quantiser(d: Draft) -> None:
    wrong_gemm_axis(d)
    d.constants["w"] = d.constants["w"].astype(np.float32)
    d.nodes.insert(2, h.make_node("QuantizeLinear", ["w", "w_scale", "w_zero"], ["wq"], "weight_q", axis=0))
    d.node("weight").input[0] = "wq"
    d.node("weight_q").attribute[0].i = 1


def wrong_matmul_axis(d: Draft) -> None:
    d.nodes[3:] = [
        h.make_node("Transpose", ["wd"], ["wt"], "transpose", perm=[1, 0]),
        h.make_node("MatMul", ["xd", "wt"], ["y"], "matmul"),
    ]
    wrong_gemm_axis(d)


def convolution(d: Draft, op_type: str, axis: int) -> None:
    d.constants |= {"w": np.ones((CHANNELS, CHANNELS, 1, 1), np.int8)}
    d.inputs[0] = h.make_tensor_value_info("x", t.FLOAT, [1, CHANNELS, 5, 5])
    d.output = (t.FLOAT, [1, CHANNELS, 5, 5])
    d.nodes[3:] = [h.make_node(op_type, ["xd", "wd", "bias"], ["y"], "conv")]
    set_axis(d, axis)


def per_channel_elsewhere(d: Draft) -> None:
    d.nodes += [h.make_node("ReduceMax", ["wd"], ["unused"], "reduce")]


def scale(value: float) -> Callable[[Draft], None]:
    def change(d: Draft) -> None:
        d.constants["w_scale"] = np.array([0.01, value, 0.01, 0.01], np.float32)

    return change


def half_scale(d: Draft) -> None:
    d.constants["x_scale"] = d.constants["x_scale"].astype(np.float16)
    d.output = (t.FLOAT16, [1, CHANNELS])


def float8(d: Draft) -> None:
    d.extra.append(h.make_tensor("x_zero", t.FLOAT8E4M3FN, [], b"\0", raw=True))
    del d.constants["x_zero"]
    d.opset = 19


def float8_cast(d: Draft) -> None:
    d.nodes[0:0] = [h.make_node("Cast", ["x"], ["x8"], "narrow", to=t.FLOAT8E5M2)]
    d.opset = 19


def weight_with(value: float, dtype: type[np.floating[Any]] = np.float32) -> Callable[[Draft], None]:
    def change(d: Draft) -> None:
        d.constants["bias"] = np.array([0, value, 0, 0], dtype)

    return change


def constant_node_with_nan(d: Draft) -> None:
    value = onnx.numpy_helper.from_array(np.array([1, np.nan], np.float32))
    d.nodes[0:0] = [
        h.make_node("Constant", [], ["c"], "constant", value=value),
        h.make_node("Relu", ["c"], ["r"], "user"),
    ]


def operator(op_type: str, **options: Any) -> Callable[[Draft], None]:
    def change(d: Draft) -> None:
        d.node("gemm").output[0] = "before"
        d.nodes.append(h.make_node(op_type, ["before"], ["y"], "odd", **options))

    return change


def random_normal(d: Draft) -> None:
    d.nodes.append(h.make_node("RandomNormal", [], ["noise"], "draw", shape=[2]))


def control_flow(d: Draft) -> None:
    inner = h.make_graph(
        [h.make_node("Relu", ["x"], ["z"], "inner")], "g", [], [h.make_tensor_value_info("z", t.FLOAT, None)]
    )
    d.constants["yes"] = np.array(True)
    d.nodes.append(h.make_node("If", ["yes"], ["decided"], "decide", then_branch=inner, else_branch=inner))


def uncast_image(d: Draft) -> None:
    d.inputs.append(h.make_tensor_value_info("image", t.UINT8, [2, 3]))
    d.nodes += [
        h.make_node("Transpose", ["image"], ["turned"], "turn"),
        h.make_node("Cast", ["turned"], ["cast"], "late", to=t.FLOAT),
    ]


def dynamic_input(d: Draft) -> None:
    d.inputs[0] = h.make_tensor_value_info("x", t.FLOAT, ["batch", FEATURES])


def dynamic_output(d: Draft) -> None:
    d.output = (t.FLOAT, ["batch", CHANNELS])


def input_of(kind: int) -> Callable[[Draft], None]:
    def change(d: Draft) -> None:
        d.inputs.append(h.make_tensor_value_info("extra", kind, [1]))

    return change


def external(d: Draft) -> None:
    d.constants.pop("bias")
    tensor = t(name="bias", data_type=t.FLOAT, dims=[CHANNELS], data_location=t.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    d.extra.append(tensor)


def integer_operator(d: Draft) -> None:
    d.nodes.append(h.make_node("MatMulInteger", ["xq", "xq"], ["i"], "integers"))


def blocks(d: Draft) -> None:
    d.constants["w_scale"] = np.full((CHANNELS, 2), 0.01, np.float32)
    d.constants["w_zero"] = np.zeros((CHANNELS, 2), np.int8)
    d.node("weight").attribute.append(h.make_attribute("block_size", 3))
    d.opset = 21


def opset(number: int) -> Callable[[Draft], None]:
    def change(d: Draft) -> None:
        d.opset = number

    return change


@dataclass(frozen=True)
class Case:
    """A change to the clean draft, the rule that it breaks, and the node where that is found."""

    change: Callable[[Draft], None]
    rule: str
    node: str
    target: Target = TENSORRT_10_3
    also: frozenset[str] = frozenset()
    """Other rules that the same change breaks."""


CASES = {
    "uint8 zero point": Case(uint8_zero_point, "uint8-zero-point", "quantise"),
    "no zero point is uint8": Case(missing_zero_point, "uint8-zero-point", "quantise"),
    "zero point 3": Case(shifted_zero_point, "zero-point-not-zero", "weight"),
    "computed zero point": Case(computed_zero_point, "zero-point-unreadable", "quantise", also=frozenset({"type"})),
    "zero point is an input": Case(replaceable_zero_point, "zero-point-unreadable", "dequantise"),
    "computed scale": Case(computed_scale, "scale-unreadable", "quantise"),
    "int32 bias": Case(int32_bias, "int32-bias", "bias_dequantise"),
    "int16 activation": Case(int16_activation, "quantised-type", "quantise", TENSORRT_10_16),
    "blocks": Case(blocks, "quantised-type", "weight", TENSORRT_10_16),
    "activation per channel": Case(per_channel_activation, "activation-per-channel", "quantise"),
    "Gemm axis": Case(wrong_gemm_axis, "weight-axis", "weight"),
    "Gemm axis of a quantiser": Case(wrong_gemm_axis_behind_quantiser, "weight-axis", "weight_q"),
    "scales of other length": Case(scales_of_other_length, "weight-axis", "weight"),
    "MatMul axis": Case(wrong_matmul_axis, "weight-axis", "weight"),
    "Conv axis": Case(lambda d: convolution(d, "Conv", 1), "weight-axis", "weight"),
    "ConvTranspose axis": Case(lambda d: convolution(d, "ConvTranspose", 0), "weight-axis", "weight"),
    "per channel, no weight": Case(per_channel_elsewhere, "weight-axis", "weight"),
    "scale 0": Case(scale(0.0), "scale-value", "weight"),
    "scale negative": Case(scale(-0.01), "scale-value", "weight"),
    "scale NaN": Case(scale(float("nan")), "scale-value", "weight"),
    "scale infinite": Case(scale(float("inf")), "scale-value", "weight"),
    "scale absurd": Case(scale(1e30), "scale-value", "weight", ONNX_RUNTIME),
    "half scale": Case(half_scale, "half-scale", "quantise"),
    "half scale, ONNX Runtime": Case(half_scale, "half-scale", "dequantise", ONNX_RUNTIME),
    "FP8": Case(float8, "fp8", "quantise"),
    "FP8 cast": Case(float8_cast, "fp8", "narrow"),
    "NaN weight": Case(weight_with(float("nan")), "not-finite", "gemm"),
    "infinite half weight": Case(weight_with(float("inf"), np.float16), "not-finite", "gemm", ONNX_RUNTIME),
    "NaN in a Constant": Case(constant_node_with_nan, "not-finite", "user"),
    "opset too new for 8.6": Case(opset(18), "opset", "model", TENSORRT_8_6),
    "opset too new for 10.3": Case(opset(21), "opset", "model", TENSORRT_10_3),
    "opset too new for 10.16": Case(opset(25), "opset", "model", TENSORRT_10_16),
    "opset too new for ONNX Runtime": Case(opset(24), "opset", "model", ONNX_RUNTIME),
    "opset too old": Case(opset(12), "opset", "model", TENSORRT_8_6),
    "random": Case(random_normal, "random", "draw"),
    "control flow": Case(control_flow, "control-flow", "decide"),
    "control flow in ONNX Runtime": Case(control_flow, "control-flow", "decide", ONNX_RUNTIME),
    "image not cast": Case(uncast_image, "uint8-input", "turn"),
    "dynamic input": Case(dynamic_input, "dynamic-shape", "x"),
    "dynamic output": Case(dynamic_output, "dynamic-shape", "y"),
    "int64 input": Case(input_of(t.INT64), "input-type", "extra"),
    "double input": Case(input_of(t.DOUBLE), "input-type", "extra"),
    "external data": Case(external, "external-data", "bias", ONNX_RUNTIME),
    "ONNX Runtime's domain": Case(operator("FastGelu", domain="com.microsoft"), "domain", "odd"),
    "unknown domain": Case(operator("Any", domain="my.ops"), "domain", "odd", ONNX_RUNTIME),
    "Mish on 8.6": Case(operator("Mish"), "operator", "odd", TENSORRT_8_6),
    "Gelu on 8.6": Case(operator("Gelu"), "operator", "odd", TENSORRT_8_6),
    "integer operator": Case(integer_operator, "integer-operator", "integers"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_broken_rule_names_the_node(case: Case) -> None:
    broken = draft()
    case.change(broken)
    found = broken_rules(broken.graph(), case.target)
    assert (case.rule, case.node) in {(rule.rule, rule.node) for rule in found}
    assert {rule.rule for rule in found} == {case.rule, *case.also}
    assert all(rule.explanation and rule.hint for rule in found)
    with pytest.raises(InputError, match=f"'{found[0].node}'") as refusal:
        require_rules(broken.graph(), case.target)
    assert refusal.value.hint


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda target: target.name)
def test_clean_models_pass(target: Target) -> None:
    assert broken_rules(draft().graph(), target) == []
    assert broken_rules(load_onnx(SHIPPED), target) == []
    require_rules(draft().graph(), target)


@pytest.mark.parametrize("target", [TENSORRT_10_3, TENSORRT_10_16, TENSORRT_11, TENSORRT_RTX], ids=lambda t: t.name)
def test_clean_half_model_passes(target: Target) -> None:
    typed = draft()
    typed.opset = 19
    for name in ("x_scale", "w_scale", "bias"):
        typed.constants[name] = typed.constants[name].astype(np.float16)
    typed.inputs[0] = h.make_tensor_value_info("x", t.FLOAT16, [1, FEATURES])
    typed.output = (t.FLOAT16, [1, CHANNELS])
    onnx.checker.check_model(typed.proto(), full_check=True)
    assert broken_rules(typed.graph(), target) == []


@pytest.mark.parametrize(("op_type", "axis"), [("Conv", 0), ("ConvTranspose", 1), ("Conv", -4)])
def test_correct_axes_pass(op_type: str, axis: int) -> None:
    right = draft()
    convolution(right, op_type, axis)
    assert broken_rules(right.graph(), TENSORRT_10_3) == []


def test_weight_in_floating_point_behind_its_quantiser_passes() -> None:
    right = draft()
    right.constants["w"] = right.constants["w"].astype(np.float32)
    right.nodes.insert(2, h.make_node("QuantizeLinear", ["w", "w_scale", "w_zero"], ["wq"], "weight_q", axis=0))
    right.node("weight").input[0] = "wq"
    onnx.checker.check_model(right.proto(), full_check=True)
    assert broken_rules(right.graph(), TENSORRT_8_6) == []


def test_onnx_runtime_accepts_what_tensorrt_computes_wrongly() -> None:
    for change in (uint8_zero_point, shifted_zero_point, int32_bias, per_channel_activation, wrong_gemm_axis):
        changed = draft()
        change(changed)
        assert broken_rules(changed.graph(), ONNX_RUNTIME) == []


def test_fp8_depends_on_the_target() -> None:
    changed = draft()
    float8(changed)
    assert broken_rules(changed.graph(), TENSORRT_RTX) == []
    assert broken_rules(changed.graph(), replace(TENSORRT_10_16, allows_fp8=True)) == []
    assert {rule.rule for rule in broken_rules(changed.graph(), TENSORRT_10_16)} == {"fp8"}


def test_operators_that_the_file_defines_are_refused() -> None:
    proto = draft().proto()
    relu = h.make_node("Relu", ["a"], ["b"])
    proto.functions.append(h.make_function("", "Gemm", ["a"], ["b"], [relu], [h.make_opsetid("", 17)]))
    (broken,) = broken_rules(read_onnx(proto.SerializeToString()), ONNX_RUNTIME)
    assert (broken.rule, broken.node) == ("function", "::Gemm")


def test_sparse_tensors_are_accepted_only_for_onnx_runtime() -> None:
    proto = draft().proto()
    values, indices = h.make_tensor("sparse", t.FLOAT, [1], [1.0]), h.make_tensor("", t.INT64, [1], [2])
    proto.graph.sparse_initializer.append(h.make_sparse_tensor(values, indices, [CHANNELS]))
    (broken,) = broken_rules(read_onnx(proto.SerializeToString()), TENSORRT_10_3)
    assert (broken.rule, broken.node) == ("sparse", "sparse")
    assert broken_rules(read_onnx(proto.SerializeToString()), ONNX_RUNTIME) == []


def test_the_message_counts_further_broken_rules() -> None:
    broken = draft()
    uint8_zero_point(broken)
    with pytest.raises(InputError, match=r"cannot run 'quantise': .* \(and 1 more\)"):
        require_rules(broken.graph(), TENSORRT_11)
