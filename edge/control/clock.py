"""Clock and tick grid. One monotonic clock, one absolute grid: tick k is due at origin + k * period.

A grid point that has passed when the loop returns to the pacer is skipped and counted, never caught up: an arm that
rushes to make up for lost time is worse than one that is late.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from typing import Protocol

from sefa_edge.profiles.units import NS_PER_S

_CLOCK_MONOTONIC = 1
_TIMER_ABSTIME = 1


class Clock(Protocol):
    """A source of time, nanoseconds."""

    def now_ns(self) -> int: ...

    def sleep_until(self, deadline_ns: int) -> None:
        """Return at the deadline, or earlier when a signal arrives."""
        ...


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class MonotonicClock:
    """CLOCK_MONOTONIC. Sleeps to an absolute deadline: `time.sleep` is a relative select() on Python 3.10."""

    def __init__(self) -> None:
        self._nanosleep = ctypes.CDLL(None).clock_nanosleep
        self._deadline = _Timespec()
        self._deadline_pointer = ctypes.byref(self._deadline)

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until(self, deadline_ns: int) -> None:
        self._deadline.seconds, self._deadline.nanoseconds = divmod(deadline_ns, NS_PER_S)
        self._nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, self._deadline_pointer, None)


class ManualClock:
    """Time that moves only when it is set: replay, lock-step simulation, tests."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until(self, deadline_ns: int) -> None:
        """Set the time to the deadline without waiting. Time never goes backwards."""
        self._now_ns = max(self._now_ns, deadline_ns)


@dataclass(frozen=True, slots=True)
class Slot:
    """One point of the grid. `lateness_ns` is how long after `due_ns` the wait ended."""

    tick: int
    due_ns: int
    lateness_ns: int
    skipped_before: int
    """Grid points that were skipped just before this one."""


class Pacer:
    """Waits for the points of the grid. Sleeps until `spin_ns` before each, then spins."""

    def __init__(self, clock: Clock, period_ns: int, spin_ns: int = 0) -> None:
        self._clock = clock
        self._period_ns = period_ns
        self._spin_ns = spin_ns
        self._origin_ns = clock.now_ns()
        self._tick = 0
        self.skipped = 0
        """Grid points skipped since the start."""

    def wait(self) -> Slot:
        """Return at the next point of the grid that lies in the future."""
        passed = (self._clock.now_ns() - self._origin_ns) // self._period_ns
        skipped = max(0, passed - self._tick)
        self._tick += 1 + skipped
        self.skipped += skipped
        due_ns = self._origin_ns + self._tick * self._period_ns
        return Slot(self._tick, due_ns, self._wait_until(due_ns) - due_ns, skipped)

    def _wait_until(self, due_ns: int) -> int:
        while (now_ns := self._clock.now_ns()) < due_ns:
            if due_ns - now_ns > self._spin_ns:
                self._clock.sleep_until(due_ns - self._spin_ns)
        return now_ns
