"""Strongly typed float16: every tensor has its final type, as required by TensorRT 11, and by 10 on request.

The signal path stays float32: scaling of inputs, the softmax whose expected coordinates are the features, the last
layer, the ODE's state, joint units. Everything else is float16, Q/DQ scales included.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from sefa_edge.export.int8.layers import Graph
from sefa_edge.profiles.errors import InputError

TYPED_OPSET = 19
"""The first opset in which Q/DQ scales may be float16."""
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A typed float16 version of a float32 model (with or without Q/DQ), inputs and output unchanged.

    Raises:
        InputError: a weight does not fit into float16.
    """
    converted = version_converter.convert_version(model, TYPED_OPSET)
    _name_all(converted, model)
    graph = Graph(converted)
    writer = _HalfWriter(graph, single_nodes(graph))
    for node in converted.graph.node:
        writer.add(node)
    return writer.finish()


def single_nodes(graph: Graph) -> set[str]:
    """Names of the nodes that stay in float32."""
    inner = graph.after_a_layer & graph.before_a_layer
    weighted = {node.name for node in graph.weighted}
    single = set(graph.nodes) - inner - weighted
    for node in graph.weighted:
        if node.name not in graph.before_a_layer:  # the last layer, and the normalisation of its input
            single |= {node.name, *(graph.producer[name].name for name in node.input[:1] if name in graph.producer)}
    for node in graph.model.graph.node:
        behind_softmax = any(
            name in graph.producer and graph.producer[name].op_type == "Softmax" for name in node.input
        )
        if node.op_type == "Softmax" or behind_softmax or _carries_state(node, graph, single):
            single.add(node.name)
    return single


def _carries_state(node: onnx.NodeProto, graph: Graph, single: set[str]) -> bool:
    """An Euler step x + v / steps, where x is the noise or the sum of the previous step."""
    if node.op_type != "Add" or any(name in graph.initialisers for name in node.input):
        return False
    inputs = {value.name for value in graph.model.graph.input}
    states = (graph.producer[name] for name in node.input if name in graph.producer)
    return any(name in inputs for name in node.input) or any(p.op_type == "Add" and p.name in single for p in states)


class _HalfWriter:
    """Copies nodes in their precision, with casts between precisions."""

    def __init__(self, graph: Graph, single: set[str]) -> None:
        self._graph, self._single = graph, single
        self._types = _tensor_types(graph.model)
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: dict[str, onnx.TensorProto] = {}
        self._casts: dict[tuple[str, int], str] = {}

    def add(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        precision = TensorProto.FLOAT if node.name in self._single else TensorProto.FLOAT16
        for index, name in enumerate(node.input):
            if self._type_of(name) in FLOATS:
                copy.input[index] = self._in_precision(name, precision)
            elif name in self._graph.initialisers:
                self._initialisers[name] = self._graph.initialisers[name]
        if node.op_type == "Cast" and copy.attribute[0].i in FLOATS:
            copy.attribute[0].i = precision
        for name in node.output:
            if self._types.get(name) in FLOATS:
                self._types[name] = precision
        self._nodes.append(copy)

    def finish(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self._graph.model)
        del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
        model.graph.node.extend(self._nodes)
        model.graph.initializer.extend(self._initialisers.values())
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _type_of(self, name: str) -> int:
        initialiser = self._graph.initialisers.get(name)
        return self._types.get(name, TensorProto.UNDEFINED) if initialiser is None else initialiser.data_type

    def _in_precision(self, name: str, precision: int) -> str:
        if name in self._graph.initialisers:
            return self._constant(name, precision)
        if self._types[name] == precision:
            return name
        if (name, precision) not in self._casts:
            suffix = "half" if precision == TensorProto.FLOAT16 else "single"
            self._casts[name, precision] = f"{name}.{suffix}"
            self._nodes.append(helper.make_node("Cast", [name], [f"{name}.{suffix}"], f"{name}/{suffix}", to=precision))
        return self._casts[name, precision]

    def _constant(self, name: str, precision: int) -> str:
        if precision == TensorProto.FLOAT:
            self._initialisers[name] = self._graph.initialisers[name]
            return name
        half_name = f"{name}.half"
        if half_name not in self._initialisers:
            self._initialisers[half_name] = numpy_helper.from_array(_as_half(self._graph.array(name), name), half_name)
        return half_name


def store_matrices_as_half(model: onnx.ModelProto) -> None:
    """Store float32 matrices of an INT8 model as float16 with a Cast, which every engine folds."""
    graph = Graph(model)
    nodes = []
    for node in model.graph.node:
        weight = graph.initialisers.get(node.input[1]) if node.op_type == "Gemm" else None
        if weight is not None and weight.data_type == TensorProto.FLOAT:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(_as_half(graph.array(name), name), f"{name}.half"))
            nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], f"{name}/Cast", to=TensorProto.FLOAT))
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _as_half(values: np.ndarray, name: str) -> np.ndarray:
    if np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
        raise InputError(
            f"'{name}' has {np.abs(values).max():.3g}, beyond the range of float16", "export with --precision fp32"
        )
    return values.astype(np.float16)


def _tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    values: Iterable[onnx.ValueInfoProto] = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def _name_all(converted: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Restore the names of nodes, which the version converter drops."""
    names = {node.output[0]: node.name for node in original.graph.node}
    for node in converted.graph.node:
        node.name = names.get(node.output[0], node.output[0])
