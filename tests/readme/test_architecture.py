"""The drawing of the rooms in ARCHITECTURE.md has the order of the import contracts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[2]


def drawn_rooms() -> dict[str, list[str]]:
    """Folder -> its rooms from top to bottom, as drawn."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    drawing = text.partition("<!-- rooms: begin -->")[2].partition("<!-- rooms: end -->")[0]
    rooms: dict[str, list[str]] = {}
    folder = ""
    for indent, name in re.findall(r"^( *)([a-z_]+) {2,}\S", drawing, re.MULTILINE):
        if indent:
            rooms[folder].append(name)
        else:
            folder, rooms[name] = name, []
    return rooms


def contracted_rooms(folder: str) -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one.get("containers") == [f"sefa_edge.{folder}"])
    return [name for layer in layers for name in re.split(r" *[|:] *", layer)]


@pytest.mark.parametrize("folder", ["edge", "firmware_bridge"])
def test_the_drawing_matches_the_contract(folder: str) -> None:
    assert drawn_rooms()[folder] == contracted_rooms(folder)


@pytest.mark.parametrize("folder", ["edge", "firmware_bridge"])
def test_every_room_is_a_folder_or_a_module(folder: str) -> None:
    for name in drawn_rooms()[folder]:
        assert (ROOT / folder / name / "__init__.py").exists() or (ROOT / folder / f"{name}.py").exists()
