"""The operators, attributes and types that TensorRT's parser accepts, as a list; anything else is refused.

The list is `tensorrt_operators.json` in this folder, which names its sources. An attribute without a rule there may
have any value; `{"each": [1]}` restricts the elements of a list, `{"length": [2, 3]}` their number; `{"iota": true}`
requires 0, 1, 2 and so on. `ignored` names attributes that the parser of a version does not read, so that the engine
would compute something else; `ranks` are the allowed numbers of dimensions of the first input.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Annotated

from pydantic import Field

from sefa_edge.profiles.json_text import parse_json_text
from sefa_edge.profiles.onnxfile.graph import FLOAT8_AND_LESS, AttributeValue, Node
from sefa_edge.profiles.onnxfile.targets import BrokenRule, Target
from sefa_edge.profiles.onnxfile.wiring import QUANTISERS, Wiring
from sefa_edge.profiles.quantities import CountOrZero
from sefa_edge.profiles.strict import StrictModel, validate

FILE = "tensorrt_operators.json"
DTYPES_ANYWHERE = frozenset(
    {"float32", "float16", "bfloat16", "int8", "uint8", "int4", "int32", "int64", "bool", "undefined"}
)
"""Types that any value may have; types smaller than INT8 have a separate rule. The parser narrows float64."""
FLOATS = frozenset({"float32", "float16", "bfloat16"})
MOST_TOP_K = 3840
MAX_DIMENSIONS = 8
"""Dimensions of any tensor, in every version: `Dims::MAX_DIMS`."""
SHAPED_BY_SECOND_INPUT = frozenset({"Reshape", "Expand", "Tile"})
RECURRENT_OPS = frozenset({"GRU", "LSTM", "RNN"})
PER_DIRECTION = ("activations", "activation_alpha", "activation_beta")
FLOAT32_EPSILON = 2.0**-23
PLAIN_EINSUM_TABLE = "8.6"
"""The parser of that version accepts no ellipsis, no diagonal and no index with different sizes."""
DIFFERENT_HINT = "express it with operators of the list: profiles/onnxfile/tensorrt_operators.json"

Values = list[Annotated[int | float | str, Field()]]


class AttributeRule(StrictModel):
    """Allowed values of an attribute."""

    each: Values | None = None
    length: list[CountOrZero] | None = None
    iota: bool = False
    between: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Lowest and highest value of a single number."""


class Operator(StrictModel):
    """One operator. `types`: by table, the allowed types of the input with number `typed_by_input`."""

    types: dict[str, str]
    attributes: dict[str, AttributeRule | Values | None] = Field(default_factory=dict)
    inputs_at_most: CountOrZero | None = None
    outputs_at_most: CountOrZero | None = None
    constant_inputs: list[CountOrZero] = Field(default_factory=list)
    typed_by_input: CountOrZero = 0
    ignored: dict[str, list[str]] = Field(default_factory=dict)
    ranks: list[CountOrZero] | None = None


class AllowList(StrictModel):
    """The whole file. `judged_by`: the table for each target, by name."""

    source: list[str]
    judged_by: dict[str, str]
    operators: dict[str, Operator]


@cache
def allow_list() -> AllowList:
    """The list of the package."""
    path = resources.files("sefa_edge.profiles.onnxfile") / FILE
    with resources.as_file(path) as file:
        return validate(file, parse_json_text(file.read_text(encoding="utf-8")), AllowList)


