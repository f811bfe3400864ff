"""Rules about what a target would refuse or silently get wrong, checked before a build and reported with the node."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.onnxfile.allow_list import not_on_the_list
from sefa_edge.profiles.onnxfile.graph import (
    DTYPES,
    FLOAT8_AND_LESS,
    Node,
    OnnxGraph,
    Tensor,
    graphs_of,
    tensors_in,
)
from sefa_edge.profiles.onnxfile.quantisation_rules import INTEGER_OPS, broken_quantisers
from sefa_edge.profiles.onnxfile.targets import OLDEST_OPSET, BrokenRule, Target
from sefa_edge.profiles.onnxfile.wiring import QUANTISERS, Wiring

RANDOM_OPS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
ONNX_RUNTIME_DOMAIN = "com.microsoft"
TENSORRT_INPUTS = frozenset({"float32", "float16", "uint8", "int8", "int32", "bool"})
BLOCK_VALUES = 1 << 20


def broken_rules(model: OnnxGraph, target: Target) -> list[BrokenRule]:
    """Every rule of `target` that a file breaks; empty if it can be built and computes what it should."""
    wirings = [Wiring(graph) for graph in graphs_of(model)]
    broken = [found for rule in MODEL_RULES for found in rule(model, target)]
    for wiring in wirings:
        for node in wiring.graph.nodes:
            found_in_node = [found for rule in NODE_RULES for found in rule(node, wiring, target)]
            broken += found_in_node or list(_not_listed(node, wiring, target))
        broken += _not_finite(wiring)
        broken += broken_quantisers(wiring, model.opset, target)
    return broken


def require_rules(model: OnnxGraph, target: Target) -> None:
    """Refuse a file that `target` would refuse or get wrong.

    Raises:
        InputError: names the first node, what is wrong with it, and how many more there are.
    """
    if broken := broken_rules(model, target):
        first, more = broken[0], f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise InputError(f"{target.name} cannot run '{first.node}': {first.explanation}{more}", first.hint)


def _opset(model: OnnxGraph, target: Target) -> Iterator[BrokenRule]:
    if not OLDEST_OPSET <= model.opset <= target.newest_opset:
        found = f"opset {model.opset}" if model.opset else "no opset"
        yield BrokenRule(
            "model",
            "opset",
            f"the file has {found}; {target.name} accepts {OLDEST_OPSET} to {target.newest_opset}",
            f"export with an opset of {OLDEST_OPSET} to {target.newest_opset}",
        )


def _own_operators(model: OnnxGraph, _target: Target) -> Iterator[BrokenRule]:
    for name in model.functions:
        yield BrokenRule(name, "function", "this operator is defined in the file", "inline its functions")


def _external_data(model: OnnxGraph, _target: Target) -> Iterator[BrokenRule]:
    for name in model.external_tensors:
        problem = "its values are in another file, which no hash covers"
        yield BrokenRule(name, "external-data", problem, "export to one file")


def _sparse(model: OnnxGraph, target: Target) -> Iterator[BrokenRule]:
    for graph in graphs_of(model):
        for name in graph.sparse_initializers:
            if target.is_tensorrt:
                yield BrokenRule(name, "sparse", f"{target.name} has no sparse tensors", "store it densely")


def _static_shapes(model: OnnxGraph, _target: Target) -> Iterator[BrokenRule]:
    for side, values in (("input", model.inputs), ("output", model.outputs)):
        for value in values:
            if not value.is_static or 0 in (value.shape or ()):
                shape = (
                    "unknown" if value.shape is None else " ".join("?" if d is None else str(d) for d in value.shape)
                )
                problem = f"this {side} has the shape {shape}; a policy has one fixed shape"
                yield BrokenRule(value.name, "dynamic-shape", problem, "export without dynamic axes")


def _input_types(model: OnnxGraph, target: Target) -> Iterator[BrokenRule]:
    for value in model.inputs:
        if target.is_tensorrt and value.dtype not in TENSORRT_INPUTS | FLOAT8_AND_LESS:
            problem = f"this input is {value.dtype}, which TensorRT refuses or narrows"
            yield BrokenRule(value.name, "input-type", problem, "use uint8 for images, float32 for everything else")


def _small_float_values(model: OnnxGraph, target: Target) -> Iterator[BrokenRule]:
    for value in (*model.inputs, *model.outputs):
        if not target.allows_fp8 and value.dtype in FLOAT8_AND_LESS:
            yield _no_fp8(value.name, {value.dtype}, target)


def _domain(node: Node, _wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    if node.domain == ONNX_RUNTIME_DOMAIN and target.is_tensorrt:
        problem = f"{node.op_type} of {node.domain} exists in ONNX Runtime only"
        yield BrokenRule(node.label, "domain", problem, "export without ONNX Runtime's own optimisations")
    elif node.domain not in ("", ONNX_RUNTIME_DOMAIN):
        problem = f"{node.op_type} of '{node.domain}' is unknown"
        yield BrokenRule(node.label, "domain", problem, "use the standard operators of ai.onnx")


def _operator(node: Node, _wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    if node.op_type in RANDOM_OPS:
        problem = f"{node.op_type} draws random numbers; the same noise must give the same chunk"
        yield BrokenRule(node.label, "random", problem, "make the noise an input")
    if node.op_type in CONTROL_FLOW or node.subgraphs:
        problem = f"{node.op_type} is control flow; an engine must execute the same steps in every call"
        yield BrokenRule(node.label, "control-flow", problem, "unroll loops and decide at export")
    if not node.domain and node.op_type in target.missing_ops:
        problem = f"{target.name} cannot run {node.op_type} as one operator"
        yield BrokenRule(node.label, "missing-operator", problem, "export it decomposed into simpler ones")


def _not_listed(node: Node, wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    """The allow list, for nodes that no rule with a better hint has reported."""
    if node.op_type not in INTEGER_OPS:
        yield from not_on_the_list(node, wiring, target)


def _pictures(node: Node, wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    inputs = {value.name for value in wiring.graph.inputs if value.dtype == "uint8"}
    if target.is_tensorrt and node.op_type != "Cast" and (found := inputs & set(node.inputs)):
        problem = f"{node.op_type} reads the uint8 input '{min(found)}'; TensorRT can only cast such a tensor"
        yield BrokenRule(node.label, "uint8-input", problem, "cast the image before anything else")


def _small_floats(node: Node, wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    if target.allows_fp8:
        return
    declared = {DTYPES.get(node.integer(name, 0), "") for name in ("to", "output_dtype", "dtype")}
    inner = {tensor.dtype for tensor in tensors_in(node)}
    values = {wiring.dtype(name) for name in (*node.inputs, *node.outputs)}
    if found := (declared | inner | values) & FLOAT8_AND_LESS:
        yield _no_fp8(node.label, found, target)


def _no_fp8(name: str, dtypes: set[str], target: Target) -> BrokenRule:
    problem = f"it has {' and '.join(sorted(dtypes))}; an Orin with {target.name} supports no type below INT8 and FP16"
    return BrokenRule(name, "fp8", problem, "quantise to INT8")


def _not_finite(wiring: Wiring) -> Iterator[BrokenRule]:
    for tensor in _constants_of(wiring):
        values = tensor.floats()
        if values is None or (bad := _count_not_finite(values)) == 0:
            continue
        users = wiring.consumers.get(tensor.name, [])
        if any(user.op_type in QUANTISERS and user.input(1) == tensor.name for user in users):
            continue  # reported as a scale
        node = users[0].label if users else tensor.name
        problem = f"{bad} of {values.size} values of its constant '{tensor.name}' are NaN or infinite"
        yield BrokenRule(
            node, "not-finite", problem, "the training diverged or float16 overflowed; train or export again"
        )


def _constants_of(wiring: Wiring) -> Iterator[Tensor]:
    """Each constant once, under the name by which nodes use it."""
    yield from wiring.graph.initializers.values()
    for sparse in wiring.graph.sparse_initializers.values():
        yield sparse.values
    for node in wiring.graph.nodes:
        known = wiring.constant(node.output) if node.op_type == "Constant" else None
        for tensor in tensors_in(node) if known is None else (known,):
            yield Tensor(node.output, tensor.dtype, tensor.dims, tensor.data)


def _count_not_finite(values: np.ndarray) -> int:
    flat = values.reshape(-1)
    blocks = (flat[at : at + BLOCK_VALUES] for at in range(0, flat.size, BLOCK_VALUES))
    return sum(int(np.count_nonzero(~np.isfinite(block))) for block in blocks)


MODEL_RULES: tuple[Callable[[OnnxGraph, Target], Iterator[BrokenRule]], ...] = (
    _opset,
    _own_operators,
    _external_data,
    _sparse,
    _static_shapes,
    _input_types,
    _small_float_values,
)
NODE_RULES: tuple[Callable[[Node, Wiring, Target], Iterator[BrokenRule]], ...] = (
    _domain,
    _operator,
    _pictures,
    _small_floats,
)
