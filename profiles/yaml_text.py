"""The only reader of YAML from outside: plain values only, in linear time.

Everything dangerous or ambiguous is refused with its line: anchors and aliases (which multiply), merge keys, tags, keys
that are not text, duplicate keys, several documents, and numbers that are not plain decimal (`1:30` is 90 in YAML 1.1,
`010` is 8, `1_000` is 1000). `yes` and `no` are true and false as in YAML 1.1; `on` and `off` are text as in 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import read_bounded
from sefa_edge.profiles.quantities import NumberError, parse_real, parse_whole
from sefa_edge.profiles.shown import shown

if TYPE_CHECKING:
    from yaml.events import Event, ScalarEvent

MAX_DEPTH = 16
MAX_VALUES = 20_000

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((form for word in ("true", "yes") for form in (word, word.title(), word.upper())), True),
    **dict.fromkeys((form for word in ("false", "no") for form in (word, word.title(), word.upper())), False),
}
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_REAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_OTHER_NOTATION = re.compile(
    r"[+-]?(0[0-7_]+|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(\.[0-9_]*)?([eE][+-]?[0-9]+)?"
    r"|\.[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)"
)


class YamlError(ValueError):
    """A text that is not YAML, or YAML that is refused here; the message says what and where."""


def read_yaml(path: Path) -> object:
    """The content of a YAML file: dicts with text keys, lists, texts, finite numbers, booleans and None.

    Raises:
        InputError: missing, unreadable, too large, or not YAML; see `parse_yaml_text`.
    """
    try:
        return parse_yaml_text(read_bounded(path))
    except YamlError as error:
        raise InputError(f"{path} is not valid YAML: {error}", "use only `key: value` and lists") from None


def parse_yaml_text(text: str) -> object:
    """The value of a YAML text. Raises YamlError naming the line."""
    import yaml  # most processes read only JSON

    try:
        return _Document(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))).content()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise YamlError(f"{line}{problem}") from None


class _Document:
    """The values of one stream of parser events, bounded in depth and number."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._count = 0
        self._key = ""

    def content(self) -> object:
        from yaml.events import DocumentEndEvent, StreamEndEvent, StreamStartEvent

        documents: list[object] = []
        for event in self._events:
            if isinstance(event, (StreamStartEvent, StreamEndEvent, DocumentEndEvent)):
                continue
            if documents:
                raise _refusal(event, "a second document begins")
            documents.append(self._value(next(self._events), 1))
        return documents[0] if documents else None

    def _value(self, event: Event, depth: int) -> object:
        from yaml.events import AliasEvent, MappingStartEvent, NodeEvent, ScalarEvent

        self._count += 1
        if self._count > MAX_VALUES:
            raise _refusal(event, f"it holds more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise _refusal(event, f"it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor is not None):
            raise _refusal(event, "anchors and aliases (& and *) are not accepted: write the value out")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _refusal(event, "tags (!) are not accepted")
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        return self._mapping(depth) if isinstance(event, MappingStartEvent) else self._sequence(depth)

    def _sequence(self, depth: int) -> list[object]:
        from yaml.events import SequenceEndEvent

        values: list[object] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            values.append(self._value(event, depth + 1))
        return values

    def _mapping(self, depth: int) -> dict[str, object]:
        from yaml.events import MappingEndEvent

        content: dict[str, object] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._value(event, depth + 1)
            if not isinstance(key, str) or key == "<<":
                raise _refusal(event, "a key must be text" if key != "<<" else "merge keys (<<) are not accepted")
            if key in content:
                raise _refusal(event, f"the key {shown(key)} occurs twice")
            self._key = key
            content[key] = self._value(next(self._events), depth + 1)
        return content

    def _scalar(self, event: ScalarEvent) -> object:
        try:
            return _quoted_or_plain(event)
        except NumberError as error:
            raise _refusal(event, f"{self._key}: {error}" if self._key else str(error)) from None


def _quoted_or_plain(event: ScalarEvent) -> object:
    """A quoted text unchanged; an unquoted one converted. Raises NumberError."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        return parse_whole(text)
    if _REAL.fullmatch(text) and not re.match(r"[+-]?0[0-9]", text):
        return parse_real(text)
    if _OTHER_NOTATION.fullmatch(text):
        raise NumberError(f"{shown(text)} is not a finite decimal number; quote it if it is text")
    return text


def _refusal(event: Event, problem: str) -> YamlError:
    mark = event.start_mark
    return YamlError(problem if mark is None else f"line {mark.line + 1}: {problem}")
