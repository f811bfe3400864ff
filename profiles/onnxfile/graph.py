"""The content of an ONNX file as frozen data: the model, its graphs, nodes and tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

DTYPES = {
    0: "undefined",
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1",
    24: "float8_e8m0",
    25: "uint2",
    26: "int2",
    27: "float6_e2m3",
    28: "float6_e3m2",
}
"""TensorProto.DataType, by number; the names are numpy's where numpy has the type."""

BIT_PATTERNS = {
    "bfloat16": "uint16",
    "float8_e4m3fn": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2": "uint8",
    "float8_e5m2fnuz": "uint8",
    "float8_e8m0": "uint8",
}
"""Types that numpy lacks, and the integers used for their bits."""

VALUES_PER_BYTE = {"uint4": 2, "int4": 2, "float4_e2m1": 2, "uint2": 4, "int2": 4}
"""Types of which one byte holds several values. Those of 6 bits may be stored packed or unpacked."""

FLOAT8_AND_LESS = frozenset(name for name in DTYPES.values() if name.startswith(("float8_", "float6_", "float4_")))


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A constant.

    `data` has the shape `dims`, or bytes [n] for packed types. It is a read-only view of the file if the file has raw
    bytes; bit patterns if numpy lacks the type (BIT_PATTERNS); objects `bytes` for strings; None if the values are in
    another file.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    data: np.ndarray | None

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.dims, dtype=np.int64)) if self.dims else 1

    @property
    def byte_count(self) -> int:
        """Bytes of its values in memory; 0 if they are in another file."""
        return 0 if self.data is None else self.data.nbytes

    def floats(self) -> np.ndarray | None:
        """Its values in a floating type of numpy, shape `dims`; None for integers and types smaller than float16."""
        if self.data is None:
            return None
        if self.dtype == "bfloat16":
            return (self.data.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return self.data if self.data.dtype.kind == "f" else None


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """A constant of which only the non-zero values are stored."""

    values: Tensor
    indices: Tensor


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """Name, type and shape of a value; a dimension without a number is None, and so is an unknown shape.

    `dtype` is `sequence`, `map`, `optional`, `sparse_tensor` or `opaque` for values that are not tensors.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def is_static(self) -> bool:
        return self.shape is not None and None not in self.shape


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Nodes in execution order, and the values that they use."""

    name: str
    nodes: tuple[Node, ...]
    initializers: Mapping[str, Tensor]
    sparse_initializers: Mapping[str, SparseTensor]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    value_info: Mapping[str, ValueInfo]


AttributeValue: TypeAlias = (
    int
    | float
    | bytes
    | Tensor
    | SparseTensor
    | Graph
    | ValueInfo
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[bytes, ...]
    | tuple[Tensor, ...]
    | tuple[SparseTensor, ...]
    | tuple[Graph, ...]
    | tuple[ValueInfo, ...]
)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator. An absent optional input or output is an empty name."""

    name: str
    op_type: str
    domain: str
    """Empty for the standard operators, which files may also call `ai.onnx`."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue]

    def input(self, index: int) -> str:
        """Name of an input; empty if there are fewer."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def output(self) -> str:
        """Name of the first output; empty if there is none."""
        return self.outputs[0] if self.outputs else ""

    @property
    def label(self) -> str:
        """Its name, or if it has none its operator and output, for messages."""
        return self.name or f"{self.op_type} -> {next(filter(None, self.outputs), 'nothing')}"

    @property
    def subgraphs(self) -> tuple[Graph, ...]:
        """Graphs in its attributes (control flow)."""
        return tuple(value for value in _flat(self.attributes) if isinstance(value, Graph))

    def integer(self, attribute: str, default: int) -> int:
        """An attribute of type int, or `default`."""
        value = self.attributes.get(attribute, default)
        return value if isinstance(value, int) else default


@dataclass(frozen=True, slots=True, eq=False)
class OnnxGraph(Graph):
    """A whole file: its main graph and metadata."""

    ir_version: int
    opsets: Mapping[str, int]
    """By domain; the standard operators have the empty domain."""
    producer: str
    functions: Mapping[str, Graph]
    """Operators defined in the file, by domain and name; the graph of a function has names but no types."""

    @property
    def opset(self) -> int:
        """Opset of the standard operators; 0 if the file does not say."""
        return self.opsets.get("", 0)

    @property
    def external_tensors(self) -> tuple[str, ...]:
        """Names of the tensors whose values are in another file, which the hash of this file does not cover."""
        return tuple(tensor.name or "unnamed" for tensor in tensors_of(self) if tensor.data is None)


def graphs_of(model: OnnxGraph) -> Iterator[Graph]:
    """The main graph, the graphs in its nodes, and the file's functions."""
    waiting: list[Graph] = [model, *model.functions.values()]
    while waiting:
        graph = waiting.pop(0)
        yield graph
        waiting += [inner for node in graph.nodes for inner in node.subgraphs]


def tensors_of(model: OnnxGraph) -> Iterator[Tensor]:
    """Every constant of a file."""
    for graph in graphs_of(model):
        yield from graph.initializers.values()
        for sparse in graph.sparse_initializers.values():
            yield from (sparse.values, sparse.indices)
        for node in graph.nodes:
            yield from tensors_in(node)


def tensors_in(node: Node) -> Iterator[Tensor]:
    """The constants in a node's own attributes."""
    for value in _flat(node.attributes):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, SparseTensor):
            yield from (value.values, value.indices)


def _flat(attributes: Mapping[str, AttributeValue]) -> Iterator[object]:
    for value in attributes.values():
        if isinstance(value, tuple):
            yield from value
        else:
            yield value
