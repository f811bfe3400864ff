"""INT8 as TensorRT needs it: the places of Q/DQ, their values, and that the outputs stay close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from sefa_edge.export.flavours import render_for_cpus, round_weights
from sefa_edge.export.graph.to_onnx import trace
from sefa_edge.export.int8.calibration import INT8_MAX, Calibration, Moments, RangeHistogram, calibrate, half_exact
from sefa_edge.export.int8.equalise import equalise
from sefa_edge.export.int8.half import store_matrices_as_half, to_half
from sefa_edge.export.int8.layers import Graph, find_layers, find_residuals
from sefa_edge.export.int8.quantise import Int8Source, Mode, quantise
from sefa_edge.export.int8.rounding import round_weight
from sefa_edge.export.int8.sensitivity import (
    BUDGET_SHARE,
    Form,
    Judge,
    choose_recipe,
    core_layers,
    layers_in,
    measure_sensitivity,
)
from sefa_edge.export.session import run_chunks
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.onnxfile.integer_arithmetic import EXACT_WEIGHT_LIMIT
from sefa_edge.profiles.onnxfile.reader import read_onnx
from sefa_edge.profiles.onnxfile.rules import broken_rules
from sefa_edge.profiles.onnxfile.targets import TENSORRT_8_6, TENSORRT_10_3, TENSORRT_11

SAMPLES = 24


class Tower(nn.Module):
    """A network with every case of the rules: first and last layer, ReLU pair, residual, matrix after a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.outer = nn.Conv2d(8, 8, 3, padding=1)
        self.grid = nn.Parameter(torch.randn(36, 2))
        self.middle = nn.Linear(16, 32)
        self.last = nn.Linear(32, 12)

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.first(x))
        body = torch.relu(stem + self.outer(torch.relu(self.inner(stem))))
        points = (body.reshape(8, 36).softmax(dim=1) @ self.grid).reshape(1, 16)
        return self.last(torch.nn.functional.silu(self.middle(points))).reshape(4, 3)


@pytest.fixture(scope="module")
def samples() -> list[Mapping[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(size=(1, 3, 6, 6)).astype(np.float32)} for _ in range(SAMPLES)]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    torch.manual_seed(1)
    tower = Tower()
    tower.inner.weight.data[2] *= 20  # an uneven channel, as training produces
    return trace(tower, {"x": torch.zeros(1, 3, 6, 6)}, ("y",))


@pytest.fixture(scope="module")
def source(model: onnx.ModelProto, samples: list[Mapping[str, np.ndarray]]) -> Int8Source:
    graph = Graph(model)
    layers = find_layers(graph)
    residuals, core = find_residuals(graph, layers), core_layers(layers)
    seen = calibrate(model, core, [r.identity for r in residuals], samples, "minmax", lambda count: None)
    weights = {layer.name: round_weight(graph.array(layer.weight), seen.moments[layer.name].mean()) for layer in core}
    return Int8Source(model, tuple(layers), tuple(residuals), seen, weights)


@pytest.fixture(scope="module")
def everything(source: Int8Source) -> onnx.ModelProto:
    return quantise(source, dict.fromkeys(("inner", "outer", "middle"), "int8"))


def test_layers_have_their_roles(source: Int8Source) -> None:
    roles = {layer.name: layer.role for layer in source.layers}
    assert roles == {
        "first": "first",
        "inner": "core",
        "outer": "core",
        "grid": "fixed",
        "middle": "core",
        "last": "last",
    }
    macs = {layer.name: layer.macs for layer in source.layers}
    assert (macs["inner"], macs["middle"]) == (8 * 8 * 9 * 36, 16 * 32)


def test_q_and_dq_are_signed_symmetric_and_per_channel(everything: onnx.ModelProto) -> None:
    graph = Graph(everything)
    for node in everything.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero, scale = graph.array(node.input[2]), graph.array(node.input[1])
            assert zero.dtype == np.int8
            assert not zero.any()
            is_weight = node.input[0] in graph.initialisers
            assert scale.shape == ((len(graph.array(node.input[0])),) if is_weight else ())
            np.testing.assert_array_equal(scale, half_exact(scale))
    stored = {t.name for t in everything.graph.initializer if t.data_type == TensorProto.INT8 and "zero" not in t.name}
    assert stored == {"inner.weight.int8", "outer.weight.int8", "middle.weight.int8"}
    for name in ("inner.bias", "outer.bias", "middle.bias", "first.weight", "last.weight", "grid"):
        assert graph.initialisers[name].data_type == TensorProto.FLOAT


