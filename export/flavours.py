"""The files that one export writes: the same network in every precision and typing that a device may need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx

from sefa_edge.export.int8.calibration import INT8_MAX, Method, calibrate
from sefa_edge.export.int8.cpu_form import to_cpu_form
from sefa_edge.export.int8.equalise import equalise
from sefa_edge.export.int8.half import store_matrices_as_half, to_half
from sefa_edge.export.int8.layers import Graph, find_layers, find_residuals
from sefa_edge.export.int8.quantise import COMPUTES_IN_INT8, Int8Source, Recipe, quantise, stored_weight
from sefa_edge.export.int8.rounding import Int8Weight, round_weight
from sefa_edge.export.int8.sensitivity import (
    Form,
    Judge,
    Sensitivity,
    choose_recipe,
    core_layers,
    layers_in,
    measure_sensitivity,
)
from sefa_edge.export.samples import SampleSets, as_inputs
from sefa_edge.export.session import Inputs, Kernels, run_chunks
from sefa_edge.profiles.card import CalibrationSummary, QuantisationSummary
from sefa_edge.profiles.onnxfile.integer_arithmetic import EXACT_WEIGHT_LIMIT
from sefa_edge.profiles.onnxfile.targets import (
    ONNX_RUNTIME,
    TENSORRT_8_6,
    TENSORRT_10_3,
    TENSORRT_10_16,
    TENSORRT_11,
    TENSORRT_RTX,
    Target,
)
from sefa_edge.profiles.progress import Progress

Precision = Literal["fp32", "fp16", "int8"]
MODEL, TYPED, HALF, SINGLE = "model.onnx", "model.typed.onnx", "model.fp16.onnx", "model.fp32.onnx"
CPU = "model.cpu.onnx"
FILES = (MODEL, TYPED, CPU, HALF, SINGLE)
WEAK_TARGETS = (TENSORRT_8_6, TENSORRT_10_3, TENSORRT_10_16, ONNX_RUNTIME)
TYPED_TARGETS = (TENSORRT_10_3, TENSORRT_10_16, TENSORRT_11, TENSORRT_RTX, ONNX_RUNTIME)
EQUALISING_SAMPLES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Flavour:
    """One file to be written."""

    file: str
    model: onnx.ModelProto
    precision: Precision
    strongly_typed: bool
    targets: tuple[Target, ...]
    """The targets that must accept it."""
    quantisation: QuantisationSummary | None = None

    @property
    def kernels(self) -> Kernels:
        """The kernels to test it with: rounding as written for TensorRT, integer kernels for a CPU."""
        return "integer" if self.file == CPU else "as_written"

    @property
    def opset(self) -> int:
        return next(entry.version for entry in self.model.opset_import if entry.domain == "")


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The chosen layers of one form, and the measurements behind the choice."""

    recipe: Recipe
    sensitivities: Sequence[Sensitivity]


@dataclass(frozen=True, slots=True, eq=False)
class Int8Result:
    """INT8 for TensorRT in both typings, and for CPUs."""

    flavours: tuple[Flavour, ...]
    tensorrt: Choice
    cpu: Choice
    calibration: CalibrationSummary


def float_flavours(single: onnx.ModelProto, precision: Precision) -> list[Flavour]:
    """The floating point files of an export; the given precision is named `model.onnx`."""
    if precision == "fp32":
        return [Flavour(MODEL, single, "fp32", False, WEAK_TARGETS)]
    half_name = MODEL if precision == "fp16" else HALF
    return [
        Flavour(half_name, to_half(single), "fp16", True, TYPED_TARGETS),
        Flavour(SINGLE, single, "fp32", False, WEAK_TARGETS),
    ]


