"""Every number on every command line: a wrong one ends the command with exit code 2 and one line, before any work."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import cast

import pytest

from sefa_edge.cli import COMMANDS, Command, CommandLine, main
from sefa_edge.profiles.quantities import Real, Whole

NEEDS = {
    "train": ("torch",),
    "export": ("torch", "onnx"),
    "build": ("onnx",),
    "eval": ("mujoco",),
    "record": ("mujoco",),
}
"""Libraries without which the module of a command cannot be imported."""

NO_NUMBERS = (
    *("nan", "inf", "-inf", "Infinity", "-1e400", "1e400", "1e-400x", "9" * 5000, "0." + "1" * 5000, "", " ", " 1"),
    *("0x10", "0b1", "1_000", "\uff11", "\u0663", "1,5", "1:30", "\xbd", "1e", "true", "1\n", "1\0"),
)
BEYOND = ("-1", "-0.5", "1e300", "99999999999999999999", "100000000000000000000")
"""Numbers that no option takes but one, which takes -1 and -0.5."""

NO_SEED_RANGES = (
    *(
        "5:5",
        "9:2",
        "0:1e9",
        "0:100000000",
        "-3:2",
        "0:-1",
        "0",
        ":",
        "1:",
        ":1",
        "1:2:3",
        "a:b",
        "nan:inf",
        "\uff11:\uff12",
    ),
    *("0:" + "9" * 5000, "0x0:0x9", "4294967290:4294967299", "0:1_0", " 0:2", ""),
)


@dataclass(frozen=True)
class Option:
    """An option that takes numbers, and the arguments that select its parser."""

    command: tuple[str, ...]
    name: str
    quantity: Real | Whole

    def __str__(self) -> str:
        return " ".join((*self.command, self.name))


def is_importable(command: str) -> bool:
    return all(find_spec(library) for library in NEEDS.get(command, ()))


def parsers() -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every parser of every command whose libraries are installed, verbs included."""
    for name, (path, _) in COMMANDS.items():
        if is_importable(name):
            parser = CommandLine(prog=name)
            cast(Command, import_module(path)).add_arguments(parser)
            yield from _with_verbs((name,), parser)


def _with_verbs(
    words: tuple[str, ...], parser: argparse.ArgumentParser
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, inner in action.choices.items():
                yield from _with_verbs((*words, verb), inner)


def number_options() -> list[Option]:
    found = []
    for command, parser in parsers():
        for action in parser._actions:
            quantity = getattr(action.type, "__self__", None)
            if isinstance(quantity, (Real, Whole)):
                found.append(Option(command, action.option_strings[-1], quantity))
    return found


OPTIONS = number_options()


def test_every_option_parses_its_number_alike() -> None:
    """A bare int or float takes NaN, 1_000, digits of other scripts and whatever the help does not say."""
    known = {None, "path_argument", "seed_range", "closed_loop_seeds", "engine_at"}
    for command, parser in parsers():
        for action in parser._actions:
            if not isinstance(getattr(action.type, "__self__", None), (Real, Whole)):
                kind = getattr(action.type, "__name__", action.type)
                assert kind in known, f"{command} {action.option_strings}"


def test_every_number_has_been_found() -> None:
    assert len(OPTIONS) >= (60 if all(map(is_importable, NEEDS)) else 25)
    for option in OPTIONS:
        assert option.quantity.lowest < option.quantity.highest


def test_every_default_is_one_that_may_be_given() -> None:
    for command, parser in parsers():
        for action in parser._actions:
            quantity = getattr(action.type, "__self__", None)
            if isinstance(quantity, (Real, Whole)) and action.default is not None:
                assert quantity.check(action.default) == action.default, f"{command} {action.option_strings}"


def one_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """The one error line for a command line."""
    assert main(words) == 2
    shown = capsys.readouterr()
    error, hint = shown.err.splitlines()
    assert shown.out == ""
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert len(error) < 300
    return error


@pytest.mark.once
@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_text_that_is_not_a_number_is_refused(option: Option, capsys: pytest.CaptureFixture[str]) -> None:
    for word in NO_NUMBERS:
        error = one_line(capsys, [*option.command, f"{option.name}={word}"])
        assert option.name in error, word
        assert option.quantity.range_text() in error, word


@pytest.mark.once
@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_a_number_out_of_range_is_refused(option: Option, capsys: pytest.CaptureFixture[str]) -> None:
    negatives_allowed = option.quantity.lowest < 0
    for word in BEYOND[2:] if negatives_allowed else BEYOND:
        assert option.quantity.range_text() in one_line(capsys, [*option.command, f"{option.name}={word}"]), word
        # as a separate argument, -0.5 may look like an option to argparse: refused as well
        assert option.name in one_line(capsys, [*option.command, option.name, word]), word


@pytest.mark.parametrize("words", [("eval", "--seeds"), ("export", "--closed-loop")], ids=" ".join)
def test_invalid_seed_ranges_are_refused(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    if not is_importable(words[0]):
        pytest.skip(f"{words[0]} needs {' and '.join(NEEDS[words[0]])}")
    command, option = words
    for seeds in NO_SEED_RANGES:
        assert "expected seeds A:B" in one_line(capsys, [command, f"{option}={seeds}"]), seeds


@pytest.mark.parametrize(
    "words",
    ["dropped=nan", "dropped=inf", "dropped=-0.1", "dropped=1.5", "late_ms=1e400", "seed=-1", "seed=1_0", "seed=1.5"],
)
def test_disturbances_are_numbers(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words.partition("=")[0] in one_line(capsys, ["sim", "--disturb", words])
