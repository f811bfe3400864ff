"""A process that must not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
"""<linux/prctl.h>"""


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies. If it has died since it started this process: end now."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
