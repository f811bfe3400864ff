"""Commands and options in the documents exist, blocks marked `<!-- run -->` run, and links work."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

from sefa_edge.cli import COMMANDS

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
READMES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("[a-z]*/**/README.md"))]
BLOCK = re.compile(r"^(?P<mark><!-- run -->\n)?```(?:sh|bash|console)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
MARKED = re.compile(r"^<!-- run -->\n```(?P<language>sh|python)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
INTERPRETERS = {"sh": ("bash", "-euo", "pipefail", "-c"), "python": (sys.executable, "-c")}
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)|<img[^>]* src=\"([^\"]+)\"")
BIN = Path(sys.executable).parent
COMMANDS_WITH_VERBS = ("arm",)


def commands_in(path: Path) -> list[list[str]]:
    """Every command line of every shell block, continuation lines joined, comments and prompts removed."""
    lines = []
    for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
        body = block["body"].replace("\\\n", " ")
        lines += [shlex.split(line.removeprefix("$ "), comments=True) for line in body.splitlines()]
    return [words for words in lines if words]


def every(program: str) -> list[tuple[Path, list[str]]]:
    found = [(path, words) for path in READMES for words in commands_in(path)]
    return [(path, [Path(words[0]).name, *words[1:]]) for path, words in found if Path(words[0]).name == program]


def name_of(value: object) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else " ".join(map(str, value))  # type: ignore[call-overload]


@cache
def help_of(*words: str) -> str:
    done = subprocess.run(
        [BIN / "sefa-edge", *words, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == 4 and find_spec("torch") is None:
        pytest.skip("the learning half is not installed here")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("path", "words"), every("sefa-edge"), ids=name_of)
def test_command_and_its_options_exist(path: Path, words: list[str]) -> None:
    if len(words) > 1 and words[1].startswith("--"):
        assert words[1] in ("--help", "--version")
        return
    assert len(words) > 1, f"{path.name}: a bare `sefa-edge`"
    assert words[1] in COMMANDS
    verb = words[2:3] if words[1] in COMMANDS_WITH_VERBS else []
    known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", help_of(words[1], *verb)))
    options = {word.split("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
    assert options <= known


@pytest.mark.parametrize(("path", "words"), every("make"), ids=name_of)
def test_make_target_exists(path: Path, words: list[str]) -> None:
    done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("path", "words"), [*every("python"), *every("python3"), *every("pytest")], ids=name_of)
def test_files_in_commands_exist(path: Path, words: list[str]) -> None:
    named = [word for word in words[1:] if word.endswith(".py") or word.startswith("tests/")]
    assert all((ROOT / word).exists() for word in named)


def marked_programs() -> list[tuple[Path, str, str]]:
    """(file, language, text): the marked blocks of a file and language are one program."""
    programs: dict[tuple[Path, str], str] = {}
    for path in READMES:
        for block in MARKED.finditer(path.read_text(encoding="utf-8")):
            key = (path, block["language"])
            programs[key] = programs.get(key, "") + block["body"]
    return [(*key, text) for key, text in programs.items()]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout made of links, so that programs do not write to the real one."""
    for entry in ROOT.iterdir():
        if entry.name != "out":
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


@pytest.mark.sim
@pytest.mark.parametrize(("path", "language", "text"), marked_programs(), ids=lambda value: name_of(value)[:60])
def test_marked_blocks_run(path: Path, language: str, text: str, checkout: Path) -> None:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    command = [*INTERPRETERS[language], text]
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{path}\n{text}\n{done.stdout}{done.stderr}"


def test_some_blocks_are_marked() -> None:
    assert {language for _, language, _ in marked_programs()} == {"sh", "python"}
    assert len(marked_programs()) >= 3


@pytest.mark.parametrize("path", READMES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    targets = [target for found in LINK.findall(path.read_text(encoding="utf-8")) for target in found if target]
    local = [unquote(target) for target in targets if "://" not in target and not target.startswith("mailto:")]
    missing = [target for target in local if not (path.parent / target).exists()]
    assert missing == []


def test_there_is_a_readme_and_it_shows_commands() -> None:
    assert every("sefa-edge")
    assert every("make")
