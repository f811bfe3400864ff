"""What TensorRT's parser takes, as a list: an operator, attribute or type that is not on it is refused.

The list is `tensorrt_operators.json` beside this file, which names its sources. An attribute without a rule there may
have any value; `{"each": [1]}` is about the elements of a list, `{"length": [2, 3]}` about their number, and
`{"iota": true}` wants 0, 1, 2 and so on.
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
"""What any value may be; the types below INT8 have a rule of their own. float64 is narrowed by the parser."""
FLOATS = frozenset({"float32", "float16", "bfloat16"})
MOST_TOP_K = 3840
DIFFERENT_HINT = "express it with operators of the list: profiles/onnxfile/tensorrt_operators.json"

Values = list[Annotated[int | float | str, Field()]]


class AttributeRule(StrictModel):
    """What the elements of a list may be."""

    each: Values | None = None
    length: list[CountOrZero] | None = None
    iota: bool = False


class Operator(StrictModel):
    """One operator. `types` by the version of a table: of the value that decides, `typed_by_input`."""

    types: dict[str, str]
    attributes: dict[str, AttributeRule | Values | None] = Field(default_factory=dict)
    inputs_at_most: CountOrZero | None = None
    outputs_at_most: CountOrZero | None = None
    constant_inputs: list[CountOrZero] = Field(default_factory=list)
    typed_by_input: CountOrZero = 0


class AllowList(StrictModel):
    """The whole file. `judged_by`: the table of a target, by its name."""

    source: list[str]
    judged_by: dict[str, str]
    operators: dict[str, Operator]


@cache
def allow_list() -> AllowList:
    """The list that comes with the package."""
    path = resources.files("sefa_edge.profiles.onnxfile") / FILE
    with resources.as_file(path) as file:
        return validate(file, parse_json_text(file.read_text(encoding="utf-8")), AllowList)


def not_on_the_list(node: Node, wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    """What of a node a version of TensorRT does not take; nothing for other runtimes and other domains' operators."""
    if not target.is_tensorrt or node.domain:
        return
    table = allow_list().judged_by[target.name]
    operator = allow_list().operators.get(node.op_type)
    if operator is None or table not in operator.types:
        problem = f"{node.op_type} is not on the list of operators that {target.name} takes"
        yield BrokenRule(node.label, "operator", problem, DIFFERENT_HINT)
        return
    yield from _attributes(node, operator, target)
    yield from _counts(node, operator, target)
    yield from _constants(node, operator, wiring, target)
    if node.op_type not in QUANTISERS:
        yield from _types(node, operator.types[table].split(), wiring, (operator.typed_by_input, target))


def _attributes(node: Node, operator: Operator, target: Target) -> Iterator[BrokenRule]:
    for name, value in node.attributes.items():
        if name not in operator.attributes:
            problem = f"the attribute {name} of {node.op_type} is not on the list of {target.name}"
        elif refused := _refused(value, operator.attributes[name]):
            problem = f"{target.name} takes {node.op_type} with {name} {refused}"
        else:
            continue
        yield BrokenRule(node.label, "attribute", problem, "export it without, or express it with other operators")


def _refused(value: AttributeValue, rule: AttributeRule | Values | None) -> str:
    """What is wanted instead of an attribute's value, and what it is; empty when it is as wanted."""
    if rule is None:
        return ""
    plain = value.decode(errors="replace") if isinstance(value, bytes) else value
    if isinstance(rule, list):
        return "" if plain in rule else f"{' or '.join(map(str, rule))}, not {_short(plain)}"
    elements = plain if isinstance(plain, tuple) else ()
    if rule.each is not None and any(element not in rule.each for element in elements):
        return f"of {' or '.join(map(str, rule.each))} alone, not {_short(plain)}"
    if rule.length is not None and len(elements) not in rule.length:
        return f"for {' or '.join(map(str, rule.length))} axes, not for {len(elements)}"
    if rule.iota and elements != tuple(range(len(elements))):
        return f"of all axes in order, not {_short(plain)}"
    return ""


def _short(value: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:40])


def _counts(node: Node, operator: Operator, target: Target) -> Iterator[BrokenRule]:
    for side, names, most in (
        ("inputs", node.inputs, operator.inputs_at_most),
        ("outputs", node.outputs, operator.outputs_at_most),
    ):
        if most is not None and any(names[most:]):
            problem = f"{target.name} takes {node.op_type} with its first {most} {side} alone, not {len(names)}"
            yield BrokenRule(node.label, side, problem, "export it without the others")


def _constants(node: Node, operator: Operator, wiring: Wiring, target: Target) -> Iterator[BrokenRule]:
    for index in operator.constant_inputs:
        name = node.input(index)
        if name and wiring.constant(name) is None:
            problem = f"{target.name} takes {node.op_type} with a constant '{name}', and this one is computed"
            yield BrokenRule(node.label, "constant-input", problem, "fold constants at export")
    if node.op_type == "Mod" and not node.integer("fmod", 0) and wiring.dtype(node.input(0)) in FLOATS:
        problem = f"{target.name} takes Mod of floating point with fmod 1 alone"
        yield BrokenRule(node.label, "attribute", problem, "export it with fmod=1")
    count = wiring.constant(node.input(1)) if node.op_type == "TopK" else None
    if count is not None and count.data is not None and (count.data >= MOST_TOP_K).any():
        problem = f"{target.name} takes TopK of fewer than {MOST_TOP_K} values"
        yield BrokenRule(node.label, "top-k", problem, "ask for fewer")


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
        return  # made by an operator that has been named already, or outside of this part
    produced = wiring.dtype(node.output) if node.op_type in ("Cast", "CastLike") else main
    for dtype in dict.fromkeys((main, produced)):
        if dtype not in allowed:
            known = "of an unknown type" if dtype == "undefined" else f"in {dtype}"
            problem = f"{node.op_type} {known} ('{name}') is not on the list of {target.name}: {', '.join(allowed)}"
            yield BrokenRule(node.label, "type", problem, "cast before and after it")
