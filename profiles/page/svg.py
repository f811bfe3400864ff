"""A drawing as SVG in a page, whose style sheet has the colours."""

from __future__ import annotations

from html import escape

from sefa_edge.profiles.page.shapes import Box, Curve, Drawing, Line, Shape


def svg_of(drawing: Drawing) -> str:
    """An <svg> element."""
    title = escape(drawing.title, quote=True)
    head = f'<svg viewBox="0 0 {drawing.width} {drawing.height}" role="img" aria-label="{title}">'
    return "".join([head, *map(_element, drawing.shapes), "</svg>"])


def _element(shape: Shape) -> str:
    if isinstance(shape, Line):
        x1, y1, x2, y2 = map(_number, (shape.x1, shape.y1, shape.x2, shape.y2))
        return f'<line class="{shape.kind}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'
    if isinstance(shape, Curve):
        points = " ".join(f"{_number(x)},{_number(y)}" for x, y in shape.points)
        return f'<polyline class="{shape.kind}" points="{points}"/>'
    if isinstance(shape, Box):
        return _box(shape)
    place = f'x="{_number(shape.x)}" y="{_number(shape.y)}" text-anchor="{shape.anchor}"'
    after = f'<tspan class="faint">{escape(shape.after)}</tspan>' if shape.after else ""
    return f'<text class="{shape.kind}" {place}>{escape(shape.text)}{after}</text>'


def _box(box: Box) -> str:
    x, y, width, height = map(_number, (box.x, box.y, box.width, box.height))
    radius = f' rx="{_number(box.radius)}"' if box.radius else ""
    hint = f"<title>{escape(box.hint)}</title>" if box.hint else ""
    return f'<rect class="{box.kind}" x="{x}" y="{y}" width="{width}" height="{height}"{radius}>{hint}</rect>'


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
