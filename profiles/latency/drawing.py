"""SVG by hand: a waterfall of stages and a histogram per stage. Colours are CSS variables of the page."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from sefa_edge.profiles.latency.report import Bin, StageReport

WATERFALL_WIDTH, ROW_HEIGHT, LABEL_WIDTH, VALUE_WIDTH = 940, 34, 190, 150
PLOT_WIDTH, PLOT_HEIGHT, MARGIN_X, TOP, BOTTOM = 440, 110, 10, 34, 22


def format_duration(duration_ns: float) -> str:
    """Three significant digits with a unit: `842 ns`, `12.3 µs`, `8.41 ms`, `1.20 s`."""
    for unit_ns, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        # 999.5 of the smaller unit would already be printed as 1000 of it.
        if duration_ns >= unit_ns * 0.9995:
            value = duration_ns / unit_ns
            decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{decimals}f} {unit}"
    return f"{duration_ns:.0f} ns"


def draw_waterfall(stages: list[StageReport]) -> str:
    """One row per stage, each beginning where the median of the one before it ends: the way of a frame."""
    starts = [sum(stage.p50_ns for stage in stages[:row]) for row in range(len(stages))]
    end_ns = max(1, *(start + stage.p99_ns for start, stage in zip(starts, stages, strict=True)))
    width = WATERFALL_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    height = ROW_HEIGHT * len(stages) + 30
    parts = [_open_svg(WATERFALL_WIDTH, height, "Way of a frame: median and 99th percentile of every stage")]
    for tick_ns in _linear_ticks(end_ns):
        x = LABEL_WIDTH + width * tick_ns / end_ns
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 24}"/>')
        parts.append(_tick(x, height - 8, tick_ns, WATERFALL_WIDTH))
    for row, (start_ns, stage) in enumerate(zip(starts, stages, strict=True)):
        x = LABEL_WIDTH + width * start_ns / end_ns
        parts.append(_waterfall_row(stage, x, width / end_ns, row * ROW_HEIGHT))
    return "".join([*parts, "</svg>"])


def _waterfall_row(stage: StageReport, x: float, pixels_per_ns: float, y: float) -> str:
    median = max(stage.p50_ns * pixels_per_ns, 2.0)
    tail = max(stage.p99_ns * pixels_per_ns, median)
    middle, bar = y + ROW_HEIGHT / 2 + 4, ROW_HEIGHT - 14
    p50, p99 = format_duration(stage.p50_ns), format_duration(stage.p99_ns)
    return (
        f"<g><title>{escape(stage.title)}: median {p50}, p99 {p99}</title>"
        f'<text class="label" x="{LABEL_WIDTH - 12}" y="{middle:.1f}">{escape(stage.title)}</text>'
        f'<rect class="tail" x="{x:.1f}" y="{y + 7:.1f}" width="{tail:.1f}" height="{bar}" rx="3"/>'
        f'<rect class="median" x="{x:.1f}" y="{y + 7:.1f}" width="{median:.1f}" height="{bar}" rx="3"/>'
        f'<text class="value" x="{WATERFALL_WIDTH - 4}" y="{middle:.1f}">{p50}'
        f'<tspan class="faint"> · {p99}</tspan></text></g>'
    )


def draw_histogram(stage: StageReport) -> str:
    """The distribution of one stage on a logarithmic time axis, with median, p99 and maximum marked."""
    low, high = _log_range(stage)

    def x_of(duration_ns: float) -> float:
        share = (math.log(max(duration_ns, 1)) - low) / (high - low)
        return MARGIN_X + (PLOT_WIDTH - 2 * MARGIN_X) * max(share, 0.0)

    base = TOP + PLOT_HEIGHT
    summary = f"{stage.title}: median {format_duration(stage.p50_ns)}, maximum {format_duration(stage.max_ns)}"
    parts = [_open_svg(PLOT_WIDTH, base + BOTTOM, summary)]
    for tick_ns in _log_ticks(math.exp(low), math.exp(high)):
        x = x_of(tick_ns)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{base}"/>')
        parts.append(_tick(x, base + 15, tick_ns, PLOT_WIDTH))
    highest = max(bin.count for bin in stage.histogram)
    parts += [
        _bar(bin, x_of(bin.low_ns), x_of(bin.high_ns), highest, stage.count) for bin in stage.histogram if bin.count
    ]
    parts.append(f'<line class="axis" x1="{MARGIN_X}" x2="{PLOT_WIDTH - MARGIN_X}" y1="{base}" y2="{base}"/>')
    parts += [_marker(name, x_of(value_ns), level, base) for name, value_ns, level in _marks(stage, x_of)]
    return "".join([*parts, "</svg>"])


def _log_range(stage: StageReport) -> tuple[float, float]:
    """Logarithms of both ends of the axis: four decades at most, what is shorter stands at the left edge."""
    high_ns = stage.histogram[-1].high_ns
    low_ns = max(stage.histogram[0].low_ns, high_ns / 1e4, 1.0)
    return math.log(low_ns), max(math.log(high_ns), math.log(low_ns * 1.02))


def _bar(bin: Bin, left: float, right: float, highest: int, total: int) -> str:
    # A single late sample matters more here than its share of the area: it stays visible.
    height = max(PLOT_HEIGHT * bin.count / highest, 2.0)
    width = max(right - left - 0.8, 0.8)
    label = f"{format_duration(bin.low_ns)} to {format_duration(bin.high_ns)}: {bin.count} of {total}"
    y = TOP + PLOT_HEIGHT - height
    return (
        f'<rect class="bar" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">'
        f"<title>{label}</title></rect>"
    )


def _marks(stage: StageReport, x_of: Callable[[float], float]) -> list[tuple[str, float, int]]:
    """Percentile marks with the line of text that each label takes, so that neighbours do not overlap."""
    marks, ends = [], [-1e9, -1e9]
    for name, value_ns in (("p50", stage.p50_ns), ("p99", stage.p99_ns), ("max", stage.max_ns)):
        x = x_of(value_ns)
        level = 0 if x - ends[0] > 40 else 1
        ends[level] = x
        marks.append((name, value_ns, level))
    return marks


def _marker(name: str, x: float, level: int, base: float) -> str:
    y = 12 + 13 * level
    return (
        f'<line class="mark {name}" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 4}" y2="{base}"/>'
        f'<text class="mark-label" x="{x:.1f}" y="{y}" text-anchor="{_anchor(x, PLOT_WIDTH)}">{name}</text>'
    )


def _tick(x: float, y: float, duration_ns: float, width: int) -> str:
    anchor, label = _anchor(x, width), _format_tick(duration_ns)
    return f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{label}</text>'


def _anchor(x: float, width: int) -> str:
    """Text near an edge grows inwards, so that nothing is cut off."""
    return "end" if x > width - 30 else "start" if x < 30 else "middle"


def _format_tick(duration_ns: float) -> str:
    """An axis label without needless digits: `0`, `200 µs`, `1.5 ms`."""
    if duration_ns == 0:
        return "0"
    for unit_ns, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")):
        if duration_ns >= unit_ns:
            return f"{duration_ns / unit_ns:.4g} {unit}"
    return f"{duration_ns:.3g} ns"


def _linear_ticks(end_ns: float) -> list[float]:
    step = _nice_step(end_ns / 5)
    return [step * i for i in range(int(end_ns / step) + 1)]


def _log_ticks(low_ns: float, high_ns: float) -> list[float]:
    """Round durations inside the range: even steps when it is narrow, 1-2-5 when it is wide."""
    if high_ns / low_ns < 6:
        step = _nice_step((high_ns - low_ns) / 3)
        return [step * i for i in range(math.ceil(low_ns / step), int(high_ns / step) + 1)]
    factors = (1, 2, 5) if high_ns / low_ns < 60 else (1, 3) if high_ns / low_ns < 600 else (1,)
    decades = range(int(math.log10(low_ns)), int(math.log10(high_ns)) + 1)
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    return [tick for tick in ticks if low_ns <= tick <= high_ns]


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(max(rough, 1)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _open_svg(width: int, height: int, title: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}">'
