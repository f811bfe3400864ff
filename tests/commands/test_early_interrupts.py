"""A stop signal at any moment of a command's start: one line, its exit code, no traceback, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE_S = 120.0
DELAYS_S = (0.05, 0.1, 0.2, 0.4, 0.8)
STARTED = """
import sys
from sefa_edge.stopping import leave_when_stopped
leave_when_stopped()
sys.stdout.write("x")
sys.stdout.flush()
from sefa_edge.__main__ import main
sys.exit(main())
"""
"""The command as its script starts it, with output as soon as it handles signals: the delay counts from there."""


def interrupted(
    words: list[str], delay_s: float, folder: Path, number: signal.Signals = signal.SIGINT
) -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    process.stdout.read(1)
    time.sleep(delay_s)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, errors.decode()


@pytest.mark.once
@pytest.mark.parametrize("delay_s", DELAYS_S)
def test_a_run(delay_s: float, tmp_path: Path, reach_engine: Path) -> None:
    code, errors = interrupted(["run", "--engine", str(reach_engine), "--video", "none"], delay_s, tmp_path)
    assert "Traceback" not in errors
    assert "Exception" not in errors
    assert code == 130, errors
    assert "stopped by Ctrl-C" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.once
@pytest.mark.parametrize("delay_s", DELAYS_S)
def test_a_simulator(delay_s: float, tmp_path: Path) -> None:
    code, errors = interrupted(["sim", "--link", str(tmp_path / "arm")], delay_s, tmp_path)
    assert "Traceback" not in errors
    assert code in (0, 130), errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.once
@pytest.mark.parametrize("delay_s", DELAYS_S[:3])
def test_inspecting_an_engine(delay_s: float, tmp_path: Path, reach_engine: Path) -> None:
    code, errors = interrupted(["inspect", str(reach_engine)], delay_s, tmp_path)
    assert "Traceback" not in errors
    assert code in (0, 130), errors


@pytest.mark.once
@pytest.mark.sim
@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "the terminal's end")])
@pytest.mark.parametrize("delay_s", [*DELAYS_S, 0.3, 0.5, 0.6])
def test_an_evaluation(delay_s: float, number: signal.Signals, word: str, tmp_path: Path, reach_engine: Path) -> None:
    """MuJoCo and OpenGL turned a signal that arrived while they were loading into their own errors."""
    words = ["eval", "--engine", str(reach_engine), "--seeds", "0:500", "--json", "report.json"]
    code, errors = interrupted(words, delay_s, tmp_path, number)
    assert "Traceback" not in errors
    assert code == 128 + number, errors
    assert errors.endswith(f"stopped by {word}\n")
    assert list(tmp_path.iterdir()) == []
