"""The text output of `sefa-edge inspect`: one labelled line per fact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sefa_edge.edge.tools.inspection.card import CardState, card_lines
from sefa_edge.edge.tools.inspection.onnx_graph import OnnxSummary, Verdict
from sefa_edge.profiles.onnxfile.graph import ValueInfo
from sefa_edge.profiles.onnxfile.targets import BrokenRule

MAX_LABEL_WIDTH = 40
TEXT_WIDTH = 96
SHOWN_NODES = 3
"""Nodes listed per broken rule; the JSON contains all."""
SHOWN_CHARACTERS = 300

Lines = Iterator[tuple[str, str]]


def onnx_text(path: Path, summary: OnnxSummary, card: CardState) -> str:
    producer = f", written by {summary.producer}" if summary.producer else ""
    values = _values((*summary.inputs, *summary.outputs))
    lines = [
        ("opset", f"{summary.opset}, IR version {summary.ir_version}{producer}"),
        *_labelled("inputs", values[: len(summary.inputs)]),
        *_labelled("outputs", values[len(summary.inputs) :]),
        ("layers", ", ".join(f"{n} {dtype}" for dtype, n in summary.layers.items()) or "none"),
        *_labelled("operators", _wrapped(f"{count} {name}" for name, count in summary.operators.items())),
        ("parameters", f"{summary.parameters:,}"),
        *_labelled("constants", _stored(summary)),
        *_card(card),
        *((verdict.target, _verdict(verdict)) for verdict in summary.verdicts),
        *_broken(summary.verdicts),
    ]
    return _aligned(f"{path}: ONNX, {_size(path.stat().st_size)}", lines)


def plan_text(path: Path, library: str, card: CardState) -> str:
    return _aligned(f"{path}: plan of {library}, {_size(path.stat().st_size)}", _card(card))


def card_text(path: Path, state: CardState) -> str:
    status = f"belongs to the {state.card.engine_file} beside it" if state.card and state.belongs else state.problem
    lines = card_lines(state.card) if state.card else ()
    return _aligned(f"{path}: policy card; {status}", lines)


def checkpoint_text(folder: Path, content: object, problem: str) -> str:
    status = problem or "its weights are beside it"
    return _aligned(f"{folder}: checkpoint; {status}", _flat("", content))


def printable(text: str) -> str:
    """Text from a file as one short line without control characters, which could be terminal commands."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[: SHOWN_CHARACTERS - 1] + "…"


def _aligned(heading: str, lines: Iterable[tuple[str, str]]) -> str:
    rows = [(printable(label), printable(text)) for label, text in lines]
    width = min(max(len(label) for label, _ in rows) + 2, MAX_LABEL_WIDTH) if rows else 0
    return "\n".join((heading, *(f"  {label:<{width}}{text}".rstrip() for label, text in rows)))


def _labelled(label: str, values: Iterable[str]) -> Lines:
    for at, value in enumerate(values):
        yield ("" if at else label), value


def _values(values: Sequence[ValueInfo]) -> list[str]:
    return _table([(value.name, value.dtype, _shape(value)) for value in values], right_from=3)


def _shape(value: ValueInfo) -> str:
    if value.shape is None:
        return "of unknown shape"
    return " x ".join("?" if dim is None else str(dim) for dim in value.shape) or "scalar"


def _wrapped(items: Iterable[str]) -> list[str]:
    """Items separated by commas, as lines of limited width."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > TEXT_WIDTH:
            lines.append("")
        lines[-1] += f"{item}, "
    return [line.strip() for line in lines[:-1]] + [lines[-1].rstrip(", ")]


def _stored(summary: OnnxSummary) -> list[str]:
    rows = [
        (dtype, f"{kind.values:,} values", f"{kind.tensors} tensors", _size(kind.bytes))
        for dtype, kind in summary.stored.items()
    ]
    return _table(rows, right_from=1)


def _table(rows: Sequence[tuple[str, ...]], right_from: int) -> list[str]:
    """Rows as aligned columns; those from `right_from` on are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        padded = [
            cell.rjust(width) if at >= right_from else cell.ljust(width) for at, (cell, width) in enumerate(cells)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def _card(state: CardState) -> Lines:
    if state.card is None:
        yield "card", f"{state.file}: {state.problem}"
        return
    yield "card", f"{state.file}: " + ("belongs to this file" if state.belongs else f"DOES NOT BELONG: {state.problem}")
    for label, text in card_lines(state.card):
        yield f"  {label}", text


def _verdict(verdict: Verdict) -> str:
    count = len(verdict.broken)
    return f"{count} broken rule{'s' if count > 1 else ''}" if count else "ok"


def _broken(verdicts: Sequence[Verdict]) -> Lines:
    """The broken rules of all targets, each node once."""
    rules: dict[str, dict[BrokenRule, None]] = {}
    for rule in (rule for verdict in verdicts for rule in verdict.broken):
        rules.setdefault(rule.rule, {})[rule] = None
    for name, broken in rules.items():
        first = list(broken)[:SHOWN_NODES]
        yield from _labelled(name, [f"{rule.node}: {rule.explanation}" for rule in first])
        if len(broken) > SHOWN_NODES:
            yield "", f"and {len(broken) - SHOWN_NODES} more; --json lists all"
        yield "", f"hint: {first[0].hint}"


def _flat(name: str, content: object) -> Lines:
    """Nested values as dotted names."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _flat(f"{name}.{key}" if name else str(key), value)
    elif isinstance(content, list):
        yield name, " ".join(map(str, content))
    else:
        yield name, str(content)


def _size(count: int) -> str:
    for unit, size in (("MB", 1_000_000), ("kB", 1000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