def test_the_identity_side_of_a_residual_is_quantised_and_the_other_is_not(everything: onnx.ModelProto) -> None:
    graph = Graph(everything)
    add = next(n for n in everything.graph.node if n.op_type == "Add" and all(i in graph.producer for i in n.input))
    assert sorted(graph.producer[name].op_type for name in add.input) == ["Conv", "DequantizeLinear"]
    quantisers = [n.input[0] for n in everything.graph.node if n.op_type == "QuantizeLinear"]
    assert len(quantisers) == len(set(quantisers))  # one per tensor, however many nodes read it


@pytest.mark.parametrize("typed", [False, True], ids=["weak", "typed"])
def test_no_target_reports_a_broken_rule(everything: onnx.ModelProto, typed: bool) -> None:
    model = to_half(everything) if typed else everything
    graph = read_onnx(model.SerializeToString())
    targets = (TENSORRT_10_3, TENSORRT_11) if typed else (TENSORRT_8_6, TENSORRT_10_3)
    assert [broken_rules(graph, target) for target in targets] == [[], []]


@pytest.mark.parametrize("mode", ["weights", "int8"])
def test_int8_outputs_stay_close(source: Int8Source, samples: list[Mapping[str, np.ndarray]], mode: Mode) -> None:
    expected = run_chunks(source.model, samples)
    for name in ("inner", "outer", "middle"):
        actual = run_chunks(quantise(source, {name: mode}), samples)
        assert 0 < np.abs(actual - expected).max() < 0.05 * np.ptp(expected)
    np.testing.assert_array_equal(run_chunks(quantise(source, {}), samples), expected)


def test_the_recipe_keeps_to_the_budget(source: Int8Source, samples: list[Mapping[str, np.ndarray]]) -> None:
    judge = Judge(samples, run_chunks(source.model, samples))
    form = Form(source.layers, lambda recipe: quantise(source, recipe), ("weights", "kept"))
    found = measure_sensitivity(form, judge, lambda count: None)
    assert [s.layer.name for s in found] == ["inner", "outer", "middle"]
    assert all(s.p99_deg["weights"] < s.p99_deg["int8"] for s in found)
    everything = judge.p99_deg(quantise(source, dict.fromkeys(("inner", "outer", "middle"), "int8")))
    generous = choose_recipe(form, found, judge, 10 * everything)
    assert layers_in(generous, "int8") == ["inner", "outer", "middle"]
    tight = choose_recipe(form, found, judge, everything)  # fewer than all layers must suffice
    assert 0 < len(layers_in(tight, "int8")) < 3
    assert judge.p99_deg(quantise(source, tight)) <= everything
    assert not layers_in(choose_recipe(form, found, judge, 1e-9), "int8")


def test_equalising_changes_only_ranges(model: onnx.ModelProto, samples: list[Mapping[str, np.ndarray]]) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    assert equalise(changed, samples) == 1  # inner -> outer; the stem feeds two
    np.testing.assert_allclose(run_chunks(changed, samples), run_chunks(model, samples), atol=1e-4)

    def unevenness(of: onnx.ModelProto) -> float:
        largest = np.abs(Graph(of).array("inner.weight")).max(axis=(1, 2, 3))
        return float(largest.max() / largest.min())

    assert unevenness(changed) < unevenness(model) / 2


def test_rounding_compensates_for_its_errors() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 40)) @ rng.normal(size=(40, 40))  # correlated, as activations are
    weight = rng.normal(size=(16, 40)).astype(np.float32)
    moments = Moments()
    moments.add(inputs.astype(np.float32))
    rounded = round_weight(weight, moments.mean())
    assert rounded.values.dtype == np.int8
    assert np.abs(rounded.values).max() <= INT8_MAX
    scale = np.abs(weight).max(axis=1, keepdims=True) / INT8_MAX
    nearest = np.round(weight / scale) * scale
    dequantised = rounded.values * rounded.scale[:, None]
    errors = [np.square(inputs @ (version - weight).T).mean() for version in (dequantised, nearest)]
    assert errors[0] < 0.5 * errors[1]


