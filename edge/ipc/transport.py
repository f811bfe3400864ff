"""Transport between the processes: records over socket pairs, pixels in shared memory.

A record is one datagram; a sender never waits, and a reader drains to the newest. Pixels are in a ring of slots in an
anonymous memory file (nothing remains after `kill -9`), and only a descriptor is sent; the system call that sends it
acts as a memory barrier, also on arm64.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from sefa_edge.edge.ipc.record_header import Kind, RecordError
from sefa_edge.edge.ipc.wire_record import WireRecord, wire_record
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.wire_types import I64, U32

MAX_RECORD_BYTES = 65536
RING_SLOTS = 8


class ChannelClosed(SefaError):
    """The process on the other end is gone."""

    exit_code = ExitCode.FAULT


class Channel:
    """One end of a pair of record sockets. Never blocks; only `wait` and `send_within` take time."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self.dropped = 0
        """Records that were not sent because the other end was behind."""

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """Adopt an inherited file descriptor."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, record: bytes) -> bool:
        """Send one record; if the reader is behind, count it as dropped and return False.

        Raises:
            ChannelClosed: the other end is gone.
        """
        try:
            self._socket.send(record)
        except BlockingIOError:
            self.dropped += 1
            return False
        except (BrokenPipeError, ConnectionResetError):
            raise ChannelClosed("the process on the other end is gone") from None
        return True

    def send_within(self, record: bytes, timeout_s: float) -> bool:
        """Like `send`, but wait for room for at most `timeout_s`. Raises ChannelClosed."""
        give_up_s = time.monotonic() + timeout_s
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        while not self.send(record):
            left_s = give_up_s - time.monotonic()
            if left_s <= 0 or not poller.poll(left_s * 1000):
                return False
        return True

    def receive(self) -> bytes | None:
        """The oldest waiting record, or None. Raises ChannelClosed when the other end is gone and all is read."""
        for _ in range(2):
            try:
                record = self._socket.recv(MAX_RECORD_BYTES)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                continue  # the peer ended without reading all our records: reported once, before its last records
            if record:
                return record
            break
        raise ChannelClosed("the process on the other end is gone")

    def drain(self) -> Iterator[bytes]:
        """All waiting records, oldest first. Raises ChannelClosed as `receive` does."""
        while (record := self.receive()) is not None:
            yield record

    def newest(self) -> bytes | None:
        """The newest waiting record; older ones are discarded. Raises ChannelClosed as `receive` does."""
        newest = None
        for record in self.drain():
            newest = record
        return newest

    def wait(self, timeout_s: float) -> bool:
        """Sleep until a record (or the end) arrives; False after `timeout_s`."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(max(0.0, timeout_s) * 1000))

    def close(self) -> None:
        self._socket.close()


def channel_pair() -> tuple[Channel, Channel]:
    """Two connected ends. They keep record boundaries, and each detects the death of the other."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(first), Channel(second)


@wire_record(Kind.FRAME)
@dataclass(frozen=True, slots=True)
class FrameDescriptor(WireRecord):
    """A frame that a camera has published, and its slot in the ring."""

    slot: Annotated[int, U32]
    sequence: Annotated[int, I64]
    capture_ns: Annotated[int, I64]
    """Time of capture."""
    received_ns: Annotated[int, I64]
    published_ns: Annotated[int, I64]
    """When the frame had been written to the ring, in the policy's size."""
    still_ns: Annotated[int, I64] = 0
    """How long the camera had been repeating an identical image, up to the frame before this one."""
    dark_ns: Annotated[int, I64] = 0
    """How long its images had been dark, up to the frame before this one."""
    reconnections: Annotated[int, I64] = 0
    """How often the camera has been reopened since the start of the run."""
    damaged: Annotated[int, I64] = 0
    """Number of damaged or truncated images that were discarded since the start of the run."""


class FrameRing:
    """Images uint8 [slots, height, width, 3] in shared memory, each slot stamped with its sequence number.

    One writer. A reader copies a slot and checks its stamp again: a reader that the writer has overtaken (which takes
    `slots - 1` frame periods) discards the copy instead of using halves of two images.
    """

    def __init__(self, fd: int, height: int, width: int, slots: int = RING_SLOTS) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, _ring_bytes(height, width, slots))
        self._stamps = np.frombuffer(self._memory, np.int64, slots)
        self._images = np.frombuffer(self._memory, np.uint8, slots * height * width * 3, slots * 8).reshape(
            slots, height, width, 3
        )

    @classmethod
    def create(cls, height: int, width: int, slots: int = RING_SLOTS) -> FrameRing:
        """A new ring; a child inherits its `fd`."""
        fd = os.memfd_create("sefa-frames", os.MFD_CLOEXEC)
        os.ftruncate(fd, _ring_bytes(height, width, slots))
        return cls(fd, height, width, slots)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images."""
        return self._images.shape[1], self._images.shape[2]

    def write(self, sequence: int, image: np.ndarray) -> int:
        """Store an image uint8 [H,W,3]; returns the slot."""
        slot = sequence % len(self._stamps)
        self._stamps[slot] = -1
        self._images[slot] = image
        self._stamps[slot] = sequence
        return slot

    def read(self, descriptor: FrameDescriptor) -> np.ndarray | None:
        """A copy uint8 [H,W,3] of the image; None when the slot has been overwritten.

        Raises:
            RecordError: the descriptor points outside the ring.
        """
        if descriptor.slot >= len(self._stamps):
            raise RecordError(f"slot {descriptor.slot} of a ring of {len(self._stamps)}")
        if self._stamps[descriptor.slot] != descriptor.sequence:
            return None
        image = self._images[descriptor.slot].copy()
        return image if self._stamps[descriptor.slot] == descriptor.sequence else None

    def close(self) -> None:
        """Unmap the memory and close the file descriptor."""
        del self._stamps, self._images
        self._memory.close()
        os.close(self.fd)


def _ring_bytes(height: int, width: int, slots: int) -> int:
    return slots * 8 + slots * height * width * 3
