"""A whole run with two cameras at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sim

PATIENCE_S = 120.0


def run(folder: Path, engine: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [
        sys.executable,
        "-m",
        "sefa_edge",
        "run",
        "--engine",
        str(engine),
        "--video",
        "none",
        "--json",
        "run.json",
    ]
    return subprocess.run(
        [*command, *words],
        capture_output=True,
        cwd=folder,
        timeout=PATIENCE_S,
        env=os.environ | {"TMPDIR": str(folder)},
    )


def test_an_engine_with_two_cameras(tmp_path: Path, two_camera_engine: Path) -> None:
    done = run(tmp_path, two_camera_engine, "--seconds", "1", "--max-skew-ms", "500", "--max-frame-age-ms", "5000")
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads((tmp_path / "run.json").read_text())
    assert sum(episode["chunks"] for episode in found["episodes"]) >= 1
    assert set(found["cameras"]) == {"front", "side"}
    assert all(count["pictures"] > 1 and count["reconnections"] == 0 for count in found["cameras"].values())
