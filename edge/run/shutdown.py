"""Ends all processes once the arm is at rest: all at the same time, and each within its own patience.

    control, policy, cameras, simulated world    exit when their channels are closed
    recorder                                      writes what has arrived and closes its file
    video                                         draws, for as long as it makes progress

A process that has neither used nor wanted a processor for two seconds makes no progress: it was stopped, or hangs in a
disk write.

Every process but a video process that makes progress has exited within 5 s after the arm came to rest, or is killed. A
process that cannot even be killed, because it hangs in a disk write, is left to the operating system.
"""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Callable, Iterable

from sefa_edge.edge.ipc.process import Child
from sefa_edge.edge.run.process_group import ProcessGroup, end_together
from sefa_edge.edge.run.process_row import EXIT_PATIENCE_S, Finish, RunResult
from sefa_edge.edge.run.status import StatusLine
from sefa_edge.profiles.stopping import EMERGENCY, StopSignals

POLL_S = 0.1
STUCK_S = 2.0
"""A process that has neither used nor wanted a processor for so long makes no progress."""


class FinishingProcess:
    """A process that was asked to finish its work."""

    def __init__(self, child: Child, finish: Finish) -> None:
        self.child, self.finish = child, finish
        self._deadline_s = time.monotonic() + finish.patience_s
        self._ticks = -1
        self._progress_s = time.monotonic()

    def is_overdue(self, now_s: float) -> bool:
        """Whether it makes no progress, or has had its time."""
        ticks = self.child.processor_ticks()
        if ticks != self._ticks or self.child.wants_processor():  # a busy machine may leave it none for seconds
            self._ticks, self._progress_s = ticks, now_s
        return now_s > self._deadline_s or now_s - self._progress_s > STUCK_S

    def message(self, killed: set[Child]) -> str:
        """How it ended; empty: as expected, and there is nothing to report."""
        if self.child in killed:
            return self.finish.killed
        if self.child.exit_code:
            return f"{self.finish.failed}: {self.child.failure()}"
        return f"{self.finish.done}: {self.child.stderr_tail().strip()}" if self.finish.done else ""


class Shutdown:
    """Made when the arm is at rest, and used once."""

    def __init__(self, group: ProcessGroup, line: StatusLine, signals: StopSignals) -> None:
        self._group, self._line, self._signals = group, line, signals
        self._start_s = time.monotonic()
        self._finishing: dict[Child, FinishingProcess] = {}
        self._killed: set[Child] = set()

    def perform(self, result: RunResult, on_emergency: Callable[[], None]) -> None:
        """End all processes.

        Args:
            result: for the processes that finish their work.
            on_emergency: called for Ctrl-\\, which may come also now.
        """
        self._request_finish(result)
        self._group.close_channels()
        for process in self._finishing.values():
            self._say(process.finish.started)
        while left := self._left():
            self._wait(left)
            self._handle_signals(on_emergency)
            self._kill(child for child in left if self._is_overdue(child))
        end_together(self._killed, 0.0)
        for process in self._finishing.values():
            self._say(process.message(self._killed))

    def _left(self) -> list[Child]:
        return [child for child in self._group.children if child.exit_code is None and child not in self._killed]

    def _request_finish(self, result: RunResult) -> None:
        for row in self._group.rows:
            child = self._group.child(row.name)
            if row.finish is None or child is None:
                continue
            request = None if child.exit_code is not None else row.finish.request(result)
            if request is None:
                self._group.close_channel(row.name)
            else:
                self._finishing[child] = FinishingProcess(child, row.finish)
                self._group.send(row.name, request)

    def _wait(self, left: list[Child]) -> None:
        poller = select.poll()
        for descriptor in (self._signals.fileno(), *(child.exit_fd for child in left)):
            poller.register(descriptor, select.POLLIN)
        poller.poll(POLL_S * 1000)

    def _handle_signals(self, on_emergency: Callable[[], None]) -> None:
        for number in self._signals.take():
            if number is EMERGENCY:
                on_emergency()
            else:
                self._cancel()

    def _cancel(self) -> None:
        for child, process in self._finishing.items():
            if process.finish.cancelled and child.exit_code is None:
                self._say(process.finish.cancelled)
                self._kill([child])

    def _is_overdue(self, child: Child) -> bool:
        now_s = time.monotonic()
        if (process := self._finishing.get(child)) is not None:
            return process.is_overdue(now_s)
        return now_s > self._start_s + EXIT_PATIENCE_S

    def _kill(self, children: Iterable[Child]) -> None:
        for child in children:
            self._killed.add(child)
            child.send_signal(signal.SIGKILL)

    def _say(self, message: str) -> None:
        if message:
            self._line.say(message)
