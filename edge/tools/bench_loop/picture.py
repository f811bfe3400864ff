"""The histogram of the lateness as a picture: both axes logarithmic, because what matters is rare and late."""

from __future__ import annotations

import math

import numpy as np

from sefa_edge.edge.pictures import draw_line, draw_text

HEIGHT, WIDTH = 540, 960
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 56, 52
BINS_PER_DECADE = 12
LOW_NS, HIGH_NS = 1e2, 1e8
"""100 ns to 100 ms; what is earlier or later counts at the edge."""

WHITE, INK, FAINT = (255, 255, 255), (30, 30, 30), (225, 225, 225)
COLOURS = ((20, 90, 200), (215, 110, 20), (60, 150, 60))
LIMIT = (190, 190, 190)


def draw_lateness(series: dict[str, np.ndarray], title: str) -> np.ndarray:
    """Picture uint8 [540, 960, 3] of up to three series of lateness int64[N], nanoseconds, in one set of axes."""
    picture = np.full((HEIGHT, WIDTH, 3), WHITE, np.uint8)
    counts = {name: _counts(lateness_ns) for name, lateness_ns in series.items()}
    top = 10 ** math.ceil(math.log10(max(count.max() for count in counts.values()) + 1))
    _draw_axes(picture, top)
    draw_text(picture, title, (LEFT, 22), INK)
    for index, (name, count) in enumerate(counts.items()):
        colour = COLOURS[index % len(COLOURS)]
        for points in _steps(count, top):
            draw_line(picture, points, colour)
            draw_line(picture, points + np.array((0, 1)), colour)  # two pixels wide
        draw_text(picture, name, (LEFT + 260 * index, 44), colour)
    return picture


def _edges_ns() -> np.ndarray:
    decades = math.log10(HIGH_NS / LOW_NS)
    return np.geomspace(LOW_NS, HIGH_NS, round(decades * BINS_PER_DECADE) + 1)


def _counts(lateness_ns: np.ndarray) -> np.ndarray:
    edges = _edges_ns()
    inside = np.clip(lateness_ns, edges[0], edges[-1] * (1 - 1e-9))
    return np.histogram(inside, edges)[0]


def _x(duration_ns: float) -> float:
    share = math.log(duration_ns / LOW_NS) / math.log(HIGH_NS / LOW_NS)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(count: float, top: float) -> float:
    """A count of one stands well above the axis, none on it: on a logarithmic axis there is no zero."""
    share = 0.0 if count < 1 else (math.log10(count) + 0.3) / (math.log10(top) + 0.3)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _steps(count: np.ndarray, top: float) -> list[np.ndarray]:
    """The outline of the histogram: one line of points [K, 2] per run of bins that are not empty."""
    edges = _edges_ns()
    lines, points = [], []
    for index in range(len(count) + 1):
        if index < len(count) and count[index]:
            y = _y(count[index], top)
            points = points or [(_x(edges[index]), _y(0, top))]
            points += [(_x(edges[index]), y), (_x(edges[index + 1]), y)]
        elif points:
            points.append((points[-1][0], _y(0, top)))
            lines.append(np.array(points))
            points = []
    return lines


def _draw_axes(picture: np.ndarray, top: float) -> None:
    floor, ceiling = _y(0, top), _y(top, top)
    for decade in range(round(math.log10(LOW_NS)), round(math.log10(HIGH_NS)) + 1):
        x = _x(10.0**decade)
        draw_line(picture, np.array([(x, floor), (x, ceiling)]), LIMIT if decade == 6 else FAINT)
        words = _duration(decade)
        draw_text(picture, words, (round(x) - 4 * len(words), HEIGHT - BOTTOM + 20), INK)
    for decade in range(round(math.log10(top)) + 1):
        y = _y(10.0**decade, top)
        draw_line(picture, np.array([(LEFT, y), (WIDTH - RIGHT, y)]), FAINT)
        words = f"{10**decade}"
        draw_text(picture, words, (LEFT - 10 - 8 * len(words), round(y) + 4), INK)
    draw_line(picture, np.array([(LEFT, floor), (WIDTH - RIGHT, floor)]), INK)
    draw_text(picture, "lateness of a tick", (WIDTH // 2 - 60, HEIGHT - 10), INK)
    draw_text(picture, "ticks", (LEFT - 48, TOP - 8), INK)


def _duration(decade: int) -> str:
    unit, of = (("ns", 0), ("us", 3), ("ms", 6))[min(decade // 3, 2)]
    return f"{10 ** (decade - of)} {unit}"
