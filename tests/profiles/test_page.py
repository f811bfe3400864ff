"""Pages and pictures: drawn in one place, with known kinds and colours only, and the same as SVG and as pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sefa_edge.edge.tools.painting import paint
from sefa_edge.profiles.page.axes import LogAxis, format_tick
from sefa_edge.profiles.page.curves import draw_curves
from sefa_edge.profiles.page.histogram import OverlayText, draw_histogram, draw_overlay
from sefa_edge.profiles.page.parts import Cell, facts, meter, render_page, section, table, tile
from sefa_edge.profiles.page.rows import Bar, Row, RowsLayout, draw_rows, draw_waterfall
from sefa_edge.profiles.page.shapes import Box, Drawing, Line, Text
from sefa_edge.profiles.page.style import PALETTE, SERIES, SHAPE_KINDS, TEXT_KINDS, light_rgb, page_style
from sefa_edge.profiles.page.svg import svg_of
from sefa_edge.profiles.percentiles import duration_bins

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("edge", "export", "firmware_bridge", "models", "profiles")
DRAWERS = ("profiles/page/", "edge/tools/painting.py", "edge/pictures.py")
"""Only these files draw charts or style pages."""
DRAWING = re.compile(r"<svg |<style>|<html lang|draw_line\(|putText|polylines")
SAMPLES_NS = np.array([40_000] * 97 + [900_000, 1_100_000, 20_000_000], np.int64)


def drawings() -> Iterator[Drawing]:
    """One of each chart."""
    bins = duration_bins(SAMPLES_NS, 60)
    yield draw_histogram("a stage", bins, {"p50": 4e4, "p99": 1.1e6, "max": 2e7})
    yield draw_overlay(dict.fromkeys("abcd", bins), OverlayText("lateness", "time", "ticks", 1e6))
    rows = [Row("a row", (Bar("tail", 1, 3, 7, 20, 3), Bar("median", 1, 2, 7, 20, 3)), "2 ms", " · 3 ms", "a hint")]
    yield draw_waterfall("stages", rows, RowsLayout(34, 190, 150, 5), format_tick)
    yield draw_rows("layers", rows, RowsLayout(26, 230, 190, 5), 4)
    yield draw_curves("steps", {name: [0.1, 0.4, 0.2] for name in "abcd"}, 0.5)


def test_only_the_page_folder_draws() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".html")]
    own = [path for path in files if "benchmarks" not in path.parts]
    assert len(own) > 300
    found = {str(path.relative_to(ROOT)) for path in own if DRAWING.search(path.read_text(encoding="utf-8"))}
    assert {name for name in found if not name.startswith(DRAWERS)} == set()
    assert "profiles/page/svg.py" in found


def test_the_style_sheet_names_only_colours_of_the_palette() -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", page_style()))
    assert used <= PALETTE.keys()
    assert {ink.stroke for ink in SHAPE_KINDS.values()} | {ink.fill for ink in SHAPE_KINDS.values()} <= {
        *PALETTE,
        "none",
    }
    assert set(TEXT_KINDS.values()) <= PALETTE.keys()


@pytest.mark.parametrize("drawing", list(drawings()), ids=lambda drawing: drawing.title)
def test_every_kind_is_known_and_every_chart_is_valid(drawing: Drawing) -> None:
    for shape in drawing.shapes:
        assert shape.kind in (TEXT_KINDS if isinstance(shape, Text) else SHAPE_KINDS)
    svg = ElementTree.fromstring(svg_of(drawing))
    assert svg.attrib["aria-label"] == drawing.title
    assert len(list(svg)) == len(drawing.shapes)
    assert paint(drawing).shape == (drawing.height, drawing.width, 3)


def test_a_painting_has_the_colours_and_positions_of_its_drawing() -> None:
    shapes = (Box("difference", 10, 20, 5, 8), Line("axis", 0, 40, 99, 40), Text("plain", 99, 60, "µ", "end"))
    picture = paint(Drawing(100, 70, "", shapes))
    assert (picture[20:28, 10:15] == light_rgb("difference")).all()
    assert (picture[:20] == 255).all()
    assert np.abs(picture[40, 50].astype(int) - light_rgb("soft")).sum() < 60
    assert (picture[50:64, :80] == 255).all(), "text that ends at 99 does not begin before 80"
    assert (picture[50:64, 80:] < 128).any()


def test_overlaid_histograms_have_their_own_colours() -> None:
    picture = paint(list(drawings())[1])
    for kind in SERIES[:3]:
        colour = light_rgb(SHAPE_KINDS[kind].stroke)
        assert (np.abs(picture.astype(int) - colour).sum(axis=2) < 60).any()


@pytest.mark.parametrize(("low_ns", "high_ns"), [(1.0, 1e9), (100.0, 1e8), (9_000.0, 11_000.0), (1.0, 2.0)])
def test_a_time_axis_has_a_few_round_ticks_inside_it(low_ns: float, high_ns: float) -> None:
    axis = LogAxis(low_ns, high_ns, 10, 430)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(low_ns <= tick <= high_ns for tick in ticks)
    assert [axis.x_of(low_ns), axis.x_of(high_ns)] == pytest.approx([10, 430])
    assert axis.x_of(low_ns / 2) == 10


def test_parts_escape_their_texts() -> None:
    evil = "<script>&$title"
    body = [
        section(evil, "", table((evil, Cell(evil, "name")), [[evil, evil]])),
        facts([(evil, evil)]),
        tile(evil, evil, evil, meter(1.5)),
    ]
    page = render_page(evil, evil, [], body)
    assert "<script" not in page
    assert page.count("&lt;script&gt;&amp;$title") == 13
    assert 'class="meter over"' in page
