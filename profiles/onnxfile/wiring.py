"""Producers, consumers, constants and types of the values in a graph: enough to check it, not to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sefa_edge.profiles.onnxfile.graph import DTYPES, Graph, Node, Tensor

BOOLEAN_OPS = frozenset(
    ["And", "Or", "Xor", "Not", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "IsNaN", "IsInf"]
)
INDEX_OPS = frozenset(["Shape", "Size", "NonZero", "ArgMax", "ArgMin", "NonMaxSuppression"])
TYPED_BY_SECOND_INPUT = frozenset({"CastLike", "Where"})
QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
COMPUTING_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that TensorRT computes in INT8 if their inputs are dequantised."""
SHAPING_OPS = frozenset({"Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Cast"})
"""Operators that change the layout of values, not their number."""

MAX_STEPS = 16
"""Operators through which a value is followed; real exports reshape a weight less often."""


class Wiring:
    """Lookups in one graph. Types are declared in the file or follow from the operators."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.consumers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(filter(None, node.inputs)):
                self.consumers.setdefault(name, []).append(node)
        self._inputs = {value.name for value in graph.inputs}
        self._constants = _constants(graph, self._inputs)
        self._dtypes = _dtypes(graph, self._constants)
        self._ranks = _ranks(graph, self._constants)

    def constant(self, name: str) -> Tensor | None:
        """A value that is in the file and that the caller cannot replace; None for all others."""
        return self._constants.get(name)

    def dtype(self, name: str) -> str:
        """Type of a value, `undefined` if unknown."""
        return self._dtypes.get(name, "undefined")

    def rank(self, name: str) -> int | None:
        """Number of dimensions of a value; None if unknown."""
        return self._ranks.get(name)

    def chain(self, name: str, operators: frozenset[str]) -> list[Node]:
        """The nodes, last first, that compute a value using only `operators`."""
        nodes: list[Node] = []
        while (node := self.producers.get(name)) is not None and node.op_type in operators and len(nodes) < MAX_STEPS:
            nodes.append(node)
            name = node.input(0)
        return nodes

    def is_weight(self, name: str) -> bool:
        """Whether a value comes from a constant."""
        nodes = self.chain(name, QUANTISERS | SHAPING_OPS)
        return (nodes[-1].input(0) if nodes else name) in self._constants

    def precision(self, node: Node) -> str:
        """The type in which a node computes: the quantised type if both factors have one, else that of its input."""
        factors = [self._quantised_dtype(name) for name in node.inputs[:2]]
        quantised = sorted({factor for factor in factors if factor is not None})
        return quantised[0] if quantised and None not in factors else self.dtype(node.input(0))

    def _quantised_dtype(self, name: str) -> str | None:
        nodes = self.chain(name, SHAPING_OPS)
        node = self.producers.get(nodes[-1].input(0) if nodes else name)
        return self.dtype(node.input(0)) if node is not None and node.op_type == "DequantizeLinear" else None


def _constants(graph: Graph, inputs: set[str]) -> dict[str, Tensor]:
    """Initializers except defaults of inputs, Constant nodes, and aliases of both."""
    table = {name: tensor for name, tensor in graph.initializers.items() if name not in inputs}
    for node in graph.nodes:
        if node.op_type == "Constant" and node.output and (tensor := _constant_value(node)) is not None:
            table[node.output] = tensor
        elif node.op_type == "Identity" and node.output and node.input(0) in table:
            table[node.output] = table[node.input(0)]
    return table


def _constant_value(node: Node) -> Tensor | None:
    for attribute, dtype in (
        ("value_float", "float32"),
        ("value_floats", "float32"),
        ("value_int", "int64"),
        ("value_ints", "int64"),
    ):
        if (value := node.attributes.get(attribute)) is not None:
            data = np.array(value, dtype)
            return Tensor(node.output, dtype, data.shape, data)
    value = node.attributes.get("value")
    return value if isinstance(value, Tensor) else None


def _dtypes(graph: Graph, constants: Mapping[str, Tensor]) -> dict[str, str]:
    table = {name: value.dtype for name, value in graph.value_info.items() if value.dtype != "undefined"}
    table |= {value.name: value.dtype for value in (*graph.outputs, *graph.inputs) if value.dtype != "undefined"}
    table |= {name: tensor.dtype for name, tensor in (*graph.initializers.items(), *constants.items())}
    for node in graph.nodes:
        for index, name in enumerate(node.outputs):
            # An operator's own definition takes precedence over the type declared in the file.
            if not name or (name in table and node.op_type not in TYPE_RULES):
                continue
            if (dtype := _output_dtype(node, index, table)) != "undefined":
                table[name] = dtype
    return table


def _ranks(graph: Graph, constants: Mapping[str, Tensor]) -> dict[str, int]:
    values = (*graph.value_info.values(), *graph.outputs, *graph.inputs)
    declared = {value.name: len(value.shape) for value in values if value.shape is not None}
    return declared | {name: len(tensor.dims) for name, tensor in (*graph.initializers.items(), *constants.items())}


def _output_dtype(node: Node, index: int, table: Mapping[str, str]) -> str:
    """Output type by operator; for most it is that of the input."""
    if node.op_type in BOOLEAN_OPS:
        return "bool"
    if node.op_type in INDEX_OPS or (node.op_type == "TopK" and index == 1):
        return "int64"
    if (rule := TYPE_RULES.get(node.op_type)) is not None:
        return rule(node, table)
    first = 1 if node.op_type in TYPED_BY_SECOND_INPUT else 0
    return next((table[name] for name in node.inputs[first:] if name in table), "undefined")


def _attribute_dtype(node: Node, attribute: str) -> str:
    return DTYPES.get(node.integer(attribute, 0), "undefined")


def _quantised(node: Node, table: Mapping[str, str]) -> str:
    """According to the standard, QuantizeLinear without a zero point and `output_dtype` gives uint8."""
    if node.input(2):
        return table.get(node.input(2), "undefined")
    declared = _attribute_dtype(node, "output_dtype")
    return "uint8" if declared == "undefined" else declared


def _dequantised(node: Node, table: Mapping[str, str]) -> str:
    declared = _attribute_dtype(node, "output_dtype")
    return declared if declared != "undefined" else table.get(node.input(1), "undefined")


def _filled(node: Node, _table: Mapping[str, str]) -> str:
    value = node.attributes.get("value")
    return value.dtype if isinstance(value, Tensor) else "float32"


TYPE_RULES: Mapping[str, Callable[[Node, Mapping[str, str]], str]] = {
    "Cast": lambda node, table: _attribute_dtype(node, "to"),
    "ConstantOfShape": _filled,
    "QuantizeLinear": _quantised,
    "DequantizeLinear": _dequantised,
    "DynamicQuantizeLinear": lambda node, table: "uint8",
}
