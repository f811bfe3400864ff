"""OWNS THE PORT: the only file that opens, reads and writes a serial line."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import select
import termios
import time
from pathlib import Path
from typing import Protocol

import serial

from sefa_edge.firmware_bridge.host.errors import ArmDisconnected
from sefa_edge.firmware_bridge.host.port_link import require_live_link
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.units import NS_PER_S

PSEUDO_TERMINAL_MAJORS = range(136, 144)
"""Device numbers of /dev/pts/*: the kernel's devices.txt."""

READ_BYTES = 4096


class Wire(Protocol):
    """A half-duplex serial line used by one program, and the clock that times everything on it."""

    @property
    def port(self) -> str: ...

    @property
    def baud(self) -> int: ...

    def now_ns(self) -> int: ...

    def rest(self, duration_ns: int) -> None:
        """Sleep for this duration."""
        ...

    def discard_input(self) -> None:
        """Drop received bytes. Raises ArmDisconnected."""
        ...

    def discard_output(self) -> None:
        """Drop bytes that were written but not transmitted yet. Raises ArmDisconnected."""
        ...

    def write(self, data: bytes) -> None:
        """Send at once or not at all. Raises ArmDisconnected."""
        ...

    def read(self, deadline_ns: int) -> bytes:
        """The next received bytes; empty if none arrive before the deadline. Raises ArmDisconnected."""
        ...

    def close(self) -> None: ...


class SerialWire:
    """A serial port of this computer, on CLOCK_MONOTONIC."""

    def __init__(self, port: str, baud: int) -> None:
        """Raises as `Link.open` does."""
        self.port = port
        self.baud = baud
        self._serial = _open(port, baud)
        self._fd: int = self._serial.fileno()
        self._watched = (self._fd,)
        self._unsent = array.array("i", [0])

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def rest(self, duration_ns: int) -> None:
        time.sleep(duration_ns / NS_PER_S)

    def discard_input(self) -> None:
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except termios.error as error:
            raise self._gone(error.args[-1]) from None

    def discard_output(self) -> None:
        try:
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, self._unsent)
            if self._unsent[0]:
                termios.tcflush(self._fd, termios.TCOFLUSH)
        except termios.error as error:
            raise self._gone(error.args[-1]) from None
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):  # a driver without this call
                raise self._gone(error.strerror) from None

    def write(self, data: bytes) -> None:
        """What the operating system cannot accept at once is dropped: an old goal must never be sent late."""
        try:
            if os.write(self._fd, data) != len(data):
                termios.tcflush(self._fd, termios.TCOFLUSH)
        except BlockingIOError:
            termios.tcflush(self._fd, termios.TCOFLUSH)
        except (OSError, termios.error) as error:
            raise self._gone(error.args[-1]) from None

    def read(self, deadline_ns: int) -> bytes:
        left_ns = deadline_ns - time.monotonic_ns()
        if not select.select(self._watched, (), (), left_ns / NS_PER_S if left_ns > 0 else 0)[0]:
            return b""
        try:
            data = os.read(self._fd, READ_BYTES)
        except OSError as error:
            raise self._gone(error.strerror) from None
        if not data:
            raise self._gone("it was hung up")
        return data

    def close(self) -> None:
        # pyserial may complain while it closes a port whose device has vanished; the descriptor is freed all
        # the same.
        with contextlib.suppress(OSError, termios.error):
            self._serial.close()

    def _gone(self, reason: object) -> ArmDisconnected:
        return ArmDisconnected(
            f"the serial port {self.port} is gone: {reason}",
            "the servos hold their last goal; plug the cable in again, or switch the arm's supply off",
        )


def _open(port: str, baud: int) -> serial.Serial:
    require_live_link(Path(port))
    try:
        opened = serial.Serial(port, baud, timeout=0, write_timeout=0, exclusive=True)
    except serial.SerialException as error:
        raise _cannot_open(port, error.errno, str(error)) from None
    except ValueError as error:
        raise InputError(f"{port} cannot run at {baud} baud: {error}", "check 'baud' in the arm profile") from None
    # USB adapters with an FTDI chip delay bytes by up to 16 ms by default; other drivers lack the call.
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        opened.set_low_latency_mode(True)
    claim(opened.fileno())
    return opened


def claim(terminal_fd: int) -> None:
    """Make the kernel refuse to open this port again, except for root; the file lock stops only programs that check it.

    Not for a pseudo-terminal, which its other end keeps open: the claim would outlive this program.
    """
    if os.major(os.fstat(terminal_fd).st_rdev) not in PSEUDO_TERMINAL_MAJORS:
        with contextlib.suppress(OSError):  # a driver without this call; the file lock still holds
            fcntl.ioctl(terminal_fd, termios.TIOCEXCL)


def _cannot_open(port: str, code: int | None, message: str) -> MissingError:
    if code in (errno.EAGAIN, errno.EBUSY):
        return MissingError(f"{port} is in use by another program", "one program owns an arm; stop the other one")
    if code in (errno.EACCES, errno.EPERM):
        return MissingError(f"no permission to open {port}", "sudo usermod -aG dialout $USER, then log in again")
    if code == errno.ENOENT:
        return MissingError(f"there is no serial port {port}", "is the arm plugged in? ls /dev/serial/by-id")
    return MissingError(f"{port} cannot be opened: {message}", "is it a serial port, and is the device still there?")
