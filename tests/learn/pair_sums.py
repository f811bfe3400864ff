"""The largest sum of two products in each layer of a CPU's INT8 file, in exact integers, from the weights themselves.

x86 processors without VNNI add two products of an unsigned and a signed 8-bit integer in 16 bits. The kernel
chooses the two, so any two of one output channel count, with the activations that make their sum largest.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

LARGEST_UNSIGNED = 255
LARGEST_16_BITS = 32767
LAYERS = ("Conv", "Gemm", "MatMul")


def worst_pair_sums(model: onnx.ModelProto) -> dict[str, int]:
    """The largest magnitude per layer with unsigned data and signed weights, by the name of the layer's output."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type not in LAYERS:
            continue
        data, weight = (makers.get(name) for name in node.input[:2])
        if data is None or weight is None or {data.op_type, weight.op_type} != {"DequantizeLinear"}:
            continue
        if values[data.input[2]].dtype == np.uint8 and values[weight.input[0]].dtype == np.int8:
            found[node.output[0]] = max(map(_worst, _channels(node, values[weight.input[0]].astype(np.int64))))
    return found


def _channels(node: onnx.NodeProto, weight: np.ndarray) -> np.ndarray:
    """The weights of the products in one output value, [output channels, products]."""
    transposed = node.op_type == "Conv" or any(entry.name == "transB" and entry.i for entry in node.attribute)
    return weight.reshape(len(weight), -1) if transposed else weight.T


def _worst(channel: np.ndarray) -> int:
    ranked = np.sort(channel)
    highest, lowest = np.maximum(ranked[-2:], 0).sum(), np.minimum(ranked[:2], 0).sum()
    return int(LARGEST_UNSIGNED * max(highest, -lowest))
