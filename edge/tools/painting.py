"""Renders a drawing as pixels on a white background."""

from __future__ import annotations

import numpy as np

from sefa_edge.edge.pictures import draw_line, draw_text, text_width
from sefa_edge.profiles.page.shapes import Box, Curve, Drawing, Line, Text
from sefa_edge.profiles.page.style import SHAPE_KINDS, TEXT_KINDS, light_rgb

THICK = 1.5
"""Lines of at least this width are drawn two pixels wide, all others one; dashed lines become solid."""
ANCHORS = {"start": 0.0, "middle": 0.5, "end": 1.0}


def paint(drawing: Drawing) -> np.ndarray:
    """The drawing as RGB uint8 [height, width, 3]."""
    picture = np.full((drawing.height, drawing.width, 3), 255, np.uint8)
    for shape in drawing.shapes:
        if isinstance(shape, Box):
            _fill(picture, shape)
        elif isinstance(shape, Text):
            _write(picture, shape)
        else:
            _stroke(picture, shape)
    return picture


def _fill(picture: np.ndarray, box: Box) -> None:
    top, bottom = round(box.y), round(box.y + box.height)
    left, right = round(box.x), round(box.x + box.width)
    picture[top:bottom, left:right] = light_rgb(SHAPE_KINDS[box.kind].fill)


def _stroke(picture: np.ndarray, shape: Line | Curve) -> None:
    ends = ((shape.x1, shape.y1), (shape.x2, shape.y2)) if isinstance(shape, Line) else shape.points
    ink, points = SHAPE_KINDS[shape.kind], np.array(ends)
    draw_line(picture, points, light_rgb(ink.stroke))
    if ink.width >= THICK:
        draw_line(picture, points + np.array((0, 1)), light_rgb(ink.stroke))


def _write(picture: np.ndarray, shape: Text) -> None:
    text = (shape.text + shape.after).replace("µ", "u").replace("·", "|")  # the font is ASCII
    x = shape.x - ANCHORS[shape.anchor] * text_width(text)
    draw_text(picture, text, (round(x), round(shape.y)), light_rgb(TEXT_KINDS[shape.kind]))
