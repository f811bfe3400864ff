"""Exit codes of every command and every process."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Meaning of an exit code; a command stopped by a signal ends with `of_signal` instead."""

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
"""Exit codes that come with a message and a hint."""
_OF_SIGNALS = 128


def of_signal(number: int) -> int:
    """Exit code of a command that was stopped by a signal, as in a shell."""
    return _OF_SIGNALS + number


def is_of_signal(exit_code: int) -> bool:
    """Whether a signal stopped the command."""
    return exit_code >= _OF_SIGNALS
