"""TensorRT's requirements for QuantizeLinear and DequantizeLinear: signed, symmetric, weights per output channel.

Sources: NVIDIA TensorRT documentation, "Working with Quantized Types"; the rest was measured on its parser. A uint8
zero point is the dangerous case: the parser only warns and reads the values as int8, and the arm moves elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sefa_edge.profiles.onnxfile.graph import FLOAT8_AND_LESS, Node, Tensor
from sefa_edge.profiles.onnxfile.targets import BrokenRule, Target
from sefa_edge.profiles.onnxfile.wiring import MAX_STEPS, QUANTISERS, Wiring

SMALLEST_SCALE, LARGEST_SCALE = 1e-12, 1e5
"""Range of plausible scales of a policy's activations; scales outside it were never calibrated."""
HALF_SCALES_SINCE_OPSET = 19
TRANSPARENT = QUANTISERS | {"Identity", "Cast"}
"""Operators that change the type of a value but not its shape."""
INTEGER_OPS = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"})
SYMMETRIC = "quantise with signed, symmetric INT8: ActivationSymmetric, WeightSymmetric, QInt8"
PER_CHANNEL = "quantise weights along their output channels: axis 0 of Conv and Gemm (transB=1), 1 of ConvTranspose"


@dataclass(frozen=True, slots=True)
class Quantiser:
    """A QuantizeLinear or DequantizeLinear and its known properties. The name of an absent zero point is ''."""

    node: Node
    scale_name: str
    scale: Tensor | None
    zero_point_name: str
    zero_point: Tensor | None
    dtypes: frozenset[str]
    """Types of its quantised side, from all sources."""
    is_weight: bool


def broken_quantisers(wiring: Wiring, opset: int, target: Target) -> Iterator[BrokenRule]:
    """The rules of this module for one graph."""
    for node in wiring.graph.nodes:
        if target.is_tensorrt and node.op_type in INTEGER_OPS:
            yield BrokenRule(node.label, "integer-operator", f"{node.op_type} is not Q/DQ", "export in the Q/DQ format")
    for node in wiring.graph.nodes:
        if node.op_type in QUANTISERS:
            quantiser = _quantiser(wiring, node)
            yield from _scale_values(quantiser)
            yield from _half_scale(quantiser, wiring, opset)
            if target.is_tensorrt:
                for rule in TENSORRT_RULES:
                    yield from rule(quantiser, wiring)


def _quantiser(wiring: Wiring, node: Node) -> Quantiser:
    side = node.output if node.op_type == "QuantizeLinear" else node.input(0)
    dtypes = {wiring.dtype(side), wiring.dtype(node.input(2))} - {"undefined"}
    return Quantiser(
        node=node,
        scale_name=node.input(1),
        scale=wiring.constant(node.input(1)),
        zero_point_name=node.input(2),
        zero_point=wiring.constant(node.input(2)),
        dtypes=frozenset(dtypes),
        is_weight=wiring.is_weight(node.input(0)),
    )


def _scale_values(quantiser: Quantiser) -> Iterator[BrokenRule]:
    values = None if quantiser.scale is None else quantiser.scale.floats()
    if values is None or not values.size:
        return
    low, high = float(values.min()), float(values.max())  # NaN if any value is NaN
    if not SMALLEST_SCALE <= low <= high <= LARGEST_SCALE:
        shown = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        yield BrokenRule(
            quantiser.node.label,
            "scale-value",
            f"its scale '{quantiser.scale_name}' is {shown}, outside {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}",
            "calibrate on data that excites this layer; a float16 scale may have become 0",
        )


def _half_scale(quantiser: Quantiser, wiring: Wiring, opset: int) -> Iterator[BrokenRule]:
    dtype = wiring.dtype(quantiser.scale_name)
    if dtype in ("float16", "bfloat16") and opset < HALF_SCALES_SINCE_OPSET:
        yield BrokenRule(
            quantiser.node.label,
            "half-scale",
            f"its scale '{quantiser.scale_name}' is {dtype}, which opset {opset} does not allow",
            f"convert to opset {HALF_SCALES_SINCE_OPSET} before converting to float16",
        )


def _quantised_type(quantiser: Quantiser, _wiring: Wiring) -> Iterator[BrokenRule]:
    label = quantiser.node.label
    if "uint8" in quantiser.dtypes:
        what = f"zero point '{quantiser.zero_point_name}'" if quantiser.zero_point_name else "missing zero point"
        problem = f"its {what} means uint8, which TensorRT reads as int8: wrong numbers"
        yield BrokenRule(label, "uint8-zero-point", problem, SYMMETRIC)
    if "int32" in quantiser.dtypes:
        problem = "it dequantises int32, as a quantised bias does; TensorRT accepts biases in floating point"
        yield BrokenRule(label, "int32-bias", problem, "quantise with QuantizeBias=False")
    # FP8 and smaller types have a separate rule, because some targets allow them.
    others = quantiser.dtypes - {"int8", "uint8", "int32"} - FLOAT8_AND_LESS
    if others or quantiser.node.integer("block_size", 0):
        kind = " and ".join(sorted(others)) or "blocks"
        yield BrokenRule(label, "quantised-type", f"it quantises to {kind}, not to plain int8", SYMMETRIC)


