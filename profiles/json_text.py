"""The only reader of JSON from outside: bounded in size, depth and digits; refuses NaN, infinities, duplicate keys."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.file_kinds import HEAD_BYTES, seems_to_be
from sefa_edge.profiles.files import read_bounded
from sefa_edge.profiles.quantities import NumberError, parse_real, parse_whole
from sefa_edge.profiles.shown import shown

MAX_DEPTH = 32
BYTE_ORDER_MARK = "\ufeff"

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


class JsonError(ValueError):
    """A text that is not JSON, or JSON that is refused here; the message says what and where."""


def read_json(path: Path) -> object:
    """The content of a JSON file; a byte order mark is accepted, as Windows writes it.

    Raises:
        InputError: missing, unreadable, too large, or not JSON; see `parse_json_text`.
    """
    text = read_bounded(path)
    try:
        return parse_json_text(text)
    except JsonError as error:
        if not text.lstrip().startswith(("{", "[")):
            what = seems_to_be(text.encode()[:HEAD_BYTES]) or "something else"
            raise InputError(f"{path} is not JSON: it is {what}", "is this the right file?") from None
        raise InputError(f"{path} is not valid JSON: {error}", "was it written completely?") from None


def parse_json_text(text: str) -> object:
    """The value of a JSON text: numbers are finite and have at most 20 digits before the point, keys are unique.

    Raises:
        JsonError: damaged, nested deeper than 32, a duplicate key, or an invalid number.
    """
    text = text.removeprefix(BYTE_ORDER_MARK)
    _check_depth(text)
    try:
        content = json.loads(
            text,
            parse_int=parse_whole,
            parse_float=parse_real,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique_keys,
        )
        json.dumps(content, ensure_ascii=False).encode()  # refuses half of a surrogate pair, which cannot be printed
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg}: line {error.lineno} column {error.colno}") from None
    except UnicodeEncodeError:
        raise JsonError("it holds half of a UTF-16 surrogate pair") from None
    except NumberError as error:
        raise JsonError(str(error)) from None
    return content


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise JsonError(f"it is nested deeper than {MAX_DEPTH} levels")


def _refuse_constant(text: str) -> float:
    raise JsonError(f"{text} is not a number")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise JsonError(f"the key {shown(double)} occurs twice")
    return content
