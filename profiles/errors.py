"""The exceptions that are shown to a person: what was wrong, and what to do about it."""

from __future__ import annotations

from sefa_edge.profiles.exit_codes import ExitCode


class SefaError(Exception):
    """An expected failure. The command line prints `error: …` and `hint: …` and exits with `exit_code`."""

    exit_code: int = ExitCode.BAD_INPUT

    def __init__(self, message: str, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class InputError(SefaError):
    """Wrong use, or a file that is not what it should be."""


class MissingError(SefaError):
    """This machine lacks something: a library, a device, a permission."""

    exit_code = ExitCode.MISSING


class FaultError(SefaError):
    """A fault that stopped the arm safely."""

    exit_code = ExitCode.FAULT
