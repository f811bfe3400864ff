"""The shapes of a chart, for SVG and for pixels. Coordinates in pixels, y downwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line; `kind` is one of `SHAPE_KINDS`."""

    kind: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle; `hint` is shown under the mouse pointer."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    radius: float = 0.0
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points."""

    kind: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text of one of the `TEXT_KINDS`: (x, y) is its baseline at `anchor`; `after` follows it, faint."""

    kind: str
    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    after: str = ""


Shape: TypeAlias = "Line | Box | Curve | Text"


@dataclass(frozen=True, slots=True)
class Drawing:
    """Shapes, later ones on top; `title` describes the drawing."""

    width: int
    height: int
    title: str
    shapes: tuple[Shape, ...]
