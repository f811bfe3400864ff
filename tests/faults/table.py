"""The fault table as `edge/README.md` prints it, generated from the rows that the tests perform, and the figures of the
last campaign (`python -m tests.faults.campaign --json tests/faults/figures.json`).

python -m tests.faults.table            prints both
python -m tests.faults.table --write    writes them into edge/README.md
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

from tests.faults import control_rows, lock_step_rows, run_rows
from tests.faults.row import CONTINUES, DROPPED, PARKED, UNTOUCHED, Expected, Level, Row

README = Path(__file__).parents[2] / "edge/README.md"
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"
FIGURES = Path(__file__).with_name("figures.json")
LINE_WIDTH = 120
FIGURES_BEGIN, FIGURES_END = "<!-- fault figures: begin -->\n", "<!-- fault figures: end -->\n"
LEVELS: dict[Level, list] = {
    Level.LOCK_STEP: lock_step_rows.ROWS,
    Level.CONTROL: control_rows.ROWS,
    Level.RUN: run_rows.ROWS,
}


def published() -> str:
    """All rows as Markdown tables, one per level."""
    return "\n".join(_section(level, rows) for level, rows in LEVELS.items())


def published_figures() -> str:
    """What the monitors measured in the last campaign, as a paragraph."""
    overall = json.loads(FIGURES.read_text(encoding="utf-8"))["overall"]
    seen = overall["seen"]
    text = (
        f"The last campaign: {overall['runs']} runs of {overall['name']}, {seen['goal_packets']:,} packets with goals "
        f"decoded on the wire, {seen['violations']} violations. The longest step of a goal was "
        f"{seen['worst_step']:.1%} of the velocity limit, the largest change of a step {seen['worst_change']:.1%} of "
        "the acceleration limit (beyond what rounding to ticks explains), the longest way of a joint in 0.2 s "
        f"{seen['fastest_joint']:.1%} of what its goals allow."
    )
    return textwrap.fill(text, LINE_WIDTH) + "\n"


def in_readme() -> str:
    """The table between the marks in the README."""
    return _between(BEGIN, END)


def figures_in_readme() -> str:
    """The figures between their marks in the README."""
    return _between(FIGURES_BEGIN, FIGURES_END)


def write() -> None:
    """Write table and figures into the README."""
    text = README.read_text(encoding="utf-8")
    for begin, end, content in ((BEGIN, END, published()), (FIGURES_BEGIN, FIGURES_END, published_figures())):
        before, rest = text.split(begin)
        text = f"{before}{begin}{content}{end}{rest.split(end)[1]}"
    README.write_text(text, encoding="utf-8")


def _between(begin: str, end: str) -> str:
    return README.read_text(encoding="utf-8").split(begin)[1].split(end)[0]


def _section(level: Level, rows: list[Row]) -> str:
    head = f"**{len(rows)} with {level.value}**\n\n| fault | state reached | within | exit | message |\n"
    return head + "|---|---|---|---|---|\n" + "".join(_line(level, row) for row in rows)


def _line(level: Level, row: Row) -> str:
    expected: Expected = row.expected
    if expected == CONTINUES:
        return f"| {row.name} | goes on |  |  |  |\n"
    state = expected.mode.name if level is not Level.RUN else _state_of(expected)
    within = "" if expected.rest_s is None else f"{expected.rest_s:g} s"
    message = ": ".join(part for part in (expected.says, expected.ending) if part)
    return f"| {row.name} | {state} | {within} | {expected.exit_code} | {_escaped(message)} |\n"


def _state_of(expected: Expected) -> str:
    return {"": "IDLE", UNTOUCHED: "IDLE", PARKED: "RELEASED", DROPPED: "RELEASED"}.get(expected.ending, "FAULT")


def _escaped(message: str) -> str:
    return message.replace("{joint}", "*joint*").replace("{port}", "*port*")


if __name__ == "__main__":
    write() if "--write" in sys.argv[1:] else print(published(), published_figures(), sep="\n")
