"""The INT8 form that ONNX Runtime computes fast on a CPU, converted from TensorRT's form.

TensorRT only accepts signed activations with zero point 0 and float biases. ONNX Runtime fuses neither a ReLU into a
signed quantiser nor a float bias into an integer Gemm: it computes in float32 with additional rounding, slower than the
float32 engine. With the same ranges in another form, it uses its integer kernels.

The file computes the same on an x86 processor without VNNI (profiles/onnxfile/integer_arithmetic.py) as on any other:
signed weights stay within plus and minus 64, so that no sum of two products exceeds 16 bits; layers that need 8 bits
have unsigned weights, for which there are kernels with wider sums. Measured with the four convolutions of the shipped
policy on AVX2: 1.60 ms with signed weights of 7 bits, 1.75 ms with unsigned ones of 8, 2.06 ms in float32; p99 error on
the selection samples 0.51 and 0.33 degrees.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from sefa_edge.profiles.onnxfile.integer_arithmetic import EXACT_WEIGHT_LIMIT

BIASED = ("Conv", "Gemm")
INT32 = np.iinfo(np.int32)
UNSIGNED_ZERO = 128
"""Zero point of unsigned integers for numbers of both signs."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Quantisation grid of a tensor: names of scale and zero point, and the scale."""

    scale_name: str
    zero_name: str
    scale: np.ndarray


