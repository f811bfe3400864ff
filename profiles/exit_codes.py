"""Exit codes of every command and every process."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What an exit code says; a command that a signal stopped ends with `of_signal` instead."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    FAULT = 3
    MISSING = 4


MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "the work ran and failed its own criterion",
    ExitCode.BAD_INPUT: "wrong use or bad input",
    ExitCode.FAULT: "a fault stopped the arm safely",
    ExitCode.MISSING: "something that this machine lacks",
}
ERRORS = (ExitCode.BAD_INPUT, ExitCode.FAULT, ExitCode.MISSING)
"""A message and a hint belong to these."""
_OF_SIGNALS = 128


def of_signal(number: int) -> int:
    """Exit code of a command that was stopped by a signal, as a shell gives it."""
    return _OF_SIGNALS + number


def is_of_signal(exit_code: int) -> bool:
    """Whether a signal stopped the command."""
    return exit_code >= _OF_SIGNALS
