"""Asks the operating system for what a punctual process needs. All of it is optional; refusals are told."""

from __future__ import annotations

import ctypes
import gc
import os
import resource

from sefa_edge.edge.records import Privilege

_PR_SET_TIMERSLACK = 29
_MCL_CURRENT_FUTURE_ON_FAULT = 1 | 2 | 4
"""What is used stays in memory. Without the last bit whole libraries are loaded for a page or two: 60 MB more."""


def claim_privileges(priority: int, cpu: int | None) -> tuple[Privilege, Privilege]:
    """Claim SCHED_FIFO (priority 0: do not), a core (None: any), locked memory, exact timers.

    Returns what was asked for and what was granted.
    """
    asked = granted = Privilege.NONE
    for privilege, wanted, claim in (
        (Privilege.AFFINITY, cpu is not None, lambda: os.sched_setaffinity(0, {cpu or 0})),
        (Privilege.MEMORY_LOCK, True, _lock_memory),
        (Privilege.TIMER_SLACK, True, _exact_timers),
        (Privilege.FIFO, priority > 0, lambda: _schedule_first(priority)),
    ):
        if not wanted:
            continue
        asked |= privilege
        try:
            claim()
        except OSError:
            continue
        granted |= privilege
    return asked, granted


def quiet_collector() -> None:
    """No garbage collection from here on; what exists now is set aside."""
    gc.collect()
    gc.freeze()
    gc.disable()


def _schedule_first(priority: int) -> None:
    # RESET_ON_FORK: what this process might ever start must not inherit the priority.
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def _lock_memory() -> None:
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() != 0 and soft_limit != resource.RLIM_INFINITY:
        raise PermissionError("a limited lock would make later allocations fail")
    _call(ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT_FUTURE_ON_FAULT))


def _exact_timers() -> None:
    slack_ns = 1
    _call(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_TIMERSLACK, slack_ns, 0, 0, 0))


def _call(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "refused")
