"""The records of a run for commands that measure: an observer of the supervisor, used by bench-loop and profile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sefa_edge.edge.ipc.policy_records import PolicyEvent, PolicyReport
from sefa_edge.edge.ipc.records import TickReport
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.ipc.vocabulary import Mode

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Received(Generic[T]):
    """A record, when it arrived in this process, and whether the loop was being measured then."""

    record: T
    received_ns: int
    measured: bool


class RunRecords:
    """The records of one run: all frames and chunks, and the measured ticks.

    Ticks in `mode` are measured from `warm_up_ns` after the first of them until `enough` returns True. It is called
    after every record, and may remove records.
    """

    def __init__(self, mode: Mode, warm_up_ns: int, enough: Callable[[RunRecords], bool]) -> None:
        self.frames: deque[Received[FrameDescriptor]] = deque()
        self.chunks: deque[Received[PolicyReport]] = deque()
        self.ticks: deque[TickReport] = deque()
        self.satisfied = False
        self._mode = mode
        self._warm_up_ns = warm_up_ns
        self._enough = enough
        self._warm_ns: int | None = None
        self._measuring = False

    def on_frame(self, descriptor: FrameDescriptor, arrived_ns: int) -> None:
        self.frames.append(Received(descriptor, arrived_ns, self._measuring))
        self._check_enough()

    def on_policy_report(self, report: PolicyReport) -> None:
        if report.event is PolicyEvent.CHUNK:
            self.chunks.append(Received(report, time.monotonic_ns(), self._measuring))
            self._check_enough()

    def on_tick(self, report: TickReport) -> None:
        self._measuring = not self.satisfied and self._counts(report)
        if self._measuring:
            self.ticks.append(report)
            self._check_enough()

    def _counts(self, report: TickReport) -> bool:
        if report.mode is not self._mode:
            return False
        if self._warm_ns is None:
            self._warm_ns = report.start_ns + self._warm_up_ns
        return report.start_ns >= self._warm_ns

    def _check_enough(self) -> None:
        if not self.satisfied and self._enough(self):
            self.satisfied, self._measuring = True, False
