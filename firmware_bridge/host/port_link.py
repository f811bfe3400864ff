"""Links that simulated arms create in place of a serial port, and whether the creating process still runs.

A link points to `/proc/PID/fd/N`, a descriptor of the process that created it. When that process has ended, the link
points nowhere, even if another terminal gets the number of the old one. N is so high that a later process with the
same PID has no such descriptor.
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
    """A duplicate of a terminal's descriptor, with a number that nothing else uses; the caller closes it."""
    return fcntl.fcntl(terminal_fd, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)


def link_target(descriptor: int) -> str:
    """Target of a link to a descriptor of this process."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def creator_of(link: Path) -> int | None:
    """PID of the process that created a simulated arm's link, running or not; None: not such a link."""
    try:
        found = _TARGET.fullmatch(os.readlink(link))
    except OSError:
        return None
    return None if found is None or int(found[2]) < FIRST_DESCRIPTOR else int(found[1])


def is_stale(link: Path) -> bool:
    """Whether it is a simulated arm's link whose process has ended."""
    if creator_of(link) is None:
        return False
    try:
        link.stat()
    except OSError as error:  # no permission: another user's process, or one outside this container
        return isinstance(error, FileNotFoundError | ProcessLookupError)
    return False


def require_live_link(link: Path) -> None:
    """Refuse a link whose process has ended. Raises MissingError."""
    if is_stale(link):
        raise MissingError(
            f"{link} is left over from a simulated arm that has ended (process {creator_of(link)})",
            f"start it again (sefa-edge sim --link {link}), or remove the link",
        )
