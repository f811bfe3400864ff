"""How Ctrl-C, SIGTERM and the closing of the terminal stop a command.

While modules are loading, the process exits at once: an exception could surface anywhere and as anything. Once the
command has started, it unwinds, so that no half-written file is left. A signal that the parent ignores (nohup) stays
ignored.
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
    """Not KeyboardInterrupt itself: after that passed through a library's code, CPython may exit by SIGINT."""


def leave_when_stopped() -> None:
    """From here on the signals end the process with a message: nothing has started that would have to be undone."""
    _handle(_leave)


def unwind_when_stopped() -> None:
    """From here on the signals raise Interrupted; `stopped_by` returns the first one."""
    _handle(_unwinding.interrupt)
    sys.unraisablehook = _unwinding.unraisable


def stopped_by() -> signal.Signals | None:
    """The first signal since `unwind_when_stopped`; None if there was none."""
    return _unwinding.first


class _Unwinding:
    """Ctrl-C interrupts each time it is pressed, the other signals only once: cleaning up takes time."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self._received: set[int] = set()

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        if number in self._received and number != signal.SIGINT:
            return
        self._received.add(number)
        self.first = self.first or signal.Signals(number)
        raise Interrupted

    def unraisable(self, lost: sys.UnraisableHookArgs) -> None:
        """An interrupt that was lost where nothing can be raised is raised again later."""
        if self.first is not None and issubclass(lost.exc_type, Interrupted):
            self._received.clear()
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