def to_cpu_form(model: ModelProto, unsigned: Collection[str] = ()) -> ModelProto:
    """A copy with unsigned activations and int32 biases; a graph without Q/DQ is returned unchanged.

    After a ReLU the grid has zero point 0 and 255 steps instead of 127, up to the same largest value; elsewhere zero
    point 128 and the same steps. The stored weights named in `unsigned` also get zero point 128. Others stay signed and
    symmetric, per channel; those beyond EXACT_WEIGHT_LIMIT are rounded to coarser steps (`flavours.py` passes weights
    that were already rounded for the limit).
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    grids = _make_activations_unsigned(graph, values)
    _make_weights_unsigned(graph, values, unsigned)
    _limit_weights(graph, values)
    _make_biases_integers(graph, values, grids)
    _drop_unused(graph)
    del graph.value_info[:]  # outdated types
    return onnx.shape_inference.infer_shapes(copy, check_type=True, strict_mode=True)


def _make_activations_unsigned(graph: GraphProto, values: dict[str, np.ndarray]) -> dict[str, Grid]:
    """The grid of every quantised activation, by the name of its integer tensor."""
    makers = _makers(graph)
    grids: dict[str, Grid] = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and _is_symmetric(node, values):
            grid = _unsigned(graph, node, values[node.input[1]], makers.get(node.input[0]))
            grids[node.output[0]] = grid
        elif node.op_type == "DequantizeLinear" and node.input[0] in grids:
            grid = grids[node.input[0]]
        else:
            continue
        del node.input[1:]
        node.input.extend([grid.scale_name, grid.zero_name])
    return grids


def _is_symmetric(node: NodeProto, values: dict[str, np.ndarray]) -> bool:
    zero = values.get(node.input[2]) if len(node.input) > 2 else None
    return node.input[1] in values and zero is not None and zero.dtype == np.int8 and zero.size == 1 and not zero.any()


def _unsigned(graph: GraphProto, node: NodeProto, scale: np.ndarray, maker: NodeProto | None) -> Grid:
    behind_relu = maker is not None and maker.op_type == "Relu"
    scale = np.asarray(scale * np.float32(127 / 255) if behind_relu else scale, np.float32)
    zero = np.full(scale.shape, 0 if behind_relu else UNSIGNED_ZERO, np.uint8)
    name = node.output[0]
    return Grid(_add(graph, f"{name}.scale", scale), _add(graph, f"{name}.zero", zero), scale)


def _make_weights_unsigned(graph: GraphProto, values: dict[str, np.ndarray], names: Collection[str]) -> None:
    for node in graph.node:
        weight = node.input[0] if node.input else ""
        if node.op_type == "DequantizeLinear" and weight in names and _is_weight(node, values):
            zero = np.full(values[node.input[1]].shape, UNSIGNED_ZERO, np.uint8)
            del node.input[2:]
            node.input.append(_add(graph, f"{node.output[0]}.zero", zero))
    for name in names:
        values[name] = (values[name].astype(np.int16) + UNSIGNED_ZERO).astype(np.uint8)
        _replace(graph, name, values[name])


def _limit_weights(graph: GraphProto, values: dict[str, np.ndarray]) -> None:
    """Limit every stored weight to EXACT_WEIGHT_LIMIT, with a larger scale for channels that exceed it."""
    factors: dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or not _is_weight(node, values):
            continue
        weight, scale = node.input[0], values[node.input[1]]
        if weight not in factors:
            factors[weight] = _excess(node, values)
            if np.any(factors[weight] > 1):
                values[weight] = np.rint(values[weight] / factors[weight]).astype(np.int8)
                _replace(graph, weight, values[weight])
        if np.any(factors[weight] > 1):
            coarser = np.asarray(scale * factors[weight].reshape(scale.shape), scale.dtype)
            node.input[1] = _add(graph, f"{node.output[0]}.scale", coarser)
            values[node.input[1]] = coarser


def _is_weight(node: NodeProto, values: dict[str, np.ndarray]) -> bool:
    weight = values.get(node.input[0])
    if weight is None or weight.dtype != np.int8 or weight.ndim < 2 or node.input[1] not in values:
        return False
    return len(node.input) < 3 or not np.any(values.get(node.input[2], 1))


def _excess(node: NodeProto, values: dict[str, np.ndarray]) -> np.ndarray:
    """Divisor of a weight, at least 1, per channel, in a shape that broadcasts like its scale."""
    steps, scale = values[node.input[0]], values[node.input[1]]
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1) % steps.ndim
    others = tuple(other for other in range(steps.ndim) if scale.size == 1 or other != axis)
    largest = np.abs(steps.astype(np.float32)).max(axis=others, keepdims=True)
    return np.maximum(1, largest / np.float32(EXACT_WEIGHT_LIMIT)).astype(np.float32)


def _make_biases_integers(graph: GraphProto, values: dict[str, np.ndarray], grids: dict[str, Grid]) -> None:
    makers = _makers(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type in BIASED and len(node.input) == 3 and node.input[2] in values:
            scale = _accumulator_scale(node, makers, values, grids)
            if scale is not None:
                nodes.append(_integer_bias(graph, node, values[node.input[2]], scale))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _accumulator_scale(
    node: NodeProto, makers: dict[str, NodeProto], values: dict[str, np.ndarray], grids: dict[str, Grid]
) -> np.ndarray | None:
    """Scale of input times scale of weights, one per output channel; None unless both are quantised."""
    data, weights = (makers.get(name) for name in node.input[:2])
    if data is None or weights is None or data.op_type != "DequantizeLinear" or weights.op_type != "DequantizeLinear":
        return None
    if data.input[0] not in grids or weights.input[0] not in values:
        return None
    return np.asarray(grids[data.input[0]].scale * values[weights.input[1]], np.float32)


def _integer_bias(graph: GraphProto, node: NodeProto, bias: np.ndarray, scale: np.ndarray) -> NodeProto:
    """Give the node its bias as int32, and return the node that dequantises it."""
    name = f"{node.output[0]}.bias"
    steps = np.clip(np.rint(bias / scale.astype(np.float64)), INT32.min, INT32.max).astype(np.int32)
    inputs = [
        _add(graph, f"{name}.integer", steps),
        _add(graph, f"{name}.scale", scale),
        _add(graph, f"{name}.zero", np.zeros(scale.shape, np.int32)),
    ]
    node.input[2] = name
    return helper.make_node("DequantizeLinear", inputs, [name], axis=0)


def _makers(graph: GraphProto) -> dict[str, NodeProto]:
    return {output: node for node in graph.node for output in node.output}


def _add(graph: GraphProto, name: str, value: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _replace(graph: GraphProto, name: str, value: np.ndarray) -> None:
    for tensor in graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))


def _drop_unused(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
