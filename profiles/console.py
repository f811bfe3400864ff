"""Standard output and standard error: the one writer for everything that a person sees.

`install` replaces `sys.stdout` and `sys.stderr`, so that `print`, argparse, warnings and tracebacks pass through here.
A write never raises and, unless a result waits for its reader, never blocks longer than `MOMENT_S`:

- a pipe whose reader is gone, a full disk, an invalid descriptor: further output is dropped;
- a terminal that hung up: further output is dropped and SIGHUP is raised in this process, once, if it handles SIGHUP;
- a reader that does not read: what does not fit within `MOMENT_S` is dropped, and further messages do not wait at all
  until one fits again.

Control characters from any source are escaped, except in text given to `write_controls`.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

MOMENT_S = 0.1
RESULT_PATIENCE_S = 5.0
"""How long a report on standard output waits for a reader that does not read, while an arm is in use."""
CAUTIOUS_BYTES = 128
"""Size of one write to a descriptor that may block: `poll` guarantees little more than one byte of room."""
MAX_LINE = 1000
"""Characters of an error or a hint; a path alone may have four times as many."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BIDIRECTIONAL_MARKS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
INVISIBLE = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (
        *(code for code in range(0x20) if chr(code) not in "\t\n"),
        *range(0x7F, 0xA0),
        *BIDIRECTIONAL_MARKS,
        *(0x2028, 0x2029, 0xFEFF),
        *range(0xD800, 0xE000),
    )
}
"""C0, DEL and C1 controls, marks that reorder text, and halves of surrogate pairs, as visible escapes."""


def printable(text: str) -> str:
    """The text with every control character replaced by a visible escape."""
    return text if text.isascii() and text.isprintable() else text.replace("\r\n", "\n").translate(INVISIBLE)


def one_line(text: str) -> str:
    """The text as one printable line."""
    return printable(" ".join(text.split("\n")))


def message_line(text: str) -> str:
    """One printable line; a very long one is cut to its beginning and its end, which has the reason."""
    line = one_line(text)
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE // 2]} … {line[-MAX_LINE // 2 :]}"


