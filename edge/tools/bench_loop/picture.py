"""Draws the histogram of the lateness."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sefa_edge.edge.tools.painting import paint
from sefa_edge.profiles.page.histogram import OverlayText, draw_overlay
from sefa_edge.profiles.percentiles import DurationBin

EDGES_NS = np.geomspace(1e2, 1e8, 73)
"""100 ns to 100 ms, twelve bins per decade; values outside count in the first or last bin."""
LIMIT_NS = 1e6


def draw_lateness(series: Mapping[str, np.ndarray], title: str) -> np.ndarray:
    """Picture uint8 [H, W, 3] of up to four series of lateness int64[N] in nanoseconds, in one plot."""
    text = OverlayText(title, "lateness of a tick", "ticks", LIMIT_NS)
    return paint(draw_overlay({name: _bins(lateness_ns) for name, lateness_ns in series.items()}, text))


def _bins(lateness_ns: np.ndarray) -> list[DurationBin]:
    inside = np.clip(lateness_ns, EDGES_NS[0], EDGES_NS[-1] * (1 - 1e-9))
    counts = np.histogram(inside, EDGES_NS)[0]
    return [DurationBin(*bin) for bin in zip(EDGES_NS.tolist(), EDGES_NS[1:].tolist(), counts.tolist(), strict=False)]