def not_on_the_list(node: Node, wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    """What a version of TensorRT does not accept in a node; nothing for other runtimes and other domains' operators."""
    if not target.is_tensorrt or node.domain:
        return
    table = allow_list().judged_by[target.name]
    operator = allow_list().operators.get(node.op_type)
    if operator is None or table not in operator.types:
        problem = f"{node.op_type} is not on the list of operators that {target.name} accepts"
        yield BrokenRule(node.label, "operator", problem, DIFFERENT_HINT)
        return
    yield from _attributes(node, operator, target)
    yield from _counts(node, operator, target)
    yield from _constants(node, operator, wiring, target)
    yield from _dimensions(node, operator, wiring, target)
    yield from _combinations(node, table, target)
    yield from _special_inputs(node, wiring, target)
    if node.op_type not in QUANTISERS:
        yield from _types(node, operator.types[table].split(), wiring, (operator.typed_by_input, target))


def _attributes(node: Node, operator: Operator, target: Target) -> Iterator[BrokenRule]:
    ignored = operator.ignored.get(allow_list().judged_by[target.name], [])
    for name, value in node.attributes.items():
        if name in ignored:
            problem = f"{target.name} ignores the attribute {name} of {node.op_type}: it would compute something else"
        elif name not in operator.attributes:
            problem = f"the attribute {name} of {node.op_type} is not on the list of {target.name}"
        elif refused := _refused(value, operator.attributes[name]):
            problem = f"{target.name} accepts {node.op_type} with {name} {refused}"
        else:
            continue
        yield BrokenRule(node.label, "attribute", problem, "export without it, or express it with other operators")


def _refused(value: AttributeValue, rule: AttributeRule | Values | None) -> str:
    """The expected and the actual value of an attribute, as text; empty if it is allowed."""
    if rule is None:
        return ""
    plain = value.decode(errors="replace") if isinstance(value, bytes) else value
    if isinstance(rule, list):
        return "" if plain in rule else f"{' or '.join(map(str, rule))}, not {_short(plain)}"
    elements = plain if isinstance(plain, tuple) else ()
    if rule.between is not None and not (isinstance(plain, int | float) and _is_inside(plain, rule.between)):
        return f"{rule.between[0]:g} to {rule.between[1]:g}, not {_short(plain)}"
    if rule.each is not None and any(element not in rule.each for element in elements):
        return f"of only {' or '.join(map(str, rule.each))}, not {_short(plain)}"
    if rule.length is not None and len(elements) not in rule.length:
        return f"for {' or '.join(map(str, rule.length))} axes, not for {len(elements)}"
    if rule.iota and elements != tuple(range(len(elements))):
        return f"of all axes in order, not {_short(plain)}"
    return ""


def _is_inside(value: float, bounds: list[float]) -> bool:
    """Allows for rounding: an attribute is a float32."""
    low, high = bounds
    slack = FLOAT32_EPSILON
    return low - slack * abs(low) <= value <= high + slack * abs(high)


def _short(value: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:40])


def _counts(node: Node, operator: Operator, target: Target) -> Iterator[BrokenRule]:
    for side, names, most in (
        ("inputs", node.inputs, operator.inputs_at_most),
        ("outputs", node.outputs, operator.outputs_at_most),
    ):
        if most is not None and any(names[most:]):
            problem = f"{target.name} accepts {node.op_type} only with its first {most} {side}, not {len(names)}"
            yield BrokenRule(node.label, side, problem, "export it without the others")


