"""The tables of fields in README.md, from the classes of the records and the docstrings of their fields.

python -m sefa_edge.edge.recording.field_tables      writes them between the markers in README.md
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import IntFlag
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np

from sefa_edge.edge.recording.topics import LOSSES, TOPICS, Losses, Picture, picture_topic
from sefa_edge.profiles.wire_types import Array

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- fields: begin (written by field_tables.py) -->", "<!-- fields: end -->"


def tables() -> str:
    """All tables: the record of each topic, then the records nested in them."""
    topics = {topic.name: topic.record for topic in TOPICS}
    topics |= {picture_topic("NAME"): Picture, LOSSES: Losses}
    lines: list[str] = []
    nested: dict[type, None] = {}
    for name, record in topics.items():
        lines += _section(f"`{name}`: {record.__name__}", record)
        nested |= dict.fromkeys(_records_in(record))
    for record in nested:
        if record not in topics.values():
            lines += _section(record.__name__, record)
    return "\n".join(lines)


def table_of(record: type) -> list[str]:
    """The table of one record, a line per field."""
    texts, hints = _docstrings(record), get_type_hints(record, include_extras=True)
    rows = [f"| `{field.name}` | {_type_text(hints[field.name])} | {texts[field.name]} |" for field in fields(record)]
    return ["| field | type | |", "|---|---|---|", *rows]


def with_tables(page: str) -> str:
    """The page with the tables between its markers. Raises ValueError if there are no markers."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _section(title: str, record: type) -> list[str]:
    summary = " ".join((record.__doc__ or "").split("\n\n")[0].split())
    return ["", f"**{title}** {summary}", "", *table_of(record)]


def _records_in(record: type) -> Iterator[type]:
    for hint in get_type_hints(record).values():
        for kind in (hint, *get_args(hint)):
            if is_dataclass(kind) and isinstance(kind, type):
                yield kind
                yield from _records_in(kind)


def _docstrings(record: type) -> dict[str, str]:
    """The string after each field; empty where there is none."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(record)))
    (declared,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    texts: dict[str, str] = {}
    name = ""
    for node in declared.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            texts[name] = ""
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts[name] = " ".join(str(node.value.value).split())
    return texts


def _type_text(hint: Any) -> str:
    if get_origin(hint) is not Annotated:
        kinds = [kind.__name__ for kind in get_args(hint) or (hint,) if kind is not type(None)]
        return kinds[0] + (" or null" if get_args(hint) else "")
    annotation, mark, *_ = get_args(hint)
    if isinstance(mark, Array):
        return f"{np.dtype(mark.scalar.code).name} [{', '.join(map(str, mark.shape))}]"
    if get_origin(annotation) is tuple:
        element = get_args(annotation)[0]
        return f"list of {' / '.join(kind.__name__ for kind in get_args(element) or (element,))}"
    if annotation in (int, bool) or issubclass(annotation, IntFlag):
        return np.dtype(mark.code).name
    return "text" if annotation is str else "base64" if annotation is bytes else annotation.__name__


def main() -> None:
    README.write_text(with_tables(README.read_text()))


if __name__ == "__main__":
    main()