class Output:
    """Writes bytes to one descriptor. Never raises; waits no longer than the given time."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.hung_up = False
        """The descriptor is a terminal that no longer exists."""
        self.failure: OSError | None = None
        """Why the last write was not complete, if the reason is neither the reader nor the terminal."""
        self.is_terminal = os.isatty(fd)
        self._is_device = False
        self._silent = False
        self.stuck = False
        """The reader did not read during the last write."""
        self._cut = False
        self._may_block = True
        self._own_fd = fd
        self._open_without_blocking()

    def write(self, content: bytes, patience_s: float | None = MOMENT_S) -> bool:
        """Write; returns whether everything was written. `patience_s`: total wait for a reader; None: unlimited."""
        if self._silent:
            return False
        if self._cut:
            content = b"\n" + content
        give_up_s = None if patience_s is None else time.monotonic() + (0.0 if self.stuck else patience_s)
        try:
            with _foreground(self.is_terminal):
                left = self._write_until(memoryview(content), give_up_s)
        except OSError as error:
            self._fail(error)
            return False
        self.stuck = bool(left)
        self._cut = bool(left) and (self._cut or left < len(content))
        return not left

    def _write_until(self, content: memoryview, give_up_s: float | None) -> int:
        """Bytes that could not be written in time. Raises OSError."""
        while content:
            if self._may_block and not self._wait(give_up_s):
                return len(content)
            try:
                content = content[os.write(self._own_fd, content[:CAUTIOUS_BYTES] if self._may_block else content) :]
            except BlockingIOError:
                if not self._wait(give_up_s):
                    return len(content)
        return 0

    def _wait(self, give_up_s: float | None) -> bool:
        """Whether there is room before `give_up_s`. A failed descriptor counts as room: the write reports the error."""
        poller = select.poll()
        poller.register(self._own_fd, select.POLLOUT)
        return bool(poller.poll(None if give_up_s is None else max(0.0, give_up_s - time.monotonic()) * 1000))

    def _open_without_blocking(self) -> None:
        """Open pipes and terminals again: O_NONBLOCK on the shared descriptor would affect other programs."""
        with suppress(OSError):  # no /proc, or another user's terminal: small writes, each after a poll for room
            kind = os.fstat(self.fd).st_mode
            self._is_device = stat.S_ISCHR(kind)
            if stat.S_ISFIFO(kind) or self.is_terminal:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                self._own_fd = os.open(f"/proc/self/fd/{self.fd}", flags)
            self._may_block = stat.S_ISSOCK(kind)

    def _fail(self, error: OSError) -> None:
        if error.errno in FULL:
            self.failure = error
            return
        self._silent = True
        if error.errno == errno.EIO and self._is_device:
            self.hung_up = True
            if callable(signal.getsignal(signal.SIGHUP)):
                signal.raise_signal(signal.SIGHUP)


class ConsoleStream(io.TextIOBase):
    """A text stream over an `Output`, or over another text stream. Lines are written whole; see the module."""

    def __init__(self, output: Output | TextIO, patience_s: float | None) -> None:
        self.output = output
        self.patience_s = patience_s
        self._line = ""

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.output.is_terminal if isinstance(self.output, Output) else self.output.isatty()

    def fileno(self) -> int:
        return self.output.fd if isinstance(self.output, Output) else self.output.fileno()

    def write(self, text: str) -> int:
        """Complete lines are written at once, the rest with `flush`."""
        whole, newline, self._line = (self._line + text).rpartition("\n")
        if newline:
            self._put(printable(whole) + newline, self.patience_s)
        return len(text)

    def flush(self) -> None:
        line, self._line = self._line, ""
        if line:
            self._put(printable(line), self.patience_s)

    def write_controls(self, text: str, patience_s: float | None) -> None:
        """Write text with control characters; parts from outside must have been through `printable`."""
        self.flush()
        self._put(text, patience_s)

    def write_result(self, text: str) -> None:
        """Write a report, which waits longer for a reader than a message does."""
        self.flush()
        self._put(printable(text), None if self.patience_s is None else RESULT_PATIENCE_S)

    def _put(self, text: str, patience_s: float | None) -> None:
        if isinstance(self.output, Output):
            self.output.write(text.encode("utf-8", "backslashreplace"), patience_s)
        else:
            self.output.write(text)
            self.output.flush()


def install() -> tuple[TextIO, TextIO]:
    """Replace `sys.stdout` and `sys.stderr` by this writer, at the start of a program; returns the old two.

    Closed descriptors 0 to 2 are opened on the null device, otherwise the next opened file would become one of them.
    Streams that were replaced before (by a test that captures) are kept, and written to.
    """
    _open_missing_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, _stream(sys.stdout, sys.__stdout__, 1, None))
    sys.stderr = cast(TextIO, _stream(sys.stderr, sys.__stderr__, 2, MOMENT_S))
    return before


def limit_waiting() -> None:
    """From now on results do not wait longer for their reader than messages: an arm is in use."""
    if isinstance(sys.stdout, ConsoleStream):
        sys.stdout.patience_s = MOMENT_S


def write_controls(stream: TextIO, text: str, patience_s: float | None = MOMENT_S) -> None:
    """Write text with control characters. Parts from outside must have been through `printable`."""
    if isinstance(stream, ConsoleStream):
        stream.write_controls(text, patience_s)
    else:
        stream.write(text)
        stream.flush()


def write_result(text: str) -> bool:
    """Write a report to standard output; False if its reader exists but does not read."""
    stream = sys.stdout
    if not isinstance(stream, ConsoleStream):
        stream.write(text)
        return True
    stream.write_result(text)
    return not (isinstance(stream.output, Output) and stream.output.stuck)


def output_failure() -> OSError | None:
    """Why output could not be stored: a full disk, or a limit on file sizes."""
    stream = sys.stdout
    return stream.output.failure if isinstance(stream, ConsoleStream) and isinstance(stream.output, Output) else None


def _stream(now: TextIO | None, original: TextIO | None, fd: int, patience_s: float | None) -> ConsoleStream:
    if isinstance(now, ConsoleStream):
        return now
    return ConsoleStream(Output(fd) if now is None or now is original else now, patience_s)


def _open_missing_descriptors() -> None:
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null_fd = os.open(os.devnull, os.O_RDWR)
            if null_fd != fd:
                os.dup2(null_fd, fd)
                os.close(null_fd)
            os.set_inheritable(fd, True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lives as long as the process


@contextmanager
def _foreground(is_terminal: bool) -> Iterator[None]:
    """Inside the block, writing from the background does not stop this process, even with `stty tostop`."""
    if not is_terminal:
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
