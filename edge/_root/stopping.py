"""How Ctrl-C, SIGTERM and the terminal's end stop a command.

At once while its modules are loaded: an exception there could come out of anything as anything. By unwinding once it
has begun, so that nothing half-written stays behind. A signal ignored by the parent (nohup) stays ignored.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from sefa_edge.profiles.exit_codes import of_signal
from sefa_edge.profiles.stopping import STOPPING

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """Not KeyboardInterrupt itself, which makes CPython end by SIGINT where it passed through code run by a library."""


def leave_when_stopped() -> None:
    """From here on the signals end the process with their word: nothing has begun that would have to be undone."""
    _handle(_leave)


def unwind_when_stopped() -> None:
    """From here on the signals raise Interrupted; `stopped_by` tells which one did first."""
    _handle(_unwinding.interrupt)
    sys.unraisablehook = _unwinding.unraisable


def stopped_by() -> signal.Signals | None:
    """The first signal since `unwind_when_stopped`; None: there was none."""
    return _unwinding.first


class _Unwinding:
    """Ctrl-C interrupts as often as it is pressed, the others once each: tidying up takes its time."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self._heard: set[int] = set()

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        if number in self._heard and number != signal.SIGINT:
            return
        self._heard.add(number)
        self.first = self.first or signal.Signals(number)
        raise Interrupted

    def unraisable(self, lost: sys.UnraisableHookArgs) -> None:
        """An interrupt that got lost where nothing can be raised is raised again later."""
        if self.first is not None and issubclass(lost.exc_type, Interrupted):
            self._heard.clear()
            _thread.interrupt_main(self.first)
        else:
            sys.__unraisablehook__(lost)


_unwinding = _Unwinding()


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    try:
        os.write(2, f"stopped by {STOPPING[signal.Signals(number)]}\n".encode())
    finally:
        os._exit(of_signal(number))
