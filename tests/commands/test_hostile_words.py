"""Arguments that are not a valid path, name or text: one `error:` line, exit code 2 or 4, and no waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sefa_edge.cli import main
from sefa_edge.edge.cameras.camera import CameraAddress, CameraRequest
from sefa_edge.edge.cameras.opening import make_source
from sefa_edge.profiles.console import MAX_LINE, message_line
from sefa_edge.profiles.errors import InputError

SHIPPED = str(Path(__file__).resolve().parents[2] / "edge/shipped/lift/model.onnx")
LONG_NAME = "n" * 300
LONG_PATH = "a/" * 3000
NOT_UTF_8 = os.fsdecode(b"\xff\xfe.json")

READING = (
    ("inspect",),
    ("replay", "--part", "commands"),
    ("run", "--video", "none", "--engine"),
    ("profile", "--out", "out", "--engine"),
    ("bench-loop", "--engine"),
    ("run", "--engine", SHIPPED, "--video", "none", "--port", "/dev/null", "--camera", "test", "--arm"),
    ("run", "--engine", SHIPPED, "--arm", "so101", "--port", "/dev/null", "--camera", "test", "--calibration"),
    ("dataset", "from-runs", "-o", "out"),
    ("cameras",),
)
"""Commands whose last argument is something to read."""
WRITING = (
    ("inspect", SHIPPED, "--json"),
    ("run", "--engine", SHIPPED, "--record"),
    ("profile", "--engine", SHIPPED, "--out"),
)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one error line for a command line."""
    assert main(words) in (2, 4)
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert [line.partition(":")[0] for line in lines] in (["error", "hint"], ["error"]), shown.err
    assert max(map(len, lines)) <= MAX_LINE + len("error:  … ")
    assert shown.out == ""
    return lines[0]


@pytest.mark.parametrize("command", [*READING, *WRITING], ids=" ".join)
def test_a_name_that_is_too_long(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in (LONG_NAME, LONG_PATH, "9" * 5000):
        refused([*command, word], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*READING[:5], READING[7], *WRITING], ids=" ".join)
def test_an_empty_text_is_not_the_working_folder(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As from `-o "$UNSET"`: to Python an empty path is the working folder."""
    monkeypatch.chdir(tmp_path)
    refused([*command, ""], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*READING, *WRITING], ids=" ".join)
def test_an_argument_that_is_not_utf_8(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "is not UTF-8 text" in refused([*command, NOT_UTF_8], capsys)


@pytest.mark.parametrize("command", [*READING[2:7], *WRITING], ids=" ".join)
def test_two_dashes_are_not_a_value(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse of Python 3.11 gives such an option an empty list, whatever its type."""
    assert f"{command[-1]}: '--' is not a value" in refused([*command[:-1], f"{command[-1]}=--"], capsys)


@pytest.mark.parametrize("command", [*READING[:5], READING[7]], ids=" ".join)
def test_what_is_not_a_file_is_not_waited_for(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for word in ("pipe", "/dev/ptmx", "/dev/zero", "/proc/self/mem", "/dev/null"):
        refused([*command, word], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_camera_number_is_a_small_one(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("9" * 5000, "٣", "/dev/video\x1b[31m"):
        refused(["cameras", word], capsys)


@pytest.mark.sim
def test_a_view_that_the_simulator_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for view in ("top", "", "front\x1b[31m", "9" * 5000):
        error = refused(["record", "--expert", "lift", "-o", "out/dataset", f"--camera={view}"], capsys)
        assert "the simulator has no view" in error
    assert list(tmp_path.iterdir()) == []


def test_a_long_message_keeps_its_beginning_and_its_reason() -> None:
    line = message_line(f"{LONG_PATH} cannot be read: File name too long")
    assert len(line) <= MAX_LINE + len(" … ")
    assert line.startswith("a/a/")
    assert line.endswith("cannot be read: File name too long")
    assert message_line("short\x1b[31m") == "short\\x1b[31m"


def test_a_camera_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        camera = make_source(CameraRequest("front", CameraAddress("file", str(path)), 30.0, 96, 96))
        with pytest.raises(InputError, match="is not a regular file"):
            camera.open()
