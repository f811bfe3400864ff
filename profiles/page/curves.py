"""Curves over steps, in one frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sefa_edge.profiles.page.shapes import Curve, Drawing, Line, Shape, Text
from sefa_edge.profiles.page.style import SERIES

WIDTH, HEIGHT = 940, 200
LEGEND_HEIGHT = 22


@dataclass(frozen=True, slots=True)
class Frame:
    """Area of the curves in pixels, and the values at its lower and upper edge."""

    left: float
    top: float
    right: float
    bottom: float
    low: float
    high: float

    def x_of(self, step: int, steps: int) -> float:
        return self.left + (self.right - self.left) * step / max(steps - 1, 1)

    def y_of(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def curve(self, kind: str, values: Sequence[float]) -> Curve:
        """One value per step, evenly spaced."""
        points = ((self.x_of(step, len(values)), self.y_of(value)) for step, value in enumerate(values))
        return Curve(kind, tuple(points))


def draw_curves(title: str, curves: Mapping[str, Sequence[float]], highest: float) -> Drawing:
    """Up to four curves with values from 0 to `highest`, one per step, with their names on the right."""
    frame = Frame(60, 10, WIDTH - 190, HEIGHT - 30, 0.0, highest)
    steps = len(next(iter(curves.values())))
    shapes: list[Shape] = [*_axes(frame, steps)]
    for index, (name, values) in enumerate(curves.items()):
        kind, y = SERIES[index % len(SERIES)], 24 + LEGEND_HEIGHT * index
        shapes.append(frame.curve(kind, values))
        shapes += [Line(kind, frame.right + 14, y, frame.right + 34, y), Text("plain", frame.right + 42, y + 4, name)]
    return Drawing(WIDTH, HEIGHT, title, tuple(shapes))


def _axes(frame: Frame, steps: int) -> Iterator[Shape]:
    for share in (0, 0.5, 1):
        y = frame.y_of(share * frame.high)
        yield Line("grid", frame.left, y, frame.right, y)
        yield Text("tick", frame.left - 8, y + 4, f"{share * frame.high:.3g}", "end")
    for step in range(0, steps, max(1, steps // 8)):
        yield Text("tick", frame.x_of(step, steps), frame.bottom + 20, f"step {step}", "middle")
