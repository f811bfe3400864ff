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
    return [arguments for arguments in lines if arguments]


def commands_of(program: str) -> list[tuple[Path, list[str]]]:
    found = [(path, arguments) for path in READMES for arguments in commands_in(path)]
    return [
        (path, [Path(arguments[0]).name, *arguments[1:]])
        for path, arguments in found
        if Path(arguments[0]).name == program
    ]


def name_of(value: object) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else " ".join(map(str, value))  # type: ignore[call-overload]


@cache
def help_of(*arguments: str) -> str:
    done = subprocess.run(
        [BIN / "sefa-edge", *arguments, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == 4 and find_spec("torch") is None:
        pytest.skip("the learning half is not installed")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("path", "arguments"), commands_of("sefa-edge"), ids=name_of)
def test_command_and_its_options_exist(path: Path, arguments: list[str]) -> None:
    if len(arguments) > 1 and arguments[1].startswith("--"):
        assert arguments[1] in ("--help", "--version")
        return
    assert len(arguments) > 1, f"{path.name}: a bare `sefa-edge`"
    assert arguments[1] in COMMANDS
    verb = arguments[2:3] if arguments[1] in COMMANDS_WITH_VERBS else []
    known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", help_of(arguments[1], *verb)))
    options = {argument.split("=")[0] for argument in arguments[2:] if re.match(r"--?[a-z]", argument)}
    assert options <= known


@pytest.mark.parametrize(("path", "arguments"), commands_of("make"), ids=name_of)
def test_make_target_exists(path: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        ["make", "-n", *arguments[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "arguments"), [*commands_of("python"), *commands_of("python3"), *commands_of("pytest")], ids=name_of
)
def test_files_in_commands_exist(path: Path, arguments: list[str]) -> None:
    named = [argument for argument in arguments[1:] if argument.endswith(".py") or argument.startswith("tests/")]
    assert all((ROOT / argument).exists() for argument in named)


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
def test_links_lead_to_existing_files(path: Path) -> None:
    targets = [target for found in LINK.findall(path.read_text(encoding="utf-8")) for target in found if target]
    local = [unquote(target) for target in targets if "://" not in target and not target.startswith("mailto:")]
    missing = [target for target in local if not (path.parent / target).exists()]
    assert missing == []


def test_the_documents_contain_commands() -> None:
    assert commands_of("sefa-edge")
    assert commands_of("make")
