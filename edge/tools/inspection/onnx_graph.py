"""Summary of an ONNX file in numbers, and which targets accept it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sefa_edge.profiles.onnxfile.graph import Graph, OnnxGraph, Tensor, ValueInfo, graphs_of, tensors_of
from sefa_edge.profiles.onnxfile.integer_arithmetic import saturating_layers
from sefa_edge.profiles.onnxfile.rules import broken_rules
from sefa_edge.profiles.onnxfile.targets import BrokenRule, Target
from sefa_edge.profiles.onnxfile.wiring import COMPUTING_OPS, Wiring

INDEX_DTYPES = frozenset({"int32", "int64", "bool", "string"})
"""Constants of these types are shapes, axes and indices; all others are counted as parameters."""


@dataclass(frozen=True, slots=True)
class StoredValues:
    """All constants of one type."""

    tensors: int
    values: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rules of one target that the file breaks."""

    target: str
    broken: tuple[BrokenRule, ...]


@dataclass(frozen=True, slots=True)
class OnnxSummary:
    """Summary of an ONNX file."""

    opset: int
    ir_version: int
    producer: str
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    operators: Mapping[str, int]
    """By name, most frequent first; operators of other domains include the domain."""
    layers: Mapping[str, int]
    """Convolutions and matrix products by the type in which they are computed."""
    parameters: int
    stored: Mapping[str, StoredValues]
    """By type, largest first."""
    verdicts: tuple[Verdict, ...]


def summarise(model: OnnxGraph, targets: tuple[Target, ...]) -> OnnxSummary:
    """Count the contents of a file, and check it for `targets`."""
    graphs = list(graphs_of(model))
    operators = Counter(_operator(node.domain, node.op_type) for graph in graphs for node in graph.nodes)
    layers = Counter(precision for graph in graphs for precision in _precisions(graph))
    stored = _stored(list(tensors_of(model)))
    return OnnxSummary(
        opset=model.opset,
        ir_version=model.ir_version,
        producer=model.producer,
        inputs=model.inputs,
        outputs=model.outputs,
        operators=dict(operators.most_common()),
        layers=dict(layers.most_common()),
        parameters=sum(kind.values for dtype, kind in stored.items() if dtype not in INDEX_DTYPES),
        stored=stored,
        verdicts=tuple(Verdict(target.name, _broken(model, target)) for target in targets),
    )


def _broken(model: OnnxGraph, target: Target) -> tuple[BrokenRule, ...]:
    """The broken rules, including layers that ONNX Runtime computes correctly on some processors only."""
    saturating = () if target.is_tensorrt else saturating_layers(model)
    return (*broken_rules(model, target), *saturating)


def _operator(domain: str, op_type: str) -> str:
    return f"{domain}::{op_type}" if domain else op_type


def _precisions(graph: Graph) -> Iterator[str]:
    wiring = Wiring(graph)
    for node in graph.nodes:
        if not node.domain and node.op_type in COMPUTING_OPS:
            yield wiring.precision(node)


def _stored(tensors: list[Tensor]) -> dict[str, StoredValues]:
    kinds: dict[str, StoredValues] = {}
    for tensor in tensors:
        kind = kinds.get(tensor.dtype, StoredValues(0, 0, 0))
        kinds[tensor.dtype] = StoredValues(kind.tensors + 1, kind.values + tensor.size, kind.bytes + tensor.byte_count)
    return dict(sorted(kinds.items(), key=lambda item: -item[1].bytes))
