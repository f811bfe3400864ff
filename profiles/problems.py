"""Pydantic's validation errors as plain sentences: the path of the key, what was found, and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from sefa_edge.profiles.console import one_line
from sefa_edge.profiles.quantities import NUMBER_PROBLEM

MAX_SHOWN_LETTERS = 60
MAX_SENTENCE_LETTERS = 400
TOP_LEVEL = "the file"
TAG_MARK = "tag:"
"""Prefix of the tags of unions, which pydantic adds to the path of a key although they are not in the file."""

Context = Mapping[str, object]

KINDS: dict[str, str] = {
    "string_type": "text",
    "string_unicode": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of usual size",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "none_required": "null",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "an object with keys",
    "mapping_type": "an object with keys",
    "model_type": "an object with keys",
    "model_attributes_type": "an object with keys",
    "dataclass_type": "an object with keys",
    "bytes_type": "text",
    "union_tag_not_found": "an object with a key for its kind",
}
"""Error types about the kind of a value -> what was expected."""

BOUNDS: dict[str, Callable[[Context], str]] = {
    "greater_than": lambda context: f"a number above {_number(context['gt'])}",
    "greater_than_equal": lambda context: f"a number of at least {_number(context['ge'])}",
    "less_than": lambda context: f"a number below {_number(context['lt'])}",
    "less_than_equal": lambda context: f"a number of at most {_number(context['le'])}",
    "multiple_of": lambda context: f"a multiple of {_number(context['multiple_of'])}",
    "literal_error": lambda context: _alternatives(context["expected"]),
    "enum": lambda context: _alternatives(context["expected"]),
    "union_tag_invalid": lambda context: f"one of {context['expected_tags']}",
    "string_pattern_mismatch": lambda context: f"text of the form {context['pattern']}",
    "string_too_short": lambda context: f"text of at least {context['min_length']} letters",
    "string_too_long": lambda context: f"text of at most {context['max_length']} letters",
}
"""Error types about the value itself -> what was expected, from the error's context."""


def describe_problem(problems: Iterable[ErrorDetails], model: type[BaseModel]) -> tuple[str, str]:
    """Message and hint for the first problem. A misspelt key also causes a missing one, so it takes precedence."""
    problem = min(problems, key=lambda candidate: candidate["type"] != "extra_forbidden")
    path = [one_line(str(part)) for part in problem["loc"] if not str(part).startswith(TAG_MARK)]
    key = ".".join(_shortened(part, MAX_SHOWN_LETTERS) for part in path) or TOP_LEVEL
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key", _hint_for_unknown(str(problem["loc"][-1]), problem["loc"][:-1], model)
    if problem["type"] == "missing":
        return f"{key}: this key is missing", "add it"
    return f"{key}: {_sentence(problem)}", _hint(problem)


def _sentence(problem: ErrorDetails) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return _shortened(one_line(str(context.get("error", "")))) or "this value contradicts the others"
    if kind in ("too_short", "too_long"):
        return _length(kind, context)
    if kind == NUMBER_PROBLEM:
        return problem["msg"]
    expected = KINDS.get(kind) or (BOUNDS[kind](context) if kind in BOUNDS else "")
    found = shown(problem["input"])
    return f"{found} is not {expected}" if expected else f"{found} does not fit here"


def _hint(problem: ErrorDetails) -> str:
    if problem["type"] == "value_error":
        return str(getattr(problem.get("ctx", {}).get("error"), "hint", "")) or "correct the file"
    return "quotes make a number a text: remove them" if _is_quoted_number(problem) else "correct this value"


def _is_quoted_number(problem: ErrorDetails) -> bool:
    if problem["type"] not in ("int_type", "float_type", NUMBER_PROBLEM) or not isinstance(problem["input"], str):
        return False
    try:
        float(problem["input"])
    except ValueError:
        return False
    return True


def _length(kind: str, context: Context) -> str:
    least = kind == "too_short"
    limit = context["min_length"] if least else context["max_length"]
    return f"{context['actual_length']} entries, expected at {'least' if least else 'most'} {limit}"


def _alternatives(expected: object) -> str:
    text = str(expected)
    return f"one of {text}" if " or " in text or ", " in text else text


def shown(value: object) -> str:
    """A value from outside, short and printable, for a message."""
    if isinstance(value, dict):
        return "an object with keys"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = one_line(repr(value))
    return _shortened(text, MAX_SHOWN_LETTERS)


def _shortened(text: str, letters: int = MAX_SENTENCE_LETTERS) -> str:
    return text if len(text) <= letters else text[:letters] + "…"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _hint_for_unknown(key: str, place: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Suggest a similar key, preferably of the same object."""
    for keys in (_keys_at(place, model), _all_keys(model)):
        near = get_close_matches(key, sorted(keys - {key}), n=1)
        if near:
            return f"did you mean '{near[0]}'?"
    return "remove the key"


def _keys_at(place: tuple[int | str, ...], model: type[BaseModel]) -> set[str]:
    """Keys of the object at a path; empty if unknown."""
    models = [model]
    for part in place:
        if isinstance(part, str):
            fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
            models = [found for annotation in fields for found in _models_in(annotation)] or models
    return {key for found in models for key in found.model_fields}


def _all_keys(model: type[BaseModel]) -> set[str]:
    seen: set[type[BaseModel]] = set()
    waiting = [model]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += [found for field in current.model_fields.values() for found in _models_in(field.annotation)]
    return {key for found in seen for key in found.model_fields}


def _models_in(annotation: object) -> list[type[BaseModel]]:
    """The models in a field's annotation, at any depth: `list[Model]`, `Model | None`, `dict[str, list[Model]]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]
