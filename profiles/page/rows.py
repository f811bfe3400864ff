"""Rows of horizontal bars with names and numbers: the waterfall of a pipeline, the layers of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sefa_edge.profiles.page.axes import anchor_at, linear_ticks
from sefa_edge.profiles.page.shapes import Box, Drawing, Line, Shape, Text

WIDTH = 940
GAP = 12
AXIS_HEIGHT = 30
SHORTEST = 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from `start` over `length`, in values of the axis; `top` and `height` in pixels of its row."""

    kind: str
    start: float
    length: float
    top: float
    height: float
    radius: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A name on the left, bars, numbers on the right; `hint` is shown under the mouse pointer."""

    label: str
    bars: tuple[Bar, ...]
    value: str
    after_value: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class RowsLayout:
    """Pixels of a row and of both columns of text, and the value at the right end of the axis."""

    row_height: int
    label_width: int
    value_width: int
    end: float

    def x_of(self, value: float) -> float:
        return self.label_width + (WIDTH - self.label_width - self.value_width) * value / self.end


def draw_waterfall(title: str, rows: Sequence[Row], layout: RowsLayout, tick: Callable[[float], str]) -> Drawing:
    """Rows over an axis with grid lines and labels; `tick` formats a value of the axis."""
    height = layout.row_height * len(rows) + AXIS_HEIGHT
    shapes: list[Shape] = []
    for value in linear_ticks(layout.end):
        x = layout.x_of(value)
        shapes += [Line("grid", x, 0, x, height - 24), Text("tick", x, height - 8, tick(value), anchor_at(x, WIDTH))]
    return Drawing(WIDTH, height, title, (*shapes, *_rows(rows, layout)))


def draw_rows(title: str, rows: Sequence[Row], layout: RowsLayout, limit: float) -> Drawing:
    """Rows without an axis, and a dashed line at `limit`."""
    height = layout.row_height * len(rows) + 10
    x = layout.x_of(limit)
    return Drawing(WIDTH, height, title, (*_rows(rows, layout), Line("budget", x, 0, x, height - 6)))


def _rows(rows: Sequence[Row], layout: RowsLayout) -> Iterator[Shape]:
    for index, row in enumerate(rows):
        y = index * layout.row_height
        middle = y + layout.row_height / 2 + 4
        yield Text("label", layout.label_width - GAP, middle, row.label, "end")
        for bar in row.bars:
            x = layout.x_of(bar.start)
            length = max(layout.x_of(bar.start + bar.length) - x, SHORTEST)
            yield Box(bar.kind, x, y + bar.top, length, bar.height, bar.radius, row.hint)
        yield Text("value", WIDTH - 4, middle, row.value, "end", row.after_value)
