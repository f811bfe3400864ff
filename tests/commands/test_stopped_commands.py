"""SIGTERM and a closed terminal end a command with a message and the signal's exit code, and nothing is left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.replay.conftest import recorded

__all__ = ["recorded"]
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
    _, output = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + number
    assert output.decode().endswith(f"stopped by {word}\n")
    assert b"Traceback" not in output
    assert list(folder.iterdir()) == []


@dataclass(frozen=True)
class Work:
    """A long command, and the sign that its work has begun: text on this descriptor, or a folder with this suffix."""

    words: tuple[str, ...]
    sign: int | str

    def has_begun(self, process: subprocess.Popen[bytes], folder: Path) -> bool:
        if isinstance(self.sign, str):
            return any(self.sign in name for _, names, _ in os.walk(folder) for name in names)
        stream = process.stdout if self.sign == 1 else process.stderr
        assert stream is not None
        return bool(select.select([stream], [], [], 0)[0])


DATASET = Work(("dataset", "from-runs", *["RECORDING"] * 200, "-o", "a/b/dataset"), ".partial")
PROFILE = Work(("profile", "--engine", "ENGINE", "--samples", "100000", "--out", "a/out"), 2)
BENCH = Work(("bench-loop", "--engine", "ENGINE", "--seconds", "600", "--json", "r.json", "--picture", "p.png"), 2)
TRAIN = Work(("train", "--dataset", "DATASET", "-o", "a/made", "--base-steps", "1000000"), 1)
VERIFY = Work(("verify", str(SHIPPED), str(SHIPPED), "--dataset", "DATASET", "--json", "r.json"), 2)


@pytest.mark.parametrize(
    "work",
    [
        DATASET,
        BENCH,
        pytest.param(PROFILE, marks=pytest.mark.sim),
        pytest.param(TRAIN, marks=[pytest.mark.sim, pytest.mark.learn]),
        pytest.param(VERIFY, marks=pytest.mark.sim),
    ],
    ids=lambda work: work.words[0],
)
@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "the terminal's end")])
def test_stopped_at_work(
    work: Work, number: signal.Signals, word: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No folder, no file below the working folder or the temporary one, and no process is left."""
    folder, spare = tmp_path / "work", tmp_path / "spare"
    folder.mkdir()
    spare.mkdir()
    places = {"RECORDING": "recorded", "ENGINE": "reach_engine", "DATASET": "recordings"}
    words = [str(request.getfixturevalue(places[word])) if word in places else word for word in work.words]
    process = subprocess.Popen(
        [sys.executable, "-m", "sefa_edge", *words],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(spare)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    give_up = time.monotonic() + PATIENCE_S
    while not work.has_begun(process, folder):
        assert time.monotonic() < give_up
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, output = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + number, output
    assert output.decode().splitlines()[-1].startswith(f"stopped by {word}")
    assert b"Traceback" not in output
    assert list(folder.iterdir()) == []
    assert [path for path in spare.iterdir() if not path.name.startswith("torchinductor_")] == []  # torch's own cache
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def _has_begun(process: subprocess.Popen[bytes], folder: Path, begun: str) -> bool:
    """A command that writes has created its folder; another one handles the signal, according to /proc."""
    if begun:
        return any(begun in name for _, names, _ in os.walk(folder) for name in names)
    caught = Path(f"/proc/{process.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
