"""Whether ONNX Runtime's 8-bit integer arithmetic gives the same numbers on every processor.

An x86 processor without VNNI multiplies unsigned activations with signed weights by VPMADDUBSW: two products are added
in 16 bits, and a sum beyond 32767 silently saturates. With VNNI, and on ARM, sums have 32 bits.
Source: ONNX Runtime's documentation, "Quantize ONNX models", section on data type selection.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.onnxfile.graph import Graph, Node, OnnxGraph, graphs_of
from sefa_edge.profiles.onnxfile.targets import BrokenRule
from sefa_edge.profiles.onnxfile.wiring import COMPUTING_OPS, SHAPING_OPS, Wiring

LARGEST_ACTIVATION = 255
LARGEST_PAIR_SUM = 32767
EXACT_WEIGHT_LIMIT = LARGEST_PAIR_SUM // (2 * LARGEST_ACTIVATION)
"""64. With weights up to this magnitude, two products never exceed 16 bits, whatever the activations."""
WEIGHT_INPUTS = {
    "ConvInteger": 1,
    "DynamicQuantizeMatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "QAttention": 1,
    "QGemm": 3,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}
"""Operators that always compute on integers, and the index of their weight input."""


def computes_in_integers(graph: Graph) -> bool:
    """Whether a graph with Q/DQ was made for ONNX Runtime's integer kernels: an activation is unsigned.

    TensorRT's form has only int8 zero points, and our ONNX Runtime engine computes it in float32.
    """
    zeros = {node.input(2) for node in graph.nodes if node.op_type == "QuantizeLinear"} & graph.initializers.keys()
    return any(graph.initializers[name].dtype == "uint8" for name in zeros)


def saturating_layers(model: OnnxGraph) -> list[BrokenRule]:
    """The layers of a file whose sums of products may saturate on an x86 processor without VNNI.

    Decided by the weights alone, for any activations and any pairing in a kernel.
    """
    return [found for graph in graphs_of(model) for found in _saturating(graph)]


def require_exact_arithmetic(model: OnnxGraph) -> None:
    """Refuse a file that some processors compute wrongly. Raises InputError with the first layer."""
    if broken := saturating_layers(model):
        first, more = broken[0], f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise InputError(f"'{first.node}' saturates on x86 without VNNI: {first.explanation}{more}", first.hint)


def _saturating(graph: Graph) -> Iterator[BrokenRule]:
    wiring = Wiring(graph)
    fused = computes_in_integers(graph)
    for node in graph.nodes:
        weight = _integer_weight(node, wiring, fused)
        if weight is None or not weight.size:
            continue
        largest = max(int(weight.max()), -int(weight.min()))
        if largest > EXACT_WEIGHT_LIMIT:
            yield BrokenRule(
                node.label,
                "saturation",
                f"it multiplies unsigned activations with signed weights of up to {largest}; beyond "
                f"{EXACT_WEIGHT_LIMIT} a sum of two products may exceed 16 bits and saturate",
                "export again: `sefa-edge export` now keeps the weights of model.cpu.onnx within the limit",
            )


def _integer_weight(node: Node, wiring: Wiring, fused: bool) -> np.ndarray | None:
    """The signed weights that a node multiplies as integers; None for every other node."""
    if node.op_type in WEIGHT_INPUTS:
        return _signed(node.input(WEIGHT_INPUTS[node.op_type]), wiring)
    if not fused or node.op_type not in COMPUTING_OPS:
        return None
    data, weight = (_dequantiser(name, wiring) for name in node.inputs[:2])
    return None if data is None or weight is None else _signed(weight.input(0), wiring)


def _dequantiser(name: str, wiring: Wiring) -> Node | None:
    nodes = wiring.chain(name, SHAPING_OPS)
    node = wiring.producers.get(nodes[-1].input(0) if nodes else name)
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _signed(name: str, wiring: Wiring) -> np.ndarray | None:
    tensor = wiring.constant(name)
    return tensor.data if tensor is not None and tensor.dtype == "int8" else None
