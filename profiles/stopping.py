"""The signals by which a person or a service stops a command: their words, and how a waiting loop waits for them.

Imports nothing that takes time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

STOPPING = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "the terminal's end",
    signal.SIGQUIT: "Ctrl-\\",
}
EMERGENCY = signal.SIGQUIT
"""The one that does not park: torque off at once."""


class StopSignals:
    """While it is entered, stop signals are collected and raise nothing; `fileno` becomes readable.

    `obey` is called in the handler itself, before anything else, also while a write or a wait of this process is
    interrupted for it; it must neither block nor raise. SIGHUP stays ignored where it was (nohup). It may be entered
    again while it is entered: it ends with the outermost.
    """

    def __init__(self, obey: Callable[[signal.Signals], None] | None = None) -> None:
        self._obey = obey
        self._received: list[signal.Signals] = []
        self._before: dict[signal.Signals, object] = {}
        self._depth = 0

    def fileno(self) -> int:
        return self._read_fd

    def take(self) -> list[signal.Signals]:
        """The signals since the last call, oldest first."""
        with suppress(BlockingIOError):
            os.read(self._read_fd, 4096)
        taken, self._received = self._received, []
        return taken

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth > 1:
            return self
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in STOPPING:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._collect)
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth > 0:
            return
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _collect(self, number: int, _frame: FrameType | None) -> None:
        if self._obey is not None:
            self._obey(signal.Signals(number))
        self._received.append(signal.Signals(number))
