"""The fault table as `edge/README.md` prints it, made from the rows that the tests perform.

python -m tests.faults.table            prints it
python -m tests.faults.table --write    puts it into edge/README.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults import control_rows, lock_step_rows, run_rows
from tests.faults.row import DROPPED, GOES_ON, PARKED, UNTOUCHED, Expected, Level, Row

README = Path(__file__).parents[2] / "edge/README.md"
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"
LEVELS: dict[Level, list] = {
    Level.LOCK_STEP: lock_step_rows.ROWS,
    Level.CONTROL: control_rows.ROWS,
    Level.RUN: run_rows.ROWS,
}


def published() -> str:
    """All rows as Markdown tables, one per level."""
    return "\n".join(_section(level, rows) for level, rows in LEVELS.items())


def in_readme() -> str:
    """What stands between the marks in the README."""
    return README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def write() -> None:
    """Put the table into the README."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    README.write_text(f"{before}{BEGIN}{published()}{END}{rest.split(END)[1]}", encoding="utf-8")


def _section(level: Level, rows: list[Row]) -> str:
    head = f"**{len(rows)} with {level.value}**\n\n| fault | state reached | within | exit | message |\n"
    return head + "|---|---|---|---|---|\n" + "".join(_line(level, row) for row in rows)


def _line(level: Level, row: Row) -> str:
    expected: Expected = row.expected
    if expected == GOES_ON:
        return f"| {row.name} | goes on |  |  |  |\n"
    state = expected.mode.name if level is not Level.RUN else _state_of(expected)
    within = "" if expected.rest_s is None else f"{expected.rest_s:g} s"
    words = ": ".join(part for part in (expected.says, expected.ending) if part)
    return f"| {row.name} | {state} | {within} | {expected.exit_code} | {_escaped(words)} |\n"


def _state_of(expected: Expected) -> str:
    return {"": "IDLE", UNTOUCHED: "IDLE", PARKED: "RELEASED", DROPPED: "RELEASED"}.get(expected.ending, "FAULT")


def _escaped(words: str) -> str:
    return words.replace("{joint}", "*joint*").replace("{port}", "*port*")


if __name__ == "__main__":
    write() if "--write" in sys.argv[1:] else print(published())
