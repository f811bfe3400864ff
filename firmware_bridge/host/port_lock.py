"""Is a serial port taken? Told without opening it: opening alone moves its control lines."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sefa_edge.profiles.errors import MissingError

LOCKS = Path("/proc/locks")


def require_free(port: Path) -> None:
    """Refuse a port that another program has locked, as every Link does. A port that is not there is no matter here.

    Raises:
        MissingError: taken; names the process.
    """
    holder = lock_holder(port)
    if holder is not None:
        raise MissingError(
            f"{port} is in use by another program (process {holder})",
            "one program owns an arm; stop the other one",
        )


def lock_holder(port: Path) -> int | None:
    """Process that holds the flock(2) on a device, by /proc/locks (proc(5)); None when nobody, or nobody can tell."""
    try:
        status = port.stat()
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return None
    if not stat.S_ISCHR(status.st_mode):
        return None
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:
        words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 00:18:5 0 EOF; a waiting one has an arrow more
        if "FLOCK" in words[1:2] and words[-3] == place:
            return int(words[-4])
    return None
