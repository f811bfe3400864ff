"""The parts of a page as HTML. Arguments are text and are escaped, unless a parameter is named `…_html`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template

from sefa_edge.profiles.page.style import page_style


def render_page(title: str, subtitle: str, tiles_html: Iterable[str], body_html: Iterable[str]) -> str:
    """The HTML document, without scripts or requests."""
    template = resources.files("sefa_edge.profiles.page").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        style=page_style(),
        title=escape(title),
        subtitle=escape(subtitle),
        tiles="".join(tiles_html),
        body="\n".join(body_html),
    )


def tile(title: str, value: str, unit: str, below_html: str) -> str:
    """A headline number."""
    return (
        f'<article class="tile"><h3>{escape(title)}</h3><p class="big">{escape(value)}<span> {escape(unit)}</span></p>'
        f"{below_html}</article>"
    )


def meter(share: float) -> str:
    """A bar for a share of a budget; above 1 in another colour."""
    state = "over" if share > 1 else "within"
    return f'<div class="meter {state}"><i style="width:{min(share, 1):.1%}"></i></div>'


def section(title: str, explanation_html: str, *cards_html: str) -> str:
    """A heading, an optional sentence, and its content."""
    explanation = f"<p>{explanation_html}</p>" if explanation_html else ""
    return f"<h2>{escape(title)}</h2>{explanation}{''.join(cards_html)}"


def card(content_html: str) -> str:
    return f'<div class="card">{content_html}</div>'


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: aligned as a number or as text, `over` if it exceeds a limit."""

    text: str
    style: str = ""


def table(head: Sequence[Cell | str], *bodies: Iterable[Sequence[Cell | str]]) -> str:
    """A table whose first column names its rows; several bodies are separated by a line."""
    rows = "".join(f"<tbody>{''.join(map(_row, body))}</tbody>" for body in bodies)
    return f"<table><thead><tr>{''.join(_cell('th', cell) for cell in head)}</tr></thead>{rows}</table>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names with their values."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in pairs)}</dl>"


def _row(cells: Sequence[Cell | str]) -> str:
    name, *numbers = cells
    return f"<tr>{_cell('th', name)}{''.join(_cell('td', cell) for cell in numbers)}</tr>"


def _cell(tag: str, cell: Cell | str) -> str:
    text, style = (cell, "") if isinstance(cell, str) else (cell.text, cell.style)
    return f"<{tag}{style and f' class={chr(34)}{style}{chr(34)}'}>{escape(text)}</{tag}>"
