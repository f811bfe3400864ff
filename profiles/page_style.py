"""The style sheet that all pages of the house share: light and dark, on screen and on paper, no request."""

from __future__ import annotations

from importlib import resources


def page_style() -> str:
    """CSS to stand in a page's own <style> element."""
    return resources.files("sefa_edge.profiles").joinpath("page.css").read_text(encoding="utf-8").rstrip("\n")
