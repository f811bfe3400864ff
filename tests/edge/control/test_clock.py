"""The grid: absolute, skipped and counted, never caught up."""

from __future__ import annotations

import signal
import time

from sefa_edge.edge.control.clock import ManualClock, MonotonicClock, Pacer
from sefa_edge.profiles.units import ms_to_ns

PERIOD_NS = ms_to_ns(10)


def test_ticks_lie_on_an_absolute_grid() -> None:
    clock = ManualClock(123)
    pacer = Pacer(clock, PERIOD_NS)
    dues = []
    for _ in range(100):
        slot = pacer.wait()
        dues.append(slot.due_ns)
        clock.sleep_until(slot.due_ns + PERIOD_NS // 3)  # the work of a tick moves nothing
    assert dues == [123 + (k + 1) * PERIOD_NS for k in range(100)]
    assert pacer.skipped == 0


def test_missed_grid_points_are_skipped_and_counted() -> None:
    clock = ManualClock()
    pacer = Pacer(clock, PERIOD_NS)
    assert pacer.wait().tick == 1
    clock.sleep_until(5 * PERIOD_NS + 1)
    slot = pacer.wait()
    assert (slot.tick, slot.due_ns, slot.skipped_before, slot.lateness_ns) == (6, 6 * PERIOD_NS, 4, 0)
    assert pacer.wait().skipped_before == 0
    assert pacer.skipped == 4


def test_a_tick_that_ends_on_the_next_grid_point_has_missed_it() -> None:
    clock = ManualClock()
    pacer = Pacer(clock, PERIOD_NS)
    pacer.wait()
    clock.sleep_until(2 * PERIOD_NS)
    assert pacer.wait().tick == 3


def test_a_manual_clock_never_goes_back() -> None:
    clock = ManualClock(100)
    clock.sleep_until(50)
    assert clock.now_ns() == 100


def test_the_real_clock_is_never_early() -> None:
    clock = MonotonicClock()
    for spin_ns in (0, ms_to_ns(0.2)):
        pacer = Pacer(clock, ms_to_ns(2), spin_ns)
        for _ in range(5):
            slot = pacer.wait()
            assert slot.lateness_ns >= 0
            assert time.monotonic_ns() >= slot.due_ns


def test_a_signal_does_not_shorten_a_wait() -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        pacer = Pacer(MonotonicClock(), ms_to_ns(30))
        assert pacer.wait().lateness_ns >= 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
