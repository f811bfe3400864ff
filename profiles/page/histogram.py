"""Histograms of durations: one with its percentiles marked, or several overlaid for comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sefa_edge.profiles.page.axes import LogAxis, anchor_at, format_duration, format_tick
from sefa_edge.profiles.page.shapes import Box, Curve, Drawing, Line, Shape, Text
from sefa_edge.profiles.page.style import SERIES
from sefa_edge.profiles.percentiles import DurationBin

WIDTH, PLOT_HEIGHT, MARGIN, TOP, BOTTOM = 440, 110, 10, 34, 22
BASE = TOP + PLOT_HEIGHT
LABEL_WIDTH = 40

WIDE, HIGH = 960, 540
LEFT, RIGHT, CEILING, FLOOR = 70, WIDE - 24, 56, HIGH - 52


def draw_histogram(title: str, bins: Sequence[DurationBin], marks: Mapping[str, float]) -> Drawing:
    """One distribution on its own logarithmic time axis; `marks` by kind (p50, p99, max), ascending, nanoseconds."""
    axis = _axis_of(bins)
    total, highest = sum(bin.count for bin in bins), max(bin.count for bin in bins)
    shapes: list[Shape] = []
    for tick_ns in axis.ticks():
        x = axis.x_of(tick_ns)
        shapes += [Line("grid", x, TOP, x, BASE), Text("tick", x, BASE + 15, format_tick(tick_ns), anchor_at(x, WIDTH))]
    shapes += [_bar(bin, axis, highest, total) for bin in bins if bin.count]
    shapes.append(Line("axis", MARGIN, BASE, WIDTH - MARGIN, BASE))
    return Drawing(WIDTH, BASE + BOTTOM, title, (*shapes, *_marks(marks, axis)))


def _axis_of(bins: Sequence[DurationBin]) -> LogAxis:
    """Four decades at most: shorter durations are placed at the left edge."""
    high_ns = bins[-1].high_ns
    low_ns = max(bins[0].low_ns, high_ns / 1e4, 1.0)
    return LogAxis(low_ns, max(high_ns, low_ns * 1.02), MARGIN, WIDTH - MARGIN)


def _bar(bin: DurationBin, axis: LogAxis, highest: int, total: int) -> Box:
    # A single late sample matters more than its share of the area, so it stays visible.
    height = max(PLOT_HEIGHT * bin.count / highest, 2.0)
    left = axis.x_of(bin.low_ns)
    width = max(axis.x_of(bin.high_ns) - left - 0.8, 0.8)
    hint = f"{format_duration(bin.low_ns)} to {format_duration(bin.high_ns)}: {bin.count} of {total}"
    return Box("bar", left, BASE - height, width, height, hint=hint)


def _marks(marks: Mapping[str, float], axis: LogAxis) -> Iterator[Shape]:
    """A label that would overlap the one before it moves to a second line."""
    ends = [-math.inf, -math.inf]
    for kind, value_ns in marks.items():
        x = axis.x_of(value_ns)
        level = 0 if x - ends[0] > LABEL_WIDTH else 1
        ends[level] = x
        y = 12 + 13 * level
        yield Line(kind, x, y + 4, x, BASE)
        yield Text("faint", x, y, kind, anchor_at(x, WIDTH))


@dataclass(frozen=True, slots=True)
class OverlayText:
    """Texts of overlaid histograms; `limit_ns`: the duration whose grid line is drawn darker."""

    title: str
    x_axis: str
    y_axis: str
    limit_ns: float


def draw_overlay(series: Mapping[str, Sequence[DurationBin]], text: OverlayText) -> Drawing:
    """Outlines of up to four histograms with the same bins; both axes logarithmic, to show rare samples."""
    bins = next(iter(series.values()))
    axis = LogAxis(bins[0].low_ns, bins[-1].high_ns, LEFT, RIGHT)
    highest = max(bin.count for found in series.values() for bin in found)
    top = 10 ** math.ceil(math.log10(highest + 1))
    shapes = [*_overlay_axes(axis, top, text), Text("plain", LEFT, 22, text.title)]
    for index, (name, found) in enumerate(series.items()):
        shapes += [Curve(SERIES[index], points) for points in _outlines(found, axis, top)]
        shapes.append(Text(SERIES[index], LEFT + 260 * index, 44, name))
    return Drawing(WIDE, HIGH, text.title, tuple(shapes))


def _overlay_axes(axis: LogAxis, top: float, text: OverlayText) -> Iterator[Shape]:
    for tick_ns in axis.ticks():
        x = axis.x_of(tick_ns)
        yield Line("axis" if math.isclose(tick_ns, text.limit_ns) else "grid", x, FLOOR, x, CEILING)
        yield Text("tick", x, FLOOR + 20, format_tick(tick_ns), "middle")
    for decade in range(round(math.log10(top)) + 1):
        y = _height_of(10**decade, top)
        yield Line("grid", LEFT, y, RIGHT, y)
        yield Text("tick", LEFT - 10, y + 4, f"{10**decade}", "end")
    yield Line("axis", LEFT, FLOOR, RIGHT, FLOOR)
    yield Text("plain", WIDE / 2, HIGH - 10, text.x_axis, "middle")
    yield Text("plain", LEFT - 10, CEILING - 8, text.y_axis, "end")


def _height_of(count: float, top: float) -> float:
    """Height of a count: one is clearly above the axis, zero is on it, although a logarithmic axis has no zero."""
    share = 0.0 if count < 1 else (math.log10(count) + 0.3) / (math.log10(top) + 0.3)
    return FLOOR - share * (FLOOR - CEILING)


def _outlines(bins: Sequence[DurationBin], axis: LogAxis, top: float) -> Iterator[tuple[tuple[float, float], ...]]:
    """One outline per run of non-empty bins."""
    points: list[tuple[float, float]] = []
    for bin in (*bins, DurationBin(0, 0, 0)):
        if bin.count:
            y = _height_of(bin.count, top)
            points = points or [(axis.x_of(bin.low_ns), FLOOR)]
            points += [(axis.x_of(bin.low_ns), y), (axis.x_of(bin.high_ns), y)]
        elif points:
            yield (*points, (points[-1][0], FLOOR))
            points = []
