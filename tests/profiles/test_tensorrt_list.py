"""The list of what TensorRT accepts: consistent in itself and with ONNX; anything else is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sefa_edge.cli import main
from sefa_edge.profiles.onnxfile.allow_list import DTYPES_ANYWHERE, AttributeRule, allow_list
from sefa_edge.profiles.onnxfile.graph import DTYPES
from sefa_edge.profiles.onnxfile.reader import load_onnx, read_onnx
from sefa_edge.profiles.onnxfile.rules import broken_rules
from sefa_edge.profiles.onnxfile.targets import (
    ALL_TARGETS,
    TENSORRT_8_6,
    TENSORRT_10_3,
    TENSORRT_10_16,
    TENSORRT_11,
    BrokenRule,
    Target,
)

onnx = pytest.importorskip("onnx")
h, t = onnx.helper, onnx.TensorProto
ROOT = Path(__file__).resolve().parents[2]
NO_IMPORTER = ROOT.parent / "shared/cases/12_onnx_no_importer"
ALL_TENSORRT = [target for target in ALL_TARGETS if target.is_tensorrt]
FLOATS = {"x": [1, 3, 8, 8]}


def model_of(
    node: Any, inputs: dict[str, list[int]] | None = None, dtype: int = t.FLOAT, opset: int = 17, **constants: Any
) -> bytes:
    """A file with one node `odd` and inputs of one type."""
    values = [h.make_tensor_value_info(name, dtype, shape) for name, shape in (inputs or FLOATS).items()]
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    outputs = [h.make_tensor_value_info(name, t.FLOAT, [1]) for name in node.output if name]
    graph = h.make_graph([node], "one", values, outputs, tensors)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=9).SerializeToString()


def verdict(content: bytes, target: Target = TENSORRT_10_3) -> list[BrokenRule]:
    return broken_rules(read_onnx(content), target)


def odd(op_type: str, inputs: Any = None, outputs: Any = None, **attributes: Any) -> Any:
    return h.make_node(op_type, inputs or ["x"], outputs or ["y"], "odd", **attributes)


KERNEL: dict[str, Any] = {"kernel_shape": [2, 2]}
REFUSED_ATTRIBUTES = {
    "dilated pooling": (odd("MaxPool", dilations=[2, 2], **KERNEL), {}, 17, "dilations of only 1"),
    "storage order": (odd("MaxPool", storage_order=1, **KERNEL), {}, 17, "storage_order 0, not 1"),
    "indices of a pooling": (odd("MaxPool", outputs=["y", "i"], **KERNEL), {}, 17, "its first 1 outputs"),
    "pooling in four dimensions": (odd("AveragePool", kernel_shape=[1, 1, 1, 1]), {}, 17, "for 2 or 3 axes, not for 4"),
    "an unknown padding": (odd("MaxPool", auto_pad="SAME", **KERNEL), {}, 17, "NOTSET or SAME_UPPER"),
    "L3 pooling": (odd("LpPool", p=3, **KERNEL), {}, 17, "with p 1 or 2, not 3"),
    "cubic": (odd("Resize", ["x", "", "s"], mode="cubic"), {"s": np.ones(4, np.float32)}, 17, "nearest or linear"),
    "crop and resize": (
        odd("Resize", ["x", "", "s"], coordinate_transformation_mode="tf_crop_and_resize"),
        {"s": np.ones(4, np.float32)},
        17,
        "not tf_crop_and_resize",
    ),
    "symmetric half pixels": (
        odd("Resize", ["x", "", "s"], coordinate_transformation_mode="half_pixel_symmetric"),
        {"s": np.ones(4, np.float32)},
        19,
        "not half_pixel_symmetric",
    ),
    "antialias": (odd("Resize", ["x", "", "s"], antialias=1), {"s": np.ones(4, np.float32)}, 18, "antialias 0"),
    "aspect ratio": (
        odd("Resize", ["x", "", "", "s"], keep_aspect_ratio_policy="not_larger"),
        {"s": np.array([1, 3, 4, 4])},
        18,
        "stretch, not not_larger",
    ),
    "axes of a resize": (
        odd("Resize", ["x", "", "s"], axes=[2, 3]),
        {"s": np.ones(2, np.float32)},
        18,
        "of all axes in order",
    ),
    "unsorted": (odd("TopK", ["x", "k"], ["y", "i"], sorted=0), {"k": np.array([1])}, 17, "sorted 1, not 0"),
    "scattered addition": (
        odd("ScatterND", ["x", "i", "u"], reduction="add"),
        {"i": np.zeros((1, 4), np.int64), "u": np.zeros(1, np.float32)},
        18,
        "reduction none, not add",
    ),
    "wrapping": (odd("Pad", ["x", "p"], mode="wrap"), {"p": np.zeros(8, np.int64)}, 19, "constant or reflect or edge"),
    "training": (
        odd("BatchNormalization", ["x", "a", "a", "a", "b"], training_mode=1),
        {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)},
        17,
        "training_mode 0, not 1",
    ),
    "coupled gates": (
        odd("LSTM", ["x", "w", "w"], input_forget=1, hidden_size=4),
        {"w": np.ones((1, 16, 4), np.float32)},
        17,
        "input_forget 0, not 1",
    ),
    "an unknown attribute": (
        odd("Relu", slope=1.0),
        {},
        17,
        "attribute slope of Relu is not on the list",
    ),
    "a text": (odd("Constant", ["x"], value_string="a"), {}, 17, "value_string of Constant is not on the list"),
    "many of the largest": (odd("TopK", ["x", "k"], ["y", "i"]), {"k": np.array([5000])}, 17, "fewer than 3840"),
    "a large window": (odd("LRN", size=17), {}, 17, "with size 1 or 3"),
    "an even window": (odd("LRN", size=2), {}, 17, "with size 1 or 3"),
    "a bias of zero": (odd("LRN", size=3, bias=0.0), {}, 17, "bias 1e-05 to 1e+10, not 0.0"),
    "an integer between": (
        odd("LayerNormalization", ["x", "a"], stash_type=2),
        {"a": np.ones(8, np.float32)},
        17,
        "stash_type 1 or 10",
    ),
    "computed scales": (odd("Resize", ["x", "", "a"]), {}, 17, "a constant 'a', but this one is computed"),
    "limits left empty": (odd("Clip", ["x", ""]), {}, 17, "no Clip whose limits are present but empty"),
    "a vector and a tensor": (
        odd("MatMul", ["v", "x"]),
        {"v": np.ones(8, np.float32)},
        17,
        "no MatMul of a vector and a tensor of 4",
    ),
    "computed axes": (odd("ReduceSum", ["x", "a"]), {}, 17, "a constant 'a', but this one is computed"),
}


@pytest.mark.parametrize(("node", "constants", "opset", "message"), REFUSED_ATTRIBUTES.values(), ids=REFUSED_ATTRIBUTES)
@pytest.mark.parametrize("target", [TENSORRT_10_3, TENSORRT_10_16, TENSORRT_11], ids=lambda target: target.name)
def test_attributes_that_tensorrt_ignores_or_refuses_are_reported(
    node: Any, constants: dict[str, np.ndarray], opset: int, message: str, target: Target
) -> None:
    inputs = FLOATS | ({"a": [1]} if "a" in node.input and "a" not in constants else {})
    found = [
        rule for rule in verdict(model_of(node, inputs, t.FLOAT, opset, **constants), target) if rule.node == "odd"
    ]
    assert message in " ".join(rule.explanation for rule in found)
    assert target.name in " ".join(rule.explanation for rule in found)


def test_the_bounds_of_an_attribute_are_those_of_a_float32() -> None:
    for attributes in ({"bias": 1e-5}, {"beta": 0.01}, {"alpha": 1e20}, {"size": 15}):
        assert verdict(model_of(odd("LRN", **({"size": 5} | attributes)))) == []


@pytest.mark.parametrize("attribute", ["start", "end"])
def test_attributes_that_a_version_ignores_are_refused_for_it(attribute: str) -> None:
    """TensorRT 8.6 returns the whole shape whatever these attributes are."""
    content = model_of(odd("Shape", **{attribute: 1}))
    assert verdict(content, TENSORRT_10_3) == []
    (rule,) = verdict(content, TENSORRT_8_6)
    assert rule.explanation == (
        f"TensorRT 8.6 ignores the attribute {attribute} of Shape: it would compute something else"
    )


NINE = [1, 1, 1, 1, 1, 1, 3, 8, 8]
DIMENSIONS = {
    "a value": (odd("Relu"), {"x": NINE}, {}, "'x' has 9 dimensions, TensorRT"),
    "a shape": (odd("Reshape", ["x", "s"]), FLOATS, {"s": np.array(NINE)}, "'y' has 9 dimensions"),
    "a repetition": (odd("Expand", ["x", "s"]), FLOATS, {"s": np.array(NINE)}, "'y' has 9 dimensions"),
    "a convolution": (odd("Conv", ["x", "x"]), {"x": [1, 3, 2, 2, 2, 2]}, {}, "accepts Conv of 3 or 4 or 5 dimensions"),
    "its kernel": (odd("Conv", ["x", "w"], kernel_shape=[1, 1, 1, 1]), FLOATS, {}, "for 1 or 2 or 3 axes, not for 4"),
    "a pooling": (odd("MaxPool", kernel_shape=[2, 2]), {"x": [1, 3, 8]}, {}, "accepts MaxPool of 4 or 5 dimensions"),
    "a grid": (
        odd("GridSample", ["x", "x"]),
        {"x": [1, 3, 4, 8, 8]},
        {},
        "accepts GridSample of 4 dimensions, not of 5",
    ),
}


@pytest.mark.parametrize(("node", "inputs", "constants", "message"), DIMENSIONS.values(), ids=DIMENSIONS)
@pytest.mark.parametrize("target", ALL_TENSORRT, ids=lambda target: target.name)
def test_too_many_dimensions_are_refused(node: Any, inputs: Any, constants: Any, message: str, target: Target) -> None:
    found = verdict(model_of(node, inputs | ({"w": [1]} if "w" in node.input else {}), **constants), target)
    assert message in " ".join(rule.explanation for rule in found)


@pytest.mark.parametrize("equation", ["bii->bi", "...ij,...jk->...ik", "ii"])
def test_products_that_8_6_does_not_accept_are_refused(equation: str) -> None:
    inputs = ["x"] * (equation.count(",") + 1)
    content = model_of(odd("Einsum", inputs, equation=equation))
    assert "Einsum only without ellipsis and diagonals" in verdict(content, TENSORRT_8_6)[0].explanation
    assert verdict(content, TENSORRT_10_3) == []
    assert verdict(model_of(odd("Einsum", ["x", "x"], equation="abij,abjk -> abik")), TENSORRT_8_6) == []


@pytest.mark.parametrize(("op_type", "gates", "per_direction"), [("GRU", 3, 2), ("LSTM", 4, 3), ("RNN", 1, 1)])
def test_both_directions_of_a_recurrent_layer_have_one_activation(op_type: str, gates: int, per_direction: int) -> None:
    def rules(second: str) -> list[BrokenRule]:
        options = {"direction": "bidirectional", "hidden_size": 4}
        node = odd(op_type, ["x", "w", "w"], activations=["Relu"] * per_direction + [second] * per_direction, **options)
        return verdict(model_of(node, {"x": [2, 1, 4]}, w=np.ones((2, 4 * gates, 4), np.float32)))

    assert rules("Relu") == []
    assert "the same activations in both directions" in rules("Tanh")[0].explanation


@pytest.mark.parametrize("op_type", ["HardSwish", "GlobalLpPool", "LpNormalization", "LpPool", "Shrink"])
def test_bfloat16_that_the_importers_refuse_is_refused(op_type: str) -> None:
    options = {"kernel_shape": [2, 2]} if op_type == "LpPool" else {}
    content = model_of(odd(op_type, **options), dtype=t.BFLOAT16)
    assert f"{op_type} in bfloat16" in " ".join(rule.explanation for rule in verdict(content, TENSORRT_10_3))


TYPES = {
    "integers into a convolution": (odd("Conv", ["x", "x"]), t.INT32, TENSORRT_10_3, "Conv in int32"),
    "doubles": (odd("Add", ["x", "x"]), t.DOUBLE, TENSORRT_10_16, "float64"),
    "short integers": (odd("Add", ["x", "x"]), t.INT16, TENSORRT_10_16, "int16"),
    "texts": (odd("Identity"), t.STRING, TENSORRT_10_3, "string"),
    "a cast to double": (odd("Cast", to=t.DOUBLE), t.FLOAT, TENSORRT_10_3, "float64"),
    "a cast to int8": (odd("Cast", to=t.INT8), t.FLOAT, TENSORRT_10_3, "Cast in int8"),
    "bfloat16 on 8.6": (odd("Relu"), t.BFLOAT16, TENSORRT_8_6, "Relu in bfloat16"),
    "integers in a reduction of 8.6": (odd("ReduceMax"), t.INT32, TENSORRT_8_6, "ReduceMax in int32"),
    "truth values in an addition": (odd("Add", ["x", "x"]), t.BOOL, TENSORRT_10_3, "Add in bool"),
    "floats in a conjunction": (odd("And", ["x", "x"]), t.FLOAT, TENSORRT_10_3, "And in float32"),
}


@pytest.mark.parametrize(("node", "dtype", "target", "message"), TYPES.values(), ids=TYPES)
def test_a_type_that_is_not_on_the_list_is_refused(node: Any, dtype: int, target: Target, message: str) -> None:
    found = [rule for rule in verdict(model_of(node, dtype=dtype), target) if (rule.node, rule.rule) == ("odd", "type")]
    assert message in found[0].explanation
    assert target.name in found[0].explanation


@pytest.mark.parametrize("target", ALL_TENSORRT, ids=lambda target: target.name)
@pytest.mark.parametrize("op_type", ["Det", "DFT", "Col2Im", "SequenceEmpty", "StringConcat", "UnknownOperator"])
def test_an_operator_that_is_not_on_the_list_is_refused(op_type: str, target: Target) -> None:
    found = verdict(model_of(odd(op_type)), target)
    assert [(rule.rule, rule.node) for rule in found] == [("operator", "odd")]
    assert found[0].explanation == f"{op_type} is not on the list of operators that {target.name} accepts"


def test_an_operator_is_refused_by_versions_before_its_introduction() -> None:
    content = model_of(odd("RMSNormalization", ["x", "s"]), opset=20, s=np.ones(8, np.float32))
    assert [rule.rule for rule in verdict(content, TENSORRT_10_3)] == ["operator"]
    assert verdict(content, TENSORRT_10_16) == []


@pytest.mark.parametrize("domain", ["trt.plugins", "com.microsoft", "ai.onnx.ml", "my.ops"])
def test_operators_of_other_domains_are_refused(domain: str) -> None:
    assert [rule.rule for rule in verdict(model_of(odd("Anything", domain=domain)))] == ["domain"]


@pytest.mark.skipif(not NO_IMPORTER.is_dir(), reason="the files of operators without an importer are missing")
def test_files_of_operators_without_an_importer_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(NO_IMPORTER.glob("*.onnx"))
    assert len(files) == 9
    for file in files:
        for target in ALL_TENSORRT:
            found = [rule for rule in broken_rules(load_onnx(file), target) if rule.rule == "operator"]
            assert target.name in found[0].explanation
        assert main(["inspect", str(file), "--target", "orin"]) == 1
        assert "is not on the list of operators that TensorRT 10.3 accepts" in capsys.readouterr().out


def test_the_list_covers_every_version_and_only_existing_operators() -> None:
    listed = allow_list()
    assert set(listed.judged_by) == {target.name for target in ALL_TENSORRT}
    assert all(source for source in listed.source)
    schemas = [schema for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain]
    for name, operator in listed.operators.items():
        versions = [schema for schema in schemas if schema.name == name]
        assert versions, name
        assert set(operator.types) <= set(listed.judged_by.values())
        for dtypes in operator.types.values():
            assert set(dtypes.split()) <= DTYPES_ANYWHERE | set(DTYPES.values()), name
        assert set(operator.ignored) <= set(operator.types)
        assert {name for names in operator.ignored.values() for name in names} <= set(operator.attributes)
        assert set(operator.attributes) <= {attribute for schema in versions for attribute in schema.attributes}, name
        for rule in operator.attributes.values():
            assert rule is None or isinstance(rule, AttributeRule) or rule


def test_random_operators_and_control_flow_are_not_on_the_list() -> None:
    names = set(allow_list().operators)
    assert not names & {"If", "Loop", "Scan", "RandomNormal", "Bernoulli", "Multinomial", "QLinearConv", "AffineGrid"}
    assert {"Conv", "Gemm", "QuantizeLinear", "InstanceNormalization", "Softplus", "Cast"} <= names
