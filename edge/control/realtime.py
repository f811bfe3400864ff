"""Requests real-time privileges from the operating system. All are optional; refusals are reported, with a remedy."""

from __future__ import annotations

import ctypes
import gc
import os
import pwd
import resource

from sefa_edge.edge.ipc.records import Privilege

_PR_SET_TIMERSLACK = 29
_MCL_CURRENT_FUTURE_ON_FAULT = 1 | 2 | 4
"""Pages that have been used stay in memory. Without the last bit whole libraries are loaded: 60 MB more."""
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_SMALL_OBJECT_BYTES = 448
_ARENA_BYTES = 1 << 18
"""Python's own: 256 KiB up to 3.9, 1 MiB since; the smaller one serves both."""
_RESERVE_BYTES = 2 << 20
_NAMES = {
    Privilege.FIFO: "real-time priority",
    Privilege.MEMORY_LOCK: "locked memory",
    Privilege.AFFINITY: "its own core",
    Privilege.TIMER_SLACK: "exact timers",
}


def claim_privileges(priority: int, cpu: int | None) -> tuple[Privilege, Privilege]:
    """Claim SCHED_FIFO (priority 0: do not), a core (None: any), locked memory, exact timers.

    Returns what was requested and what was granted.
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


def refusal_lines(refused: Privilege, priority: int, user: str) -> list[str]:
    """Lines to print for `user`: what the control process was refused, then what to do."""
    if not refused:
        return []
    names = ", ".join(name for privilege, name in _NAMES.items() if privilege & refused)
    lines = [f"note: the control loop got no {names}, so it may run late under load"]
    if refused & (Privilege.FIFO | Privilege.MEMORY_LOCK):
        lines += _permission_lines(refused, priority, user)
    if refused & Privilege.AFFINITY:
        lines.append("hint: a control group keeps it off that core; systemd: AllowedCPUs=, docker: --cpuset-cpus")
    return lines


def _permission_lines(refused: Privilege, priority: int, user: str) -> list[str]:
    if user == "root":
        return [
            "hint: even root is refused: a container needs docker run --cap-add=SYS_NICE --cap-add=IPC_LOCK, "
            "a kernel with real-time groups sysctl -w kernel.sched_rt_runtime_us=-1",
        ]
    rows = ((Privilege.FIFO, "rtprio", "RTPRIO", str(priority)), (Privilege.MEMORY_LOCK, "memlock", "MEMLOCK", ""))
    wanted = [row for row in rows if row[0] & refused]
    limits = "".join(f"{user} - {key} {value or 'unlimited'}\\n" for _, key, _, value in wanted)
    lines = " ".join(f"Limit{key}={value or 'infinity'}" for _, _, key, value in wanted)
    return [
        f"hint: printf '{limits}' | sudo tee /etc/security/limits.d/sefa-edge.conf, then log in again",
        f"hint: or, where systemd starts it: {lines}",
    ]


def user_name() -> str:
    """The user of this process as written in limits.conf."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user need not have a name
        return f"{os.geteuid()}:{os.geteuid()}"


def disable_collector() -> None:
    """Disable garbage collection; existing objects are frozen."""
    gc.collect()
    gc.freeze()
    gc.disable()


def reserve_heap() -> list[bytes]:
    """Grow the heap now, so that it need not grow later; keep the returned list for as long as that matters.

    Python frees an arena of small objects when it is empty, so one object stays in each. The C library
    releases the end of its heap, and maps large blocks anew each time; these settings make it keep them.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        libc.mallopt(_M_MMAP_MAX, 0)
    blocks = [bytes(_SMALL_OBJECT_BYTES) for _ in range(_RESERVE_BYTES // _SMALL_OBJECT_BYTES)]
    large = bytes(_RESERVE_BYTES)
    del large
    return blocks[:: _ARENA_BYTES // _SMALL_OBJECT_BYTES]


def _schedule_first(priority: int) -> None:
    # RESET_ON_FORK: a child of this process must not inherit the priority.
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
