"""`--engine FOLDER`, an engine without its card, and a home folder that does not exist."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sefa_edge.edge.engines.find_engine import engine_at
from sefa_edge.profiles.card import card_path, load_card
from sefa_edge.profiles.errors import InputError

NO_USER = '''"""A user id without an entry in the password file."""
import pwd


def _none(*_words):
    raise KeyError("uid not found")


pwd.getpwuid = pwd.getpwnam = _none
'''


RUN = ("run", "--engine", "ENGINE", "--arm", "so101", "--port", "/dev/null", "--camera", "test")


def test_a_folder_is_its_engine(tmp_path: Path, make_reach_engine: Callable[[Path], Path]) -> None:
    engine = make_reach_engine(tmp_path)
    assert engine_at(str(tmp_path)) == engine
    assert engine_at(str(engine)) == engine


def test_a_plan_for_another_machine_is_skipped(
    tmp_path: Path, make_reach_engine: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = make_reach_engine(tmp_path)
    (tmp_path / "model.plan").write_bytes(b"ftrt")
    assert engine_at(str(tmp_path)) == engine
    assert capsys.readouterr().err == (
        f"note: using {engine}, not model.plan: has no policy card: model.plan.json is not in the same folder\n"
    )


def test_a_folder_with_nothing_better_prints_no_note(
    tmp_path: Path, make_reach_engine: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_reach_engine(tmp_path)
    engine_at(str(tmp_path))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        ([], "contains no engine; it is empty", "folder of an export"),
        (["notes.txt", "a/"], "it contains a/, notes.txt", "folder of an export"),
        (["checkpoint.json"], "it contains checkpoint.json", "sefa-edge export"),
        (["model.plan"], "no engine for this machine: model.plan: has no policy card", "build"),
    ],
)
def test_a_folder_without_an_engine_lists_its_contents(
    tmp_path: Path, names: list[str], message: str, hint: str
) -> None:
    for name in names:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_bytes(b"ftrt")
    with pytest.raises(InputError, match=message) as caught:
        engine_at(str(tmp_path))
    assert hint in caught.value.hint


def test_a_missing_card_is_reported(tmp_path: Path, make_reach_engine: Callable[[Path], Path]) -> None:
    engine = make_reach_engine(tmp_path)
    card_path(engine).unlink()
    with pytest.raises(InputError, match=r"has no policy card: model\.json is not in the same folder") as caught:
        load_card(engine)
    assert "an engine needs its card in the same folder" in caught.value.hint


def test_something_else_without_a_card_is_called_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60))
    with pytest.raises(InputError, match="is not an engine: it is a PNG picture"):
        load_card(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("build", "--help"),
        (*RUN, "--calibration", "follower"),
        (*RUN, "--calibration", "~/follower.json"),
        ("arm", "status", "--port", "/dev/null"),
        ("inspect", "ENGINE"),
    ],
)
def test_without_home_and_user_nothing_has_a_traceback(
    words: tuple[str, ...], tmp_path: Path, reach_engine: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_USER)
    command = [str(reach_engine) if word == "ENGINE" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "sefa_edge", *command],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2, 4)
    assert done.returncode == 0 or done.stderr.startswith("error: ")
