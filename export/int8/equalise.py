"""Equalisation: channels of an activation with different ranges are scaled alike before one INT8 scale covers them all.

A positive factor commutes with a ReLU between two convolutions, so channel c of the first may be divided by s_c if the
weights of the second that use it are multiplied by s_c. The function stays the same (Nagel et al., "Data-free
quantization through weight equalization and bias correction", 2019); s_c is chosen from the ranges of activations and
weights (Xiao et al., "SmoothQuant", 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from sefa_edge.export.int8.layers import Graph
from sefa_edge.export.session import Inputs, run_tensors

ACTIVATION_SHARE = 0.5
"""Share of the range differences that moves from activations to weights."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Conv -> ReLU -> Conv: names of the first's weight and bias, of the tensor between, of the second's weight."""

    weight: str
    bias: str
    activation: str
    next_weight: str


def equalise(model: onnx.ModelProto, samples: Sequence[Inputs]) -> int:
    """Equalise every Conv -> ReLU -> Conv of the model in place, using the samples. Returns their number."""
    graph = Graph(model)
    pairs = list(find_pairs(graph))
    largest = _channel_maxima(model, [pair.activation for pair in pairs], samples)
    for pair in pairs:
        first, bias, second = (graph.array(name).copy() for name in (pair.weight, pair.bias, pair.next_weight))
        factor = _factor(largest[pair.activation], np.abs(second).max(axis=(0, 2, 3)))
        first /= factor[:, None, None, None]
        second *= factor[None, :, None, None]
        for name, array in ((pair.weight, first), (pair.bias, bias / factor), (pair.next_weight, second)):
            graph.initialisers[name].CopyFrom(numpy_helper.from_array(array, name))
    return len(pairs)


def find_pairs(graph: Graph) -> Iterator[Pair]:
    """Convolutions with only a ReLU between them, each weight used once."""
    for node in graph.model.graph.node:
        relu = (
            _only_consumer(graph, node.output[0], "Relu") if node.op_type == "Conv" and len(node.input) == 3 else None
        )
        second = None if relu is None else _only_consumer(graph, relu.output[0], "Conv")
        if second is not None and all(len(graph.consumers[n.input[1]]) == 1 for n in (node, second)):
            yield Pair(node.input[1], node.input[2], second.input[0], second.input[1])


def _only_consumer(graph: Graph, tensor: str, op: str) -> onnx.NodeProto | None:
    consumers = graph.consumers.get(tensor, [])
    return consumers[0] if len(consumers) == 1 and consumers[0].op_type == op else None


def _channel_maxima(
    model: onnx.ModelProto, activations: Sequence[str], samples: Sequence[Inputs]
) -> dict[str, np.ndarray]:
    """Largest value of every channel of the activations [1, C, H, W]."""
    seen: dict[str, list[np.ndarray]] = {name: [] for name in activations}
    for values in run_tensors(model, activations, samples) if activations else ():
        for name in activations:
            seen[name].append(values[name].max(axis=(0, 2, 3)))
    return {name: np.max(maxima, axis=0) for name, maxima in seen.items()}


def _factor(activation: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """s_c float32 [C]; channels that are dead on either side keep 1."""
    alive = (activation > 0) & (weight > 0)
    factor = np.where(alive, activation, 1) ** ACTIVATION_SHARE / np.where(alive, weight, 1) ** (1 - ACTIVATION_SHARE)
    typical = np.exp(np.log(factor[alive]).mean()) if alive.any() else 1.0
    return np.where(alive, factor / typical, 1).astype(np.float32)
