"""The process that uses an arm, found by the lock on the arm's port."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.edge.ipc.process import PARENT_PID, STAT_PARENT, STAT_STATE, stat_fields
from sefa_edge.firmware_bridge.host.port_lock import PROCESSES, holder_of, lock_holder
from sefa_edge.profiles.errors import MissingError

PACKAGE, COMMAND = "sefa_edge", "sefa-edge"
HINT = "stop it in its own terminal; the switch in the supply of the servos always works"


@dataclass(frozen=True, slots=True)
class ArmUser:
    """A process of this package with an arm. File descriptors instead of process ids: they never name another process.

    `head` parks the arm on SIGINT: the supervisor of a run, or else the process that has the port open itself.
    """

    port: Path
    pid: int
    head: int
    head_fd: int
    holder_fd: int

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the head; SIGQUIT also directly to the process that has the port open.

        Raises:
            MissingError: the process belongs to another user.
        """
        descriptors = [self.holder_fd, self.head_fd] if number is signal.SIGQUIT else [self.head_fd]
        for descriptor in descriptors:
            try:
                signal.pidfd_send_signal(descriptor, number)
            except ProcessLookupError:  # it has ended already
                continue
            except PermissionError:
                raise MissingError(
                    f"process {self.head} on {self.port} belongs to another user", f"sudo {COMMAND} stop"
                ) from None

    def has_ended(self, timeout_s: float) -> bool:
        """Wait until its head and the holder of the port have exited; False after `timeout_s` for each of them."""
        return all(select.select([fd], [], [], max(0.0, timeout_s))[0] for fd in (self.head_fd, self.holder_fd))

    def close(self) -> None:
        os.close(self.head_fd)
        os.close(self.holder_fd)


def arm_user(port: Path) -> ArmUser | None:
    """Who uses the arm on this port; None: nobody.

    Raises:
        MissingError: the port is in use by a program that is not of this package, or of another container.
    """
    pid = lock_holder(port)
    if pid is None:
        return None
    try:
        holder_fd = os.pidfd_open(pid)
    except (OSError, ValueError):  # it has ended since, or is not visible from here (process id 0)
        if lock_holder(port) is None:
            return None
        raise MissingError(f"{port} is in use by a process of another container", HINT) from None
    if lock_holder(port) != pid or not _is_ours(_arguments(pid)):
        os.close(holder_fd)
        if lock_holder(port) != pid:
            return arm_user(port)
        raise MissingError(f"{port} is in use by another program ({holder_of(pid)})", HINT)
    head = _head_of(pid)
    try:
        return ArmUser(port, pid, head, os.pidfd_open(head), holder_fd)
    except OSError:  # the head has just ended; the holder ends with it
        return ArmUser(port, pid, pid, os.dup(holder_fd), holder_fd)


def _head_of(pid: int) -> int:
    """The process that started it as a part of a run and still exists, or else itself."""
    try:
        environment = (PROCESSES / str(pid) / "environ").read_bytes().split(b"\0")
        parent = int(stat_fields(pid)[STAT_PARENT - STAT_STATE])
    except (OSError, ValueError, IndexError):
        return pid
    started_by = f"{PARENT_PID}={parent}".encode()
    return parent if started_by in environment and _is_ours(_arguments(parent)) else pid


def _arguments(pid: int) -> list[str]:
    try:
        return (PROCESSES / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _is_ours(arguments: Sequence[str]) -> bool:
    """Whether a command line starts this package: `python -m sefa_edge...` or `sefa-edge`."""
    names = [Path(argument).name for argument in arguments[:4]]
    return any(name in (PACKAGE, COMMAND) or name.startswith(f"{PACKAGE}.") for name in names)
