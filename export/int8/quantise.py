"""Explicit INT8: QuantizeLinear/DequantizeLinear pairs around chosen layers, in the form that TensorRT fuses.

Symmetric, zero point 0, activations per tensor, weights per output channel and stored as INT8, biases in floating
point. A layer is `int8` (input and weights), `weights` (INT8 in the file, computed in floating point) or `kept`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sefa_edge.export.int8.calibration import Calibration
from sefa_edge.export.int8.layers import Layer, Residual
from sefa_edge.export.int8.rounding import Int8Weight

Mode = Literal["int8", "unsigned", "weights", "kept"]
"""`unsigned`: as `int8`, with unsigned weights; only in the CPU form (cpu_form.py)."""
COMPUTES_IN_INT8: tuple[Mode, ...] = ("int8", "unsigned")

Recipe = Mapping[str, Mode]
"""How each layer computes, by name; a layer that is not named is kept."""


@dataclass(frozen=True, slots=True)
class Int8Source:
    """The inputs for any recipe: the float32 model, its layers, the calibration, the rounded weights."""

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    residuals: tuple[Residual, ...]
    calibration: Calibration
    weights: Mapping[str, Int8Weight]


def quantise(source: Int8Source, recipe: Recipe) -> onnx.ModelProto:
    """The model with the recipe's layers in INT8. The identity side of a residual is quantised with its layer."""
    writer = _Writer(source)
    layer_of = {name: layer for layer in source.layers for name in layer.nodes}
    residual_of = {residual.node: residual for residual in source.residuals}
    for node in source.model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if (layer := layer_of.get(node.name)) is not None:
            mode = recipe.get(layer.name, "kept")
            if mode == "int8":
                copy.input[0] = writer.quantised_tensor(node.input[0], node.name)
            if mode != "kept":
                copy.input[1] = writer.quantised_weight(layer, node.name)
        elif (residual := residual_of.get(node.name)) is not None and recipe.get(residual.layer) == "int8":
            side = list(node.input).index(residual.identity)
            copy.input[side] = writer.quantised_tensor(residual.identity, node.name)
        writer.nodes.append(copy)
    return writer.finish()


def stored_weight(layer: Layer) -> str:
    """Name of a layer's integer weights in the file."""
    return f"{layer.weight}.int8"


class _Writer:
    """Collects nodes and initialisers of the new graph."""

    def __init__(self, source: Int8Source) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._source = source
        self._new: dict[str, np.ndarray] = {}
        self._quantised: set[str] = set()

    def quantised_tensor(self, tensor: str, consumer: str) -> str:
        """One QuantizeLinear per tensor, one DequantizeLinear per consumer."""
        scale, zero = self._add(f"{tensor}.scale", self._source.calibration.scale(tensor)), self._zero(0)
        if tensor not in self._quantised:
            self._quantised.add(tensor)
            pair = [tensor, scale, zero]
            self.nodes.append(helper.make_node("QuantizeLinear", pair, [f"{tensor}.int8"], f"{tensor}/Quantize"))
        return self._dequantise([f"{tensor}.int8", scale, zero], f"{consumer}/input")

    def quantised_weight(self, layer: Layer, consumer: str) -> str:
        weight = self._source.weights[layer.name]
        values = self._add(stored_weight(layer), weight.values)
        scale = self._add(f"{layer.weight}.scale", weight.scale)
        return self._dequantise([values, scale, self._zero(len(weight.scale))], f"{consumer}/weight")

    def finish(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self._source.model)
        graph = model.graph
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(kept)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self._new.items())
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)

    def _dequantise(self, inputs: list[str], name: str) -> str:
        node = helper.make_node("DequantizeLinear", inputs, [f"{name}.float"], f"{name}/Dequantize", axis=0)
        self.nodes.append(node)
        return node.output[0]

    def _zero(self, channels: int) -> str:
        shape = (channels,) if channels else ()
        return self._add(f"zero_point_{channels or 'scalar'}", np.zeros(shape, np.int8))

    def _add(self, name: str, value: np.ndarray | np.float32) -> str:
        self._new[name] = np.asarray(value)
        return name
