"""Sinks: send records without waiting for the reader.

If the reader is slow, records wait in a short queue; when it is full, the oldest is lost, and the reader detects the
gap.
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import Protocol

from sefa_edge.edge.ipc.transport import MAX_RECORD_BYTES, Channel, ChannelClosed
from sefa_edge.profiles.units import s_to_ns

WAITING_RECORDS = 500
"""Five seconds of ticks, half a megabyte."""

FLUSH_RECORDS = 4
"""Maximum number of waiting records that are sent in one tick."""

POLL_MS = 50


class Sink(Protocol):
    """Accepts records and never blocks."""

    def put(self, record: bytes) -> None: ...


class PatientSink:
    """A channel to a reader that may pause for some seconds; once it is gone, records are dropped."""

    def __init__(self, channel: Channel) -> None:
        self._channel: Channel | None = channel
        self._waiting: deque[bytes] = deque(maxlen=WAITING_RECORDS)

    def put(self, record: bytes) -> None:
        if self._channel is not None and len(record) <= MAX_RECORD_BYTES:
            self._waiting.append(record)
            self._flush(FLUSH_RECORDS)

    def finish(self, patience_s: float) -> None:
        """At the end, when blocking is harmless: send the remaining records, for at most `patience_s`."""
        poller = select.poll()
        give_up_ns = time.monotonic_ns() + s_to_ns(patience_s)
        if self._channel is not None:
            poller.register(self._channel, select.POLLOUT)
        while self._waiting and time.monotonic_ns() < give_up_ns:
            poller.poll(POLL_MS)
            self._flush(WAITING_RECORDS)

    def _flush(self, records: int) -> None:
        try:
            for _ in range(min(records, len(self._waiting))):
                if self._channel is None or not self._channel.send(self._waiting[0]):
                    return
                self._waiting.popleft()
        except ChannelClosed:
            self.close()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._waiting.clear()