def _constants(node: Node, operator: Operator, wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    for index in operator.constant_inputs:
        name = node.input(index)
        if name and wiring.constant(name) is None:
            problem = f"{target.name} accepts {node.op_type} with a constant '{name}', but this one is computed"
            yield BrokenRule(node.label, "constant-input", problem, "fold constants at export")
    if node.op_type == "Mod" and not node.integer("fmod", 0) and wiring.dtype(node.input(0)) in FLOATS:
        problem = f"{target.name} accepts Mod of floating point only with fmod 1"
        yield BrokenRule(node.label, "attribute", problem, "export it with fmod=1")
    count = wiring.constant(node.input(1)) if node.op_type == "TopK" else None
    if count is not None and count.data is not None and (count.data >= MOST_TOP_K).any():
        problem = f"{target.name} accepts TopK of fewer than {MOST_TOP_K} values"
        yield BrokenRule(node.label, "top-k", problem, "reduce K")


def _dimensions(node: Node, operator: Operator, wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    """Values with too many dimensions, and a first input with a wrong number of them, as far as shapes are known."""
    hint = "fold dimensions before and after it with Reshape"
    ranks = {name: rank for name in (*node.inputs, *node.outputs) if (rank := wiring.rank(name)) is not None}
    shape = wiring.constant(node.input(1)) if node.op_type in SHAPED_BY_SECOND_INPUT else None
    if shape is not None and len(shape.dims) == 1 and node.output:
        ranks[node.output] = max(shape.dims[0], ranks.get(node.output, 0))
    if many := next((name for name, rank in ranks.items() if rank > MAX_DIMENSIONS), None):
        problem = f"'{many}' has {ranks[many]} dimensions, {target.name} accepts up to {MAX_DIMENSIONS}"
        yield BrokenRule(node.label, "dimensions", problem, hint)
    rank = wiring.rank(node.input(0))
    if operator.ranks is not None and rank is not None and rank not in operator.ranks:
        allowed = " or ".join(map(str, operator.ranks))
        problem = f"{target.name} accepts {node.op_type} of {allowed} dimensions, not of {rank}"
        yield BrokenRule(node.label, "dimensions", problem, hint)


def _combinations(node: Node, table: str, target: Target) -> Iterator[BrokenRule]:
    """Restrictions that involve more than one attribute."""
    equation = _text(node.attributes.get("equation", b""))
    if node.op_type == "Einsum" and table == PLAIN_EINSUM_TABLE and not _is_plain_product(equation):
        problem = f"{target.name} accepts Einsum only without ellipsis and diagonals, not {_short(equation)}"
        yield BrokenRule(node.label, "attribute", problem, "express it with Transpose, MatMul and Reshape")
    if node.op_type in RECURRENT_OPS and _text(node.attributes.get("direction", b"")) == "bidirectional":
        for name in PER_DIRECTION:
            value = node.attributes.get(name, ())
            half = len(value) // 2 if isinstance(value, tuple) else 0
            if half and isinstance(value, tuple) and value[:half] != value[half : 2 * half]:
                problem = f"{target.name} accepts {node.op_type} only with the same {name} in both directions"
                yield BrokenRule(node.label, "attribute", problem, "use one activation for both directions")


def _special_inputs(node: Node, wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    if node.op_type == "MatMul" and wiring.rank(node.input(0)) == 1 and (wiring.rank(node.input(1)) or 0) > 2:
        problem = f"{target.name} accepts no MatMul of a vector and a tensor of {wiring.rank(node.input(1))} dimensions"
        yield BrokenRule(node.label, "dimensions", problem, "reshape the vector to a matrix before it")
    if node.op_type == "Clip" and len(node.inputs) > 1 and not any(node.inputs[1:]):
        problem = f"{target.name} accepts no Clip whose limits are present but empty"
        yield BrokenRule(node.label, "inputs", problem, "remove it: it changes nothing")


def _text(value: AttributeValue) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _is_plain_product(equation: str) -> bool:
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    return "." not in equation and all(len(set(term)) == len(term) for term in terms)


def _types(node: Node, allowed: list[str], wiring: Wiring, deciding: tuple[int, Target]) -> Iterator[BrokenRule]:
    index, target = deciding
    values = {wiring.dtype(name) for name in (*node.inputs, *node.outputs) if name}
    if strange := values - DTYPES_ANYWHERE - FLOAT8_AND_LESS:
        problem = f"it holds {' and '.join(sorted(strange))}, which {target.name} does not compute with"
        yield BrokenRule(node.label, "type", problem, "export with float32, float16, int32, int64 and bool")
        return
    name = node.input(index) or node.output
    main = wiring.dtype(name)
    if main == "undefined" and name not in {value.name for value in wiring.graph.inputs}:
        return  # the output of an operator that was already reported, or from outside this subgraph
    produced = wiring.dtype(node.output) if node.op_type in ("Cast", "CastLike") else main
    for dtype in dict.fromkeys((main, produced)):
        if dtype not in allowed:
            known = "of an unknown type" if dtype == "undefined" else f"in {dtype}"
            problem = f"{node.op_type} {known} ('{name}') is not on the list of {target.name}: {', '.join(allowed)}"
            yield BrokenRule(node.label, "type", problem, "cast before and after it")
