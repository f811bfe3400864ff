"""Which nodes of an exported graph are layers with weights, and which of them may compute in INT8.

First and last layers stay in higher precision: their inputs and outputs are the signal itself. So do operations that
are not a convolution or matrix product of a learned activation, such as the expected coordinates after a softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

WEIGHTED = ("Conv", "Gemm", "ConvTranspose", "MatMul")
Role = Literal["core", "first", "last", "fixed"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One weight and the nodes that use it (several when Euler steps are unrolled). Axis 0 is the output channel."""

    name: str
    op: str
    weight: str
    nodes: tuple[str, ...]
    activations: tuple[str, ...]
    """Input tensor of each node."""
    role: Role
    weights: int
    macs: int
    """Multiplications and additions per inference, all nodes together."""


class Graph:
    """An ONNX graph with lookup tables."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = {node.name: node for node in model.graph.node}
        self.producer = {output: node for node in model.graph.node for output in node.output}
        self.initialisers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def array(self, name: str) -> np.ndarray:
        """Values of an initialiser."""
        return numpy_helper.to_array(self.initialisers[name])

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """Static shape of every tensor, if known."""
        values = (*self.model.graph.value_info, *self.model.graph.input, *self.model.graph.output)
        return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    @cached_property
    def weighted(self) -> list[onnx.NodeProto]:
        """Nodes that multiply an activation by stored weights, in graph order."""
        return [node for node in self.model.graph.node if node.op_type in WEIGHTED and self._is_stored(node)]

    def _is_stored(self, node: onnx.NodeProto) -> bool:
        activation, weight = node.input[:2]
        return weight in self.initialisers and activation not in self.initialisers

    @cached_property
    def after_a_layer(self) -> set[str]:
        """Names of nodes with a layer somewhere before them."""
        weighted = {node.name for node in self.weighted}
        reached: set[str] = set()
        for node in self.model.graph.node:
            before = [self.producer[name].name for name in node.input if name in self.producer]
            if any(name in weighted or name in reached for name in before):
                reached.add(node.name)
        return reached

    @cached_property
    def before_a_layer(self) -> set[str]:
        """Names of nodes with a layer somewhere after them."""
        weighted = {node.name for node in self.weighted}
        reached: set[str] = set()
        for node in reversed(self.model.graph.node):
            behind = [other.name for output in node.output for other in self.consumers.get(output, ())]
            if any(name in weighted or name in reached for name in behind):
                reached.add(node.name)
        return reached


def find_layers(graph: Graph) -> list[Layer]:
    """All layers with weights, in graph order; nodes that share a weight are one layer."""
    by_weight: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.weighted:
        by_weight.setdefault(node.input[1], []).append(node)
    return [_layer(graph, weight, nodes) for weight, nodes in by_weight.items()]


def attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    """Value of a node's attribute."""
    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


@dataclass(frozen=True, slots=True)
class Residual:
    """An addition with exactly one side directly from a layer; `identity` is the tensor on the other side."""

    node: str
    layer: str
    identity: str


def find_residuals(graph: Graph, layers: Sequence[Layer]) -> list[Residual]:
    """All residual additions. TensorRT fuses layer and addition into one INT8 kernel only if both sides are INT8."""
    layer_of = {node: layer.name for layer in layers for node in layer.nodes}
    found = []
    for node in graph.model.graph.node:
        if node.op_type == "Add" and all(name in graph.producer for name in node.input):
            straight = [layer_of.get(graph.producer[name].name) for name in node.input]
            if straight.count(None) == 1:
                side = straight.index(None)
                found.append(Residual(node.name, str(straight[1 - side]), node.input[side]))
    return found


def _layer(graph: Graph, weight: str, nodes: list[onnx.NodeProto]) -> Layer:
    count = int(np.prod(graph.initialisers[weight].dims))
    return Layer(
        name=weight.removesuffix(".weight"),
        op=nodes[0].op_type,
        weight=weight,
        nodes=tuple(node.name for node in nodes),
        activations=tuple(node.input[0] for node in nodes),
        role=_role(graph, nodes),
        weights=count,
        macs=sum(count * _positions(graph, node) for node in nodes),
    )


def _role(graph: Graph, nodes: list[onnx.NodeProto]) -> Role:
    node = nodes[0]
    matrix = node.op_type == "Gemm" and attribute(node, "transB", 0) == 1
    convolution = node.op_type == "Conv" and attribute(node, "group", 1) == 1
    behind_softmax = node.input[0] in graph.producer and graph.producer[node.input[0]].op_type == "Softmax"
    if behind_softmax or not (matrix or convolution):
        return "fixed"
    if not all(other.name in graph.after_a_layer for other in nodes):
        return "first"
    if not all(other.name in graph.before_a_layer for other in nodes):
        return "last"
    return "core"


def _positions(graph: Graph, node: onnx.NodeProto) -> int:
    """How often each weight is used: output pixels of a convolution, rows of a matrix."""
    shape = graph.shapes[node.output[0]]
    if node.op_type in ("Conv", "ConvTranspose"):
        return shape[0] * int(np.prod(shape[2:]))
    return int(np.prod(shape[:-1]))
