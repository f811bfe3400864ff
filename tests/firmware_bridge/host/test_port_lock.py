"""Whether an arm's port is in use, determined without opening it."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.port_lock import lock_holder, require_free
from sefa_edge.firmware_bridge.host.serial_wire import claim
from sefa_edge.profiles.errors import MissingError

TIOCGEXCL = 0x80045440
"""Whether a terminal is claimed; linux/include/uapi/asm-generic/ioctls.h. Python defines it from 3.13 on."""


@pytest.fixture
def terminal() -> Iterator[tuple[int, Path]]:
    master, slave = os.openpty()
    yield slave, Path(os.ttyname(slave))
    os.close(master)
    os.close(slave)


def test_a_free_port_is_free(terminal: tuple[int, Path]) -> None:
    require_free(terminal[1])


def test_a_locked_port_names_its_holder_even_through_a_link(terminal: tuple[int, Path], tmp_path: Path) -> None:
    slave, path = terminal
    fcntl.flock(slave, fcntl.LOCK_EX | fcntl.LOCK_NB)
    link = tmp_path / "arm"
    link.symlink_to(path)
    assert lock_holder(link) == os.getpid()
    with pytest.raises(MissingError, match=f"arm is in use by another program .process {os.getpid()}"):
        require_free(link)
    fcntl.flock(slave, fcntl.LOCK_UN)
    require_free(link)


def test_a_lock_on_another_file_is_ignored(terminal: tuple[int, Path], tmp_path: Path) -> None:
    other = tmp_path / "file"
    with other.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        require_free(terminal[1])
        require_free(other)  # opening it as a port reports what is wrong with it


def test_a_missing_port_counts_as_free(tmp_path: Path) -> None:
    require_free(tmp_path / "nowhere")


def is_claimed(terminal_fd: int) -> bool:
    return struct.unpack("i", fcntl.ioctl(terminal_fd, TIOCGEXCL, bytes(4)))[0] != 0


def test_a_pseudo_terminal_is_not_claimed_since_the_claim_would_outlive_its_program(terminal: tuple[int, Path]) -> None:
    slave_fd = os.open(terminal[1], os.O_RDWR | os.O_NOCTTY)
    claim(slave_fd)
    assert not is_claimed(slave_fd)
    os.close(slave_fd)


def test_any_other_terminal_is_claimed_until_it_is_closed() -> None:
    try:
        terminal_fd = os.open("/dev/tty63", os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        pytest.skip(f"no virtual console to test with: {error}")
    claim(terminal_fd)
    assert is_claimed(terminal_fd)
    os.close(terminal_fd)
    terminal_fd = os.open("/dev/tty63", os.O_RDWR | os.O_NOCTTY)
    assert not is_claimed(terminal_fd)
    os.close(terminal_fd)
