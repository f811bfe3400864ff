"""Reads untrusted ONNX files without the onnx package: strictly and within bounds.

Field numbers: onnx.proto of ONNX 1.23. Documentation, metadata and device configurations are skipped; training graphs
and segmented tensors are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sefa_edge.profiles.files import read_up_to
from sefa_edge.profiles.onnxfile.graph import AttributeValue, Graph, Node, OnnxGraph, SparseTensor, Tensor, ValueInfo
from sefa_edge.profiles.onnxfile.tensor import named, read_sparse, read_tensor, read_type, read_value_info
from sefa_edge.profiles.onnxfile.wire import Allowance, Message, OnnxFormatError

MAX_FILE_BYTES = 512 << 20
MAX_NODES = 50_000
IR_VERSIONS = range(3, 100)
MAX_OPSET = 1000

ATTRIBUTE_FIELDS = {1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 8: 9, 9: 10, 10: 11, 11: 22, 12: 23, 13: 14, 14: 15}
"""AttributeProto.AttributeType, and the field of AttributeProto with its value."""


@dataclass(slots=True)
class Scope:
    """The names that the nodes of a graph may use: those defined so far, and those of enclosing graphs."""

    outer: Scope | None
    names: set[str] = field(default_factory=set)

    def knows(self, name: str) -> bool:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return True
            scope = scope.outer
        return False

    def add(self, name: str) -> None:
        if name in self.names:
            raise OnnxFormatError(f"the ONNX file defines '{name}' twice", "export again")
        self.names.add(name)


def load_onnx(path: Path) -> OnnxGraph:
    """Read an ONNX file.

    Raises:
        InputError: missing, unreadable, not a regular file, or too large.
        OnnxFormatError: damaged.
    """
    try:
        return read_onnx(read_up_to(path, MAX_FILE_BYTES + 1))
    except OnnxFormatError as error:
        raise OnnxFormatError(f"{path}: {error}", error.hint) from None


def read_onnx(content: bytes) -> OnnxGraph:
    """Parse an ONNX file. Its tensors are views of `content` where possible.

    Raises:
        OnnxFormatError: damaged, contradictory, or beyond the bounds of this reader.
    """
    if len(content) > MAX_FILE_BYTES:
        raise OnnxFormatError(f"the ONNX file has {len(content)} bytes, over {MAX_FILE_BYTES}", "is it a policy?")
    model = Message(memoryview(content), Allowance())
    ir_version, body = model.integer(1), model.child(7)
    if ir_version not in IR_VERSIONS or body is None:
        raise OnnxFormatError("the file is not a valid ONNX file: it has no graph or no version")
    if model.has(20):
        raise OnnxFormatError("the ONNX file has a training graph", "export for inference")
    graph = _graph(body, None)
    return OnnxGraph(
        name=graph.name,
        nodes=graph.nodes,
        initializers=graph.initializers,
        sparse_initializers=graph.sparse_initializers,
        inputs=graph.inputs,
        outputs=graph.outputs,
        value_info=graph.value_info,
        ir_version=ir_version,
        opsets=_opsets(model),
        producer=" ".join(filter(None, (model.name(2), model.name(3)))),
        functions=named("function", [_function(model.open(part)) for part in model.children(25)]),
    )


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _opsets(model: Message) -> dict[str, int]:
    pairs = []
    for part in model.children(8):
        entry = model.open(part)
        pairs.append((_domain(entry.name(1)), entry.integer(2)))
        if not 1 <= pairs[-1][1] <= MAX_OPSET:
            raise OnnxFormatError(f"the ONNX file asks for opset {pairs[-1][1]} of '{pairs[-1][0] or 'ai.onnx'}'")
    return named("opset of", pairs)


def _function(message: Message) -> tuple[str, Graph]:
    scope = Scope(None)
    inputs = message.names(4)
    for name in inputs:
        scope.add(name)
    label = f"{_domain(message.name(10))}::{message.name(1)}"
    if overload := message.name(13):
        label += f":{overload}"
    nodes = _nodes(message, 7, scope)
    untyped = [tuple(ValueInfo(name, "undefined", None) for name in names) for names in (inputs, message.names(5))]
    return label, Graph(message.name(1), nodes, {}, {}, untyped[0], untyped[1], {})


def _graph(message: Message, outer: Scope | None) -> Graph:
    scope = Scope(outer)
    inputs = named("input", [(value.name, value) for value in _value_infos(message, 11)])
    tensors = [read_tensor(message.open(part)) for part in message.children(5)]
    initializers = named("initializer", [(tensor.name, tensor) for tensor in tensors])
    sparse_tensors = [read_sparse(message.open(part)) for part in message.children(15)]
    sparse_initializers = named("initializer", [(tensor.values.name, tensor) for tensor in sparse_tensors])
    for name in (*dict.fromkeys((*inputs, *initializers)), *sparse_initializers):  # an input may have a default
        scope.add(name)
    nodes = _nodes(message, 1, scope)
    outputs = _value_infos(message, 12)
    for value in outputs:
        if not scope.knows(value.name):
            raise OnnxFormatError(f"the ONNX file has an output '{value.name}' that no node computes", "export again")
    return Graph(
        name=message.name(2),
        nodes=nodes,
        initializers=initializers,
        sparse_initializers=sparse_initializers,
        inputs=tuple(inputs.values()),
        outputs=outputs,
        value_info=named("type of", [(value.name, value) for value in _value_infos(message, 13)]),
    )


def _value_infos(message: Message, number: int) -> tuple[ValueInfo, ...]:
    return tuple(read_value_info(message.open(part)) for part in message.children(number))


def _nodes(message: Message, number: int, scope: Scope) -> tuple[Node, ...]:
    parts = message.children(number)
    if len(parts) > MAX_NODES:
        raise OnnxFormatError(f"the ONNX file has {len(parts)} nodes in one graph, over {MAX_NODES}")
    return tuple(_node(message.open(part), scope) for part in parts)


def _node(message: Message, scope: Scope) -> Node:
    node = Node(
        name=message.name(3),
        op_type=message.name(4),
        domain=_domain(message.name(7)),
        inputs=tuple(message.names(1)),
        outputs=tuple(message.names(2)),
        attributes=named("attribute", [_attribute(message.open(part), scope) for part in message.children(5)]),
    )
    if not node.op_type:
        raise OnnxFormatError(f"the ONNX file has a node '{node.label}' without an operator", "export again")
    for name in filter(None, node.inputs):
        if not scope.knows(name):
            raise OnnxFormatError(f"node '{node.label}' reads '{name}', which no earlier node computes", "export again")
    for name in filter(None, node.outputs):
        scope.add(name)
    return node


def _attribute(message: Message, scope: Scope) -> tuple[str, AttributeValue]:
    name, kind = message.name(1), message.integer(20)
    present = [number for number in ATTRIBUTE_FIELDS.values() if message.has(number)]
    if kind == 0 and len(present) == 1:  # very old files do not have the type
        kind = next(key for key, number in ATTRIBUTE_FIELDS.items() if number == present[0])
    if message.has(21):  # the value comes from the node that calls this function
        return name, ()
    number = ATTRIBUTE_FIELDS.get(kind)
    if number is None or not set(present) <= {number}:
        raise OnnxFormatError(f"attribute '{name}' of the ONNX file has no single type", "export again")
    return name, ATTRIBUTE_READERS[kind](message, number, scope)


def _only(values: tuple[AttributeValue, ...]) -> AttributeValue:
    if len(values) != 1:
        raise OnnxFormatError(f"an attribute of the ONNX file has {len(values)} values, expected one")
    return values[0]


def _tensors(message: Message, number: int, _scope: Scope) -> tuple[Tensor, ...]:
    return tuple(read_tensor(message.open(part)) for part in message.children(number))


def _graphs(message: Message, number: int, scope: Scope) -> tuple[Graph, ...]:
    return tuple(_graph(message.open(part), scope) for part in message.children(number))


def _sparse_tensors(message: Message, number: int, _scope: Scope) -> tuple[SparseTensor, ...]:
    return tuple(read_sparse(message.open(part)) for part in message.children(number))


def _types(message: Message, number: int, _scope: Scope) -> tuple[ValueInfo, ...]:
    return tuple(read_type("", message.open(part)) for part in message.children(number))


ATTRIBUTE_READERS: Mapping[int, Callable[[Message, int, Scope], AttributeValue]] = {
    1: lambda message, number, scope: message.real(number),
    2: lambda message, number, scope: message.integer(number),
    3: lambda message, number, scope: message.content(number),
    4: lambda message, number, scope: _only(_tensors(message, number, scope)),
    5: lambda message, number, scope: _only(_graphs(message, number, scope)),
    6: lambda message, number, scope: tuple(message.reals(number)),
    7: lambda message, number, scope: tuple(message.integers(number)),
    8: lambda message, number, scope: tuple(message.contents(number)),
    9: _tensors,
    10: _graphs,
    11: lambda message, number, scope: _only(_sparse_tensors(message, number, scope)),
    12: _sparse_tensors,
    13: lambda message, number, scope: _only(_types(message, number, scope)),
    14: _types,
}
