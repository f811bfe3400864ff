"""Links that simulated arms put in place of a serial port, and whether their maker still runs.

A link leads to `/proc/PID/fd/N`, a descriptor of the process that made it. So it names its maker, and when that is gone
it leads nowhere for every program, whatever other terminal gets the number of the one that was there. N is so high that
a later process with the same PID has nothing there.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from sefa_edge.profiles.errors import MissingError

FIRST_DESCRIPTOR = 600
_TARGET = re.compile(r"/proc/(\d+)/fd/(\d+)")


def descriptor_for_link(terminal_fd: int) -> int:
    """A duplicate of a terminal's descriptor with a number that nothing else uses; the caller closes it."""
    return fcntl.fcntl(terminal_fd, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)


def link_target(descriptor: int) -> str:
    """What a link to a descriptor of this process contains."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def creator_of(link: Path) -> int | None:
    """Process that made a link of a simulated arm, whether it still runs or not; None: it is no such link."""
    try:
        found = _TARGET.fullmatch(os.readlink(link))
    except OSError:
        return None
    return None if found is None or int(found[2]) < FIRST_DESCRIPTOR else int(found[1])


def is_stale(link: Path) -> bool:
    """Whether it is a link of a simulated arm whose maker has gone."""
    if creator_of(link) is None:
        return False
    try:
        link.stat()
    except OSError as error:  # no permission: another user's process, or one outside this container
        return isinstance(error, FileNotFoundError | ProcessLookupError)
    return False


def require_live_link(link: Path) -> None:
    """Refuse a link whose maker has gone. Raises MissingError."""
    if is_stale(link):
        raise MissingError(
            f"{link} is left over from a simulated arm that has ended (process {creator_of(link)})",
            f"start it again (sefa-edge sim --link {link}), or remove the link",
        )
