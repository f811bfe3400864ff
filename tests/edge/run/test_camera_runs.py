"""The limits that a run sets for its cameras, and a whole run with two of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sefa_edge.cli import CommandLine
from sefa_edge.edge.run import command
from sefa_edge.edge.run.run_plan import RunPlan, make_plan
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.units import ms_to_ns

PATIENCE_S = 120.0


def run(folder: Path, engine: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
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
        [*command, *arguments],
        capture_output=True,
        cwd=folder,
        timeout=PATIENCE_S,
        env=os.environ | {"TMPDIR": str(folder)},
    )


@pytest.mark.once
@pytest.mark.sim
def test_an_engine_with_two_cameras(tmp_path: Path, two_camera_engine: Path) -> None:
    done = run(tmp_path, two_camera_engine, "--seconds", "1", "--max-skew-ms", "500", "--max-frame-age-ms", "5000")
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads((tmp_path / "run.json").read_text())
    assert sum(episode["chunks"] for episode in found["episodes"]) >= 1
    assert set(found["cameras"]) == {"front", "side"}
    assert all(count["pictures"] > 1 and count["reconnections"] == 0 for count in found["cameras"].values())


def plan(engine: Path, *arguments: str) -> RunPlan:
    parser = CommandLine()
    command.add_arguments(parser)
    return make_plan(parser.parse_args(["--engine", str(engine), *arguments]))


def test_frame_limits_follow_the_kind_of_camera_and_the_arguments(two_camera_engine: Path) -> None:
    cameras = ("--camera", "front=http://10.0.0.1/cam", "--camera", "side=images:folder")
    checks = plan(two_camera_engine, *cameras).camera_checks
    assert (checks.max_frame_age_ms, checks.max_skew_ms) == (500.0, 50.0)
    assert checks.frozen_ns == {"front": ms_to_ns(1000)}
    assert checks.dark_ns == {"front": ms_to_ns(500)}
    asked = ("--frozen-ms", "0", "--dark-ms", "300", "--max-frame-age-ms", "200", "--max-skew-ms", "20")
    checks = plan(two_camera_engine, *cameras, *asked).camera_checks
    assert (checks.max_frame_age_ms, checks.max_skew_ms) == (200.0, 20.0)
    assert checks.frozen_ns == {}
    assert checks.dark_ns == {"front": ms_to_ns(300), "side": ms_to_ns(300)}


@pytest.mark.parametrize("arguments", [("--frozen-ms", "-1"), ("--max-skew-ms", "0"), ("--max-frame-age-ms", "nan")])
def test_invalid_limits_are_refused(reach_engine: Path, arguments: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=f"^{arguments[0]}: expected a time"):
        plan(reach_engine, *arguments)
