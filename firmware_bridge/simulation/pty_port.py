"""The simulated bus as a serial port: a pseudo-terminal that any client of a real arm can open."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import threading
import time
import tty
from collections import deque
from pathlib import Path

from typing_extensions import Self

from sefa_edge.firmware_bridge.host.port_link import creator_of, descriptor_for_link, is_stale, link_target
from sefa_edge.firmware_bridge.simulation.bus import Reply, SimulatedBus
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns

READ_BYTES = 4096
SERVE_SLICE_NS = ms_to_ns(100)
TCGETS2 = 0x802C542A
"""<asm-generic/ioctls.h>: reads a struct termios2, whose last word is the output speed as a number."""
TERMIOS2 = struct.Struct("=4I20s2I")
TERMINAL_SPEEDS = {
    1_000_000: termios.B1000000,
    500_000: termios.B500000,
    115_200: termios.B115200,
    57_600: termios.B57600,
    38_400: termios.B38400,
}
"""Speeds of the servos that termios has a name for."""


class PtyPort:
    """Serves a bus on a pseudo-terminal, with replies timed as on the wire, in a caller's loop or in a thread::

        port.serve_until(deadline_ns)          # inside a physics loop
        with PtyPort(bus) as port: ...         # in a background thread; share the plant under `port.lock`

    `path` is what a client opens: the given link, else the device itself.
    """

    def __init__(self, bus: SimulatedBus, link: Path | None = None) -> None:
        """Create the port. Raises InputError if `link` exists as something else, is in use, or cannot be created."""
        self.lock = threading.RLock()
        """Held while the bus and its plant are accessed."""
        self._bus = bus
        self._link = link
        self._due: deque[Reply] = deque()
        self._master = self._slave = self._linked = -1
        self._device = ""
        self._thread: threading.Thread | None = None
        self._closing = False
        if link is not None:
            require_replaceable(link)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.replug()
        except InputError:
            self.close()
            raise

    @property
    def path(self) -> str:
        return str(self._link) if self._link else self._device

    @property
    def plugged(self) -> bool:
        return self._master >= 0

    def serve_until(self, deadline_ns: int) -> None:
        """Answer clients until the deadline, or until closed."""
        while not self._closing and (left_ns := deadline_ns - time.monotonic_ns()) > 0:
            events_ns = [self._due[0].due_ns] if self._due else []
            if (arrival_ns := self._bus.next_arrival_ns) is not None:
                events_ns.append(arrival_ns)
            if events_ns:
                left_ns = min(left_ns, max(min(events_ns) - time.monotonic_ns(), 0))
            readable = self._wait(left_ns)
            with self.lock:
                if self._wake_read in readable:
                    self._drain_wake()
                if self._master in readable:
                    self._receive()
                self._deliver()

    def unplug(self) -> None:
        """Unplug the cable: clients see the port vanish. The servos keep their state."""
        with self.lock:
            if self.plugged:
                self._remove_link()
                for descriptor in (self._master, self._slave, self._linked):
                    os.close(descriptor)
                self._master = self._slave = self._linked = -1
                self._due.clear()
                self._bus.hang_up()
        self._wake()

    def replug(self) -> None:
        """Plug the cable in: a new device behind the same link."""
        with self.lock:
            if not self.plugged:
                # The slave stays open here, so that clients may come and go without hanging up the line.
                self._master, self._slave = os.openpty()
                tty.setraw(self._slave)
                _set_baud(self._slave, self._bus.baud)
                os.set_blocking(self._master, False)
                self._linked = descriptor_for_link(self._slave)
                self._device = os.ttyname(self._slave)
                self._place_link()
        self._wake()

    def start(self) -> None:
        """Serve in a background thread until `close`."""
        self._thread = threading.Thread(target=self._serve_forever, name="pty-port", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and remove the port."""
        self._closing = True
        self._wake()
        if self._thread is not None:
            self._thread.join()
        self.unplug()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve_forever(self) -> None:
        while not self._closing:
            self.serve_until(time.monotonic_ns() + SERVE_SLICE_NS)

    def _wait(self, timeout_ns: int) -> list[int]:
        with self.lock:
            watched = [self._wake_read, self._master] if self.plugged else [self._wake_read]
        try:
            readable, _, _ = select.select(watched, (), (), timeout_ns / NS_PER_S)
        except OSError as error:
            # Another thread may unplug between the lock and the select.
            if error.errno != errno.EBADF:
                raise
            return []
        return readable

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._master, READ_BYTES)
            self._bus.baud = self._client_baud()
            self._due.extend(self._bus.receive(data, time.monotonic_ns()))

    def _client_baud(self) -> int:
        speeds = bytearray(TERMIOS2.size)
        fcntl.ioctl(self._slave, TCGETS2, speeds)
        return TERMIOS2.unpack(speeds)[-1]

    def _deliver(self) -> None:
        now_ns = time.monotonic_ns()
        self._due.extend(self._bus.catch_up(now_ns))
        self._bus.advance(now_ns)
        while self.plugged and self._due and self._due[0].due_ns <= now_ns:
            # A client that does not read loses bytes, as with a full UART buffer.
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, self._due.popleft().data)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, READ_BYTES)

    def _place_link(self) -> None:
        if self._link is None:
            return
        temporary = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        try:
            temporary.symlink_to(link_target(self._linked))
            temporary.replace(self._link)
        except OSError as error:
            raise InputError(f"{self._link} cannot be created: {error.strerror}", "choose another path") from None

    def _remove_link(self) -> None:
        # Another server may have replaced the link meanwhile; only our own is removed.
        ours = link_target(self._linked)
        if self._link is not None and self._link.is_symlink() and os.readlink(self._link) == ours:
            self._link.unlink()


def require_replaceable(link: Path) -> None:
    """Refuse a path that exists, except for the link of a simulated arm that has ended. Raises InputError."""
    if not os.path.lexists(link) or is_stale(link):
        return
    creator = creator_of(link)
    if creator is not None:
        raise InputError(f"{link} is the port of a running simulated arm (process {creator})", "choose another path")
    what = f"is a link to {os.readlink(link)}" if link.is_symlink() else "exists and is not a link"
    raise InputError(f"{link} {what}", "choose another path, or remove it")


def _set_baud(terminal: int, baud: int) -> None:
    attributes = termios.tcgetattr(terminal)
    attributes[4] = attributes[5] = TERMINAL_SPEEDS.get(baud, attributes[5])
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
