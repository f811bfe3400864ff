"""The tables of fields in edge/recording/README.md are those of the record classes."""

from __future__ import annotations

import pytest

from sefa_edge.edge.ipc.records import TickReport
from sefa_edge.edge.recording.field_tables import BEGIN, END, README, table_of, tables, with_tables


def test_the_page_holds_the_tables_of_the_classes() -> None:
    page = README.read_text()
    assert with_tables(page) == page, "run `python -m sefa_edge.edge.recording.field_tables`"
    assert "\n".join(table_of(TickReport)) in page


def test_the_text_between_the_markers_is_replaced() -> None:
    assert with_tables(f"before\n{BEGIN}\nold\n{END}\nafter") == f"before\n{BEGIN}\n{tables()}\n{END}\nafter"
    with pytest.raises(ValueError, match="no <!-- fields"):
        with_tables("a page without marks")
