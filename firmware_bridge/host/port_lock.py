"""Whether a serial port is in use, found out without opening it: opening alone changes its control lines."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.profiles.errors import MissingError

LOCKS = Path("/proc/locks")
PROCESSES = Path("/proc")
DEVICES = Path("/dev")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a port open. `name` is empty if unknown, `pid` 0 for a process of another container."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"process {self.pid}, {self.name}" if self.name else f"process {self.pid}"


def require_free(port: Path) -> None:
    """Refuse a port that another program has locked, as every Link does. A missing port passes.

    Raises:
        MissingError: in use; names the process.
    """
    pid = lock_holder(port)
    if pid is not None:
        raise MissingError(
            f"{port} is in use by another program ({holder_of(pid)})",
            "one program owns an arm; stop the other one",
        )


def lock_holder(port: Path) -> int | None:
    """Process that holds the flock(2) on a device, from /proc/locks (proc(5)); None: not locked, or unknown."""
    status = _terminal(port)
    return None if status is None else _holders().get(_place(status))


def locked_ports() -> list[Path]:
    """All terminals on which some process holds a flock(2): serial ports, and pseudo-terminals of simulated arms."""
    holders = _holders()
    terminals = [*sorted(DEVICES.glob("tty[A-Z]*")), *sorted(DEVICES.glob("pts/[0-9]*"))]
    statuses = ((path, _terminal(path)) for path in terminals)
    return [path for path, status in statuses if status is not None and _place(status) in holders]


def _holders() -> dict[str, int]:
    """Process id by device and inode, as /proc/locks writes them."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return {}
    # 1: FLOCK ADVISORY WRITE 4711 00:18:5 0 EOF; a waiting one has one more, an arrow
    locks = [fields for line in lines if "FLOCK" in (fields := line.split())[1:2]]
    return {fields[-3]: int(fields[-4]) for fields in locks}


def _place(status: os.stat_result) -> str:
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


def openers(port: Path) -> list[Holder]:
    """All other processes that have a port open, locked or not, as far as this user may see."""
    status = _terminal(port)
    if status is None:
        return []
    pids = (int(entry.name) for entry in PROCESSES.iterdir() if entry.name.isdecimal())
    return [holder_of(pid) for pid in sorted(pids) if pid != os.getpid() and _has_open(pid, status.st_rdev)]


def holder_of(pid: int) -> Holder:
    """A process with its name."""
    try:
        name = (PROCESSES / str(pid) / "comm").read_text().strip()
    except OSError:
        name = ""
    return Holder(pid, name)


def _has_open(pid: int, device: int) -> bool:
    with suppress(OSError):
        for descriptor in (PROCESSES / str(pid) / "fd").iterdir():
            with suppress(OSError):
                status = descriptor.stat()
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == device:
                    return True
    return False


def _terminal(port: Path) -> os.stat_result | None:
    try:
        status = port.stat()
    except OSError:
        return None
    return status if stat.S_ISCHR(status.st_mode) else None
