"""Ctrl-\\ in a program that moves an arm: torque off first, then the default action of SIGQUIT ends the program."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

from sefa_edge.firmware_bridge.host.emergency import Emergency

PACKETS = 3
PAUSE_S = 0.005
"""Between two packets: pending answers have ended by then. The first packet may collide with them."""


class EmergencyOnQuit:
    """While entered, the handler of SIGQUIT writes torque off, then SIGQUIT ends the process.

    Only in the main thread, and only if SIGQUIT has its default action: a program's own handler is kept.
    Python runs a handler as soon as its main thread executes Python code again, so a long call into a library delays
    it. The servos do not confirm it: watch the arm.
    """

    def __init__(self, emergency: Emergency) -> None:
        self._emergency = emergency
        self._is_entered = False

    def enter(self) -> None:
        """Install the handler, if permitted."""
        if _in_main_thread() and signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL:
            signal.signal(signal.SIGQUIT, self._handle)
            self._is_entered = True

    def leave(self) -> None:
        """Restore the default action, unless the program has replaced the handler meanwhile."""
        if self._is_entered and _in_main_thread() and signal.getsignal(signal.SIGQUIT) == self._handle:
            signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        self._is_entered = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        for _ in range(PACKETS if self._is_entered else 0):
            self._emergency.request()
            time.sleep(PAUSE_S)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
