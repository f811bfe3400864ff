"""`sefa-edge run --record` with its real processes: recorded, replayed, and continued without its recorder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sefa_edge.cli import main
from sefa_edge.edge.recording.mcap_file import Truncated, read_mcap
from sefa_edge.edge.recording.names import PARTIAL
from sefa_edge.profiles.recording.dataset import open_dataset

pytestmark = [pytest.mark.once, pytest.mark.sim]

PATIENCE_S = 120.0


def start(engine: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(engine), "--video", "none"]
    return subprocess.Popen(
        [*command, "--record", str(folder), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_run_is_recorded_replayed_and_converted_to_a_dataset(
    reach_engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(reach_engine, tmp_path / "runs", "--seconds", "2") as process:
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    (recording,) = (tmp_path / "runs").iterdir()
    assert f"recorded into {recording}" in output
    assert main(["replay", str(recording)]) == 0, capsys.readouterr()
    assert main(["dataset", "from-runs", str(recording), "-o", str(tmp_path / "data")]) == 0
    assert len(open_dataset(tmp_path / "data")) > 5


def test_a_run_continues_when_its_recorder_is_killed(
    reach_engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(reach_engine, tmp_path, "--seconds", "2") as process:
        recorder = _wait_for_recorder(process)
        while sum(path.stat().st_size for path in tmp_path.iterdir()) < 50_000:
            time.sleep(0.05)
            assert process.poll() is None
        os.kill(recorder, signal.SIGKILL)
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert "the recording ended: the recorder process ended: killed by SIGKILL" in output
    assert "arm parked and released" in output
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".mcap" + PARTIAL)
    assert any(isinstance(part, Truncated) for part in read_mcap(left))
    assert main(["replay", str(left), "--part", "commands"]) == 0
    assert "note: the recording is not complete" in capsys.readouterr().out


def test_a_folder_that_cannot_be_created_is_refused_at_once(reach_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with start(reach_engine, tmp_path / "file" / "runs", "--seconds", "2") as process:
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "cannot be created" in output


def _wait_for_recorder(process: subprocess.Popen[str]) -> int:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == process.pid and "recorder_process" in (entry / "cmdline").read_text():
                    return int(entry.name)
        time.sleep(0.05)
    raise AssertionError("no recorder")
