"""Colours of pages and images, and the style sheet of pages: light and dark, on screen and on paper."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

PALETTE = {
    "paper": ("#fbfaf7", "#14171b"),
    "card": ("#ffffff", "#1c2026"),
    "ink": ("#1d2126", "#e8e6e1"),
    "soft": ("#5d6670", "#98a2ad"),
    "line": ("#e4e1d9", "#2d333b"),
    "median": ("#1f6f8b", "#6cc0d8"),
    "tail": ("#b9d7df", "#2b4b57"),
    "bar": ("#4d95ab", "#4a9ab3"),
    "late": ("#c2562d", "#f08a5d"),
    "good": ("#3d8b5f", "#63b98a"),
    "difference": ("#c83c3c", "#f07070"),
}
"""Each colour on a light and on a dark background."""
SERIES = ("series-1", "series-2", "series-3", "series-4")
"""Kinds of the curves of one chart, in their order."""


@dataclass(frozen=True, slots=True)
class Ink:
    """How a kind of shape is drawn: names of the palette, line width and dashes in pixels."""

    fill: str = "none"
    stroke: str = "none"
    width: float = 1.0
    dashes: str = ""

    @property
    def css(self) -> str:
        """The declarations of the kind's class."""
        if self.stroke == "none":
            return f"fill: var(--{self.fill});"
        fill = "" if self.fill == "none" else f" fill: var(--{self.fill});"
        width = "" if self.width == 1 else f" stroke-width: {self.width:g};"
        return f"stroke: var(--{self.stroke});{fill}{width}{self.dashes and f' stroke-dasharray: {self.dashes};'}"


SHAPE_KINDS = {
    "grid": Ink(stroke="line"),
    "axis": Ink(stroke="soft"),
    "ground": Ink(fill="line"),
    "median": Ink(fill="median"),
    "tail": Ink(fill="tail"),
    "bar": Ink(fill="bar"),
    "difference": Ink(fill="difference"),
    "p50": Ink(stroke="ink", width=1.2),
    "p99": Ink(stroke="ink", width=1.2, dashes="4 3"),
    "max": Ink(stroke="late", width=1.2, dashes="1.5 2.5"),
    "budget": Ink(stroke="late", dashes="4 3"),
    "reference": Ink(stroke="median"),
    "candidate": Ink(stroke="late"),
    "series-1": Ink(stroke="median", width=1.8),
    "series-2": Ink(stroke="late", width=1.8),
    "series-3": Ink(stroke="good", width=1.8),
    "series-4": Ink(stroke="soft", width=1.8),
}
"""Kinds of lines, boxes and curves."""

TEXT_KINDS = {
    "plain": "ink",
    "label": "ink",
    "value": "ink",
    "tick": "soft",
    "faint": "soft",
    "reference": "median",
    "candidate": "late",
    "difference": "difference",
    "series-1": "median",
    "series-2": "late",
    "series-3": "good",
    "series-4": "soft",
}
"""Kinds of text, each with its colour."""


def page_style() -> str:
    """CSS for a page's <style> element."""
    sheet = resources.files("sefa_edge.profiles.page").joinpath("page.css").read_text(encoding="utf-8")
    return "\n".join((_root(0), "@media (prefers-color-scheme: dark) {", _root(1), "}", *_drawn(), sheet.rstrip("\n")))


def light_rgb(colour: str) -> tuple[int, int, int]:
    """A colour of the palette as red, green and blue 0..255, for images on a white background."""
    red, green, blue = bytes.fromhex(PALETTE[colour][0][1:])
    return red, green, blue


def _root(ground: int) -> str:
    return f":root {{ {' '.join(f'--{name}: {colours[ground]};' for name, colours in PALETTE.items())} }}"


def _drawn() -> list[str]:
    shapes = [f"svg .{kind} {{ {ink.css} }}" for kind, ink in SHAPE_KINDS.items()]
    texts = [
        f"svg text.{kind}, svg tspan.{kind} {{ stroke: none; fill: var(--{colour}); }}"
        for kind, colour in TEXT_KINDS.items()
    ]
    return [*shapes, "svg polyline { fill: none; }", *texts]
