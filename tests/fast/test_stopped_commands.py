"""SIGTERM and a closed terminal end a command with a word, the signal's exit code, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SHIPPED = Path(__file__).resolve().parents[2] / "edge/shipped/lift/model.onnx"
PATIENCE_S = 120.0


@pytest.mark.sim
@pytest.mark.parametrize(
    ("words", "begun"),
    [
        (("record", "--expert", "lift", "--episodes", "50", "-o", "made/dataset"), ".partial"),
        (("eval", "--engine", str(SHIPPED), "--seeds", "0:500", "--json", "report.json"), ""),
    ],
    ids=["record", "eval"],
)
@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "the terminal's end")])
def test_a_stopped_command_leaves_nothing(
    words: tuple[str, ...], begun: str, number: signal.Signals, word: str, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    command = [sys.executable, "-m", "sefa_edge", *words]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    give_up = time.monotonic() + PATIENCE_S
    while not _has_begun(process, folder, begun):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + number
    assert told.decode().endswith(f"stopped by {word}\n")
    assert b"Traceback" not in told
    assert list(folder.iterdir()) == []


def _has_begun(process: subprocess.Popen[bytes], folder: Path, begun: str) -> bool:
    """A command that writes has made its folder; one that does not handles the signal, as /proc tells."""
    if begun:
        return any(begun in name for _, names, _ in os.walk(folder) for name in names)
    caught = Path(f"/proc/{process.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