@given(st.lists(st.floats(2**-10, 1000, width=32), min_size=1, max_size=40))
def test_ranges_count_every_value(values: list[float]) -> None:
    histogram = RangeHistogram()
    for value in values:
        histogram.add(np.array([value, -value / 2], np.float32))
    assert histogram.counts.sum() == 2 * len(values)
    assert histogram.limit("minmax") == np.float32(max(values))
    for method in ("percentile", "entropy"):
        assert 0 < histogram.limit(method) <= np.float32(max(values))


def test_entropy_and_percentile_ignore_a_single_outlier() -> None:
    histogram = RangeHistogram()
    histogram.add(np.random.default_rng(0).normal(size=1_000_000).astype(np.float32))
    histogram.add(np.array([100.0], np.float32))
    assert histogram.limit("minmax") == 100
    assert 3 < histogram.limit("percentile") < 6
    assert 2 < histogram.limit("entropy") < 10  # 128 bins are the fewest that it can choose


def test_an_activation_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        RangeHistogram().add(np.array([1.0, np.nan], np.float32))


def test_typed_float16_has_one_type_between_layers(
    model: onnx.ModelProto, samples: list[Mapping[str, np.ndarray]]
) -> None:
    half = to_half(model)
    assert half.opset_import[0].version >= 19
    graph = Graph(half)
    types = {v.name: v.type.tensor_type.elem_type for v in (*half.graph.value_info, *half.graph.output)}
    precision = {
        layer: types[graph.nodes[layer].output[0]] for layer in graph.nodes if layer in {"first/Conv", "inner/Conv"}
    }
    assert set(precision.values()) == {TensorProto.FLOAT16}
    for node in half.graph.node:
        if node.op_type in ("Softmax",) or node.input[0] in (v.name for v in half.graph.input):
            assert node.op_type == "Cast" or types[node.output[0]] == TensorProto.FLOAT
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    expected, actual = run_chunks(model, samples), run_chunks(half, samples)
    assert 0 < np.abs(actual - expected).max() < 0.01 * np.ptp(expected)


def test_a_weight_beyond_float16_is_refused(model: onnx.ModelProto) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    weight = Graph(broken).initialisers["inner.weight"]
    weight.CopyFrom(numpy_helper.from_array(np.full(weight.dims, 1e6, np.float32), "inner.weight"))
    with pytest.raises(InputError, match=r"'inner.weight' has 1e\+06"):
        to_half(broken)


def test_kept_matrices_are_stored_as_float16(
    everything: onnx.ModelProto, samples: list[Mapping[str, np.ndarray]]
) -> None:
    smaller = onnx.ModelProto()
    smaller.CopyFrom(everything)
    store_matrices_as_half(smaller)
    onnx.checker.check_model(smaller, full_check=True)
    assert Graph(smaller).initialisers["last.weight.half"].data_type == TensorProto.FLOAT16
    np.testing.assert_allclose(run_chunks(smaller, samples), run_chunks(everything, samples), atol=0.01)


def test_scales_are_normal_float16_numbers() -> None:
    scales = half_exact(np.array([0.0, 1e-9, 3.14159e-3, 2.0], np.float32))
    assert (scales >= np.finfo(np.float16).tiny).all()
    np.testing.assert_array_equal(scales, scales.astype(np.float16).astype(np.float32))


def test_calibration_uses_every_sample(source: Int8Source) -> None:
    calibration: Calibration = source.calibration
    assert calibration.samples == SAMPLES
    assert {"inner", "outer", "middle"} == set(calibration.moments)
    assert all(calibration.scale(layer.activations[0]) > 0 for layer in core_layers(source.layers))


def test_a_layer_is_not_excluded_by_the_speed_of_another(
    source: Int8Source, samples: list[Mapping[str, np.ndarray]]
) -> None:
    names = ("inner", "outer", "middle")
    judge = Judge(samples, run_chunks(source.model, samples), "integer")
    narrow = replace(source, weights=round_weights(source, EXACT_WEIGHT_LIMIT))
    form = Form(source.layers, lambda recipe: render_for_cpus(source, narrow, recipe), ("unsigned", "kept"), 0.0)
    exact = judge.p99_deg(form.render(dict.fromkeys(names, "unsigned")))
    found = measure_sensitivity(form, judge, lambda count: None)
    recipe = choose_recipe(form, found, judge, 1.001 * exact / BUDGET_SHARE)
    assert set(layers_in(recipe, "int8", "unsigned")) == set(names)
    assert judge.p99_deg(form.render(recipe)) <= 1.001 * exact
    assert layers_in(choose_recipe(form, found, judge, 100 * exact), "int8") == list(names)
