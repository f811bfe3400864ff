"""Axes: values with a grid line and a label, and durations as text."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sefa_edge.profiles.page.shapes import Anchor

_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))


def format_duration(duration_ns: float) -> str:
    """Three significant digits with a unit: `842 ns`, `12.3 µs`, `8.41 ms`, `1.20 s`."""
    for unit_ns, unit in _UNITS:
        # From 999.5 the smaller unit would be printed as 1000.
        if duration_ns >= unit_ns * 0.9995:
            value = duration_ns / unit_ns
            decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{decimals}f} {unit}"
    return f"{duration_ns:.0f} ns"


def format_tick(duration_ns: float) -> str:
    """A duration without trailing zeros: `0`, `200 µs`, `1.5 ms`."""
    if duration_ns == 0:
        return "0"
    for unit_ns, unit in (*_UNITS, (1.0, "ns")):
        if duration_ns >= unit_ns:
            return f"{duration_ns / unit_ns:.4g} {unit}"
    return f"{duration_ns:.3g} ns"


@dataclass(frozen=True, slots=True)
class LogAxis:
    """Durations on a logarithmic axis from `left` to `right` in pixels."""

    low_ns: float
    high_ns: float
    left: float
    right: float

    def x_of(self, duration_ns: float) -> float:
        """Position of a duration; one below the axis is placed at its left end."""
        share = math.log(max(duration_ns, 1) / self.low_ns) / math.log(self.high_ns / self.low_ns)
        return self.left + (self.right - self.left) * max(share, 0.0)

    def ticks(self) -> list[float]:
        """Round durations: equal steps on a short axis, 1-2-5 or decades on a long one."""
        if self.high_ns / self.low_ns < 6:
            step = _nice_step((self.high_ns - self.low_ns) / 3)
            return [step * i for i in range(math.ceil(self.low_ns / step), int(self.high_ns / step) + 1)]
        ratio = self.high_ns / self.low_ns
        factors = (1, 2, 5) if ratio < 60 else (1, 3) if ratio < 600 else (1,)
        decades = range(int(math.log10(self.low_ns)), round(math.log10(self.high_ns)) + 1)
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        return [tick for tick in ticks if self.low_ns <= tick <= self.high_ns]


def linear_ticks(end: float) -> list[float]:
    """About five round values from 0 to `end`."""
    step = _nice_step(end / 5)
    return [step * i for i in range(int(end / step) + 1)]


def anchor_at(x: float, width: float) -> Anchor:
    """Anchor for a text at `x`: near an edge of the drawing it extends inwards, so that nothing is cut off."""
    return "end" if x > width - 30 else "start" if x < 30 else "middle"


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(max(rough, 1)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