def int8_flavours(single: onnx.ModelProto, sets: SampleSets, method: Method, budget_deg: float) -> Int8Result:
    """Calibrate, choose the layers that tolerate INT8, and quantise those.

    Raises:
        InputError: an activation or weight that is not finite, or that float16 cannot hold.
    """
    calibration, selection = as_inputs(sets.calibration), as_inputs(sets.selection)
    reference = run_chunks(single, selection)
    source = prepare(single, calibration, method)
    tensorrt_form = Form(source.layers, lambda recipe: quantise(source, recipe), ("weights", "kept"))
    narrow = replace(source, weights=round_weights(source, EXACT_WEIGHT_LIMIT))
    # On a CPU, INT8 weights that are converted to float in every call gain nothing, so that mode is not used. Every
    # layer, even a small one, is tried again, because a layer in floating point does not save space either.
    cpu_form = Form(source.layers, lambda recipe: render_for_cpus(source, narrow, recipe), ("unsigned", "kept"), 0.0)
    tensorrt = _choose(tensorrt_form, Judge(selection, reference), budget_deg)
    cpu = _choose(cpu_form, Judge(selection, reference, "integer"), budget_deg)
    seen = CalibrationSummary(
        method=method,
        dataset_sha256=sets.dataset_sha256,
        episodes=sets.episodes,
        samples=source.calibration.samples,
        joint_coverage=sets.joint_coverage,
    )
    summary = _summary(source, tensorrt.recipe, seen)
    weak, for_cpu = tensorrt_form.render(tensorrt.recipe), cpu_form.render(cpu.recipe)
    flavours = (
        Flavour(MODEL, weak, "int8", False, WEAK_TARGETS, summary),
        Flavour(TYPED, to_half(weak), "int8", True, TYPED_TARGETS, summary),
        Flavour(CPU, for_cpu, "int8", False, (ONNX_RUNTIME,), _summary(source, cpu.recipe, seen)),
    )
    for flavour in flavours:
        store_matrices_as_half(flavour.model)
        onnx.checker.check_model(flavour.model, full_check=True)
    return Int8Result(flavours, tensorrt, cpu, seen)


def render_for_cpus(source: Int8Source, narrow: Int8Source, recipe: Recipe) -> onnx.ModelProto:
    """The CPU form: weights of `narrow` for layers in `int8`, those of `source` for layers in `unsigned`."""
    wide = [layer for layer in source.layers if recipe.get(layer.name) == "unsigned"]
    weights = {**narrow.weights, **{layer.name: source.weights[layer.name] for layer in wide}}
    signed: Recipe = {**recipe, **dict.fromkeys((layer.name for layer in wide), "int8")}
    model = quantise(replace(source, weights=weights), signed)
    return to_cpu_form(model, [stored_weight(layer) for layer in wide])


def _choose(form: Form, judge: Judge, budget_deg: float) -> Choice:
    with Progress("sensitivity", len(core_layers(form.layers)), sys.stderr) as progress:
        sensitivities = measure_sensitivity(form, judge, progress.update)
    return Choice(choose_recipe(form, sensitivities, judge, budget_deg), sensitivities)


def prepare(single: onnx.ModelProto, calibration: Sequence[Inputs], method: Method) -> Int8Source:
    """The inputs for any choice of layers: an equalised copy of the model, ranges and rounded weights."""
    model = onnx.ModelProto()
    model.CopyFrom(single)
    equalise(model, calibration[:: max(1, len(calibration) // EQUALISING_SAMPLES)])
    graph = Graph(model)
    layers = find_layers(graph)
    residuals = find_residuals(graph, layers)
    core = core_layers(layers)
    with Progress("calibrating", len(calibration), sys.stderr) as progress:
        identities = [residual.identity for residual in residuals]
        seen = calibrate(model, core, identities, calibration, method, progress.update)
    unrounded = Int8Source(model, tuple(layers), tuple(residuals), seen, {})
    return replace(unrounded, weights=round_weights(unrounded))


def round_weights(source: Int8Source, largest_step: int = INT8_MAX) -> dict[str, Int8Weight]:
    """The weights of every layer that may be INT8, in -largest_step..largest_step, by the layer's name."""
    graph, layers, rounded = Graph(source.model), core_layers(source.layers), {}
    with Progress("rounding weights", len(layers), sys.stderr) as progress:
        for layer in layers:
            moments = source.calibration.moments[layer.name].mean()
            rounded[layer.name] = round_weight(graph.array(layer.weight), moments, largest_step)
            progress.update(len(rounded), layer.name)
    return rounded


def _summary(source: Int8Source, recipe: Recipe, calibration: CalibrationSummary) -> QuantisationSummary:
    stored = [layer.weights for layer in source.layers if recipe.get(layer.name, "kept") != "kept"]
    kept = [layer.name for layer in source.layers if layer.role != "fixed" and recipe.get(layer.name) in (None, "kept")]
    return QuantisationSummary(
        calibration=calibration,
        int8_layers=layers_in(recipe, *COMPUTES_IN_INT8),
        int8_weight_layers=layers_in(recipe, "weights"),
        kept_layers=kept,
        int8_weight_share=sum(stored) / sum(layer.weights for layer in source.layers),
    )