def _zero_point(quantiser: Quantiser, _wiring: Wiring) -> Iterator[BrokenRule]:
    name, label = quantiser.zero_point_name, quantiser.node.label
    if not name:
        return
    data = None if quantiser.zero_point is None else quantiser.zero_point.data
    if data is None:
        problem = f"its zero point '{name}' is computed or in another file, so it cannot be read"
        yield BrokenRule(label, "zero-point-unreadable", problem, "zero points must be constants")
    elif count := int(np.count_nonzero(data)):
        problem = f"its zero point '{name}' is not 0 ({count} of {data.size})"
        yield BrokenRule(label, "zero-point-not-zero", problem, SYMMETRIC)


def _scale_constant(quantiser: Quantiser, _wiring: Wiring) -> Iterator[BrokenRule]:
    if quantiser.scale is None or quantiser.scale.data is None:
        yield BrokenRule(
            quantiser.node.label,
            "scale-unreadable",
            f"its scale '{quantiser.scale_name}' is computed or in another file, so it cannot be read",
            "quantise statically: scales must be constants",
        )


def _activation_scale(quantiser: Quantiser, wiring: Wiring) -> Iterator[BrokenRule]:
    if quantiser.is_weight or quantiser.scale is None or quantiser.scale.size <= 1:
        return
    source = wiring.producers.get(quantiser.node.input(0))
    if source is not None and source.op_type == "QuantizeLinear":
        return  # reported there
    problem = f"it quantises an activation with {quantiser.scale.size} scales; TensorRT computes with one"
    hint = "calibrate activations per tensor; only weights have a scale per channel"
    yield BrokenRule(quantiser.node.label, "activation-per-channel", problem, hint)


def _weight_axis(quantiser: Quantiser, wiring: Wiring) -> Iterator[BrokenRule]:
    """Per-channel scales must be along the output channels of the operators that multiply with the weight."""
    if not quantiser.is_weight or quantiser.scale is None or quantiser.scale.size <= 1:
        return
    if "int32" in quantiser.dtypes or quantiser.node.integer("block_size", 0):
        return  # already reported
    dims = _dims(wiring, quantiser.node.input(0))
    axis, label = quantiser.node.integer("axis", 1), quantiser.node.label
    if dims is None or not -len(dims) <= axis < len(dims):
        yield BrokenRule(label, "weight-axis", f"its axis {axis} cannot be checked against a shape", PER_CHANNEL)
    elif dims[axis] != quantiser.scale.size:
        problem = f"it has {quantiser.scale.size} scales for axis {axis} of a weight with shape {list(dims)}"
        yield BrokenRule(label, "weight-axis", problem, PER_CHANNEL)
    else:
        yield from _follow(quantiser.node, axis % len(dims), len(dims), wiring)


def _follow(quantiser: Node, axis: int, rank: int, wiring: Wiring) -> Iterator[BrokenRule]:
    """From a quantiser of a weight to all operators that multiply with it; `axis` changes with transpositions."""
    reached = {(quantiser.output, axis)}
    for _ in range(MAX_STEPS):
        passed_on: set[tuple[str, int]] = set()
        for name, at in sorted(reached):
            for consumer in wiring.consumers.get(name, []):
                if (moved := _passes_on(consumer, name, at, rank)) is not None:
                    passed_on.add((consumer.output, moved))
                elif at != (expected := _output_channels(consumer, name, rank)):
                    problem = f"its scales are along axis {at} of the weight of {consumer.op_type} '{consumer.label}'"
                    wanted = "which must have a single scale" if expected is None else f"TensorRT needs axis {expected}"
                    yield BrokenRule(quantiser.label, "weight-axis", f"{problem}; {wanted}", PER_CHANNEL)
        reached = passed_on
    if reached:
        problem = "its weight cannot be followed to a multiplication"
        yield BrokenRule(quantiser.label, "weight-axis", problem, PER_CHANNEL)


def _passes_on(node: Node, name: str, axis: int, rank: int) -> int | None:
    """The axis after a node that only passes a value on; None if it does more."""
    if node.input(0) != name or node.inputs.count(name) > 1:
        return None
    if node.op_type in TRANSPARENT:
        return axis
    order = node.attributes.get("perm", tuple(reversed(range(rank))))
    if node.op_type == "Transpose" and isinstance(order, tuple) and len(order) == rank and axis in order:
        return order.index(axis)
    return None


def _output_channels(node: Node, name: str, rank: int) -> int | None:
    """The axis of a weight's output channels; None if the value is not a weight."""
    if node.input(1) != name or node.inputs.count(name) > 1:
        return None
    gemm = 0 if node.integer("transB", 0) else 1
    return {"Conv": 0, "ConvTranspose": 1, "Gemm": gemm, "MatMul": rank - 1}.get(node.op_type)


def _dims(wiring: Wiring, name: str) -> tuple[int, ...] | None:
    """Shape of a weight, even after its quantiser."""
    nodes = wiring.chain(name, TRANSPARENT)
    tensor = wiring.constant(nodes[-1].input(0) if nodes else name)
    return None if tensor is None else tensor.dims


TENSORRT_RULES: tuple[Callable[[Quantiser, Wiring], Iterator[BrokenRule]], ...] = (
    _quantised_type,
    _zero_point,
    _scale_constant,
    _activation_scale,
    _weight_axis,
)
