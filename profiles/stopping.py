"""The signals with which a person or a service stops a command, and how a loop waits for them.

Imports only fast modules.
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
"""This one does not park: torque off at once."""


class StopSignals:
    """Inside the block, stop signals are collected instead of raising; `fileno` becomes readable.

    `on_signal` is called in the handler, before anything else, even while a write or a wait of this process is
    interrupted; it must neither block nor raise. SIGHUP stays ignored if it was (nohup). Blocks may be nested: the
    outermost one counts.
    """

    def __init__(self, on_signal: Callable[[signal.Signals], None] | None = None) -> None:
        self._on_signal = on_signal
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
        if self._on_signal is not None:
            self._on_signal(signal.Signals(number))
        self._received.append(signal.Signals(number))
