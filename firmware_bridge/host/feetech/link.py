"""Transactions with Feetech servos on a serial wire: one write and one bounded read each."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmInterrupted
from sefa_edge.firmware_bridge.host.feetech.protocol import HEADER, wire_time_ns
from sefa_edge.firmware_bridge.host.serial_wire import SerialWire, Wire
from sefa_edge.profiles.units import ms_to_ns

ECHO_PROBE = b"\x00\x55\x00\x55"
"""Not a packet to any servo, so what comes back is the adapter's own echo."""

ECHO_MARGIN_NS = ms_to_ns(50)
ECHO_PROBES = 3
"""How often the probe is sent while neither nothing nor the probe comes back."""

BACKLOG_BYTES = 4096
"""Transmit buffer of the operating system for a serial port; `write` drops what does not fit."""

STALLED_NS = ms_to_ns(5)
"""Bytes that are not transmitted this long after their time on the wire are stuck."""

SENDING_S = 0.05
"""How long an emergency stop waits for another thread to finish a write, which never blocks."""

FEW_PIECES = 2
"""Reads that a reply may take before sleeping until it can be complete pays off: a sleep costs one wake-up."""


class Link:
    """Transactions on a wire on which the host sends requests and servos answer.

    Single-wire adapters may echo what the host sends; this is detected once, on opening, and the echo is stripped from
    then on. (The answers do not show it: a servo with a voltage fault answers a ping with the same bytes.)

    Time counts from when the line is free: the time of a request starts when the write before it has left.
    """

    def __init__(self, wire: Wire) -> None:
        """Take over an open wire; closes it and raises ArmDisconnected if the port vanishes."""
        self.port = wire.port
        self.baud = wire.baud
        self.written_ns = 0
        """When transmission of the last request began, after earlier bytes on the line."""
        self._wire = wire
        self._line_free_ns = 0
        self._earliest_answer_ns = 0
        self._byte_ns = wire_time_ns(1, wire.baud)
        self._backlog_ns = wire_time_ns(BACKLOG_BYTES, wire.baud)
        self._in_pieces = False
        self._emergency: Emergency | None = None
        self._urgent: Callable[[], None] | None = None
        self._sending = threading.RLock()  # taken again by a signal handler that interrupts its holder
        self._echoes = False
        try:
            self._echoes = self._detect_echo()
        except ArmDisconnected:
            self.close()
            raise

    @classmethod
    def open(cls, port: str, baud: int) -> Link:
        """Open and lock a serial port.

        Raises:
            MissingError: no such port, no permission, or another program uses it.
            ArmDisconnected: the port vanished.
            InputError: a baud rate that the port refuses.
        """
        return cls(SerialWire(port, baud))

    def exchange(self, request: bytes, reply_bytes: int, margin_ns: int) -> bytes:
        """Send a request and collect the reply: what arrived within its time on the wire plus `margin_ns`.

        The reply is shorter than `reply_bytes` if a servo did not answer, and empty if none did. Earlier bytes are
        dropped first, and so are bytes that arrive before the request can have reached a servo: they answer an earlier
        request. Noise before the reply does not count towards its length.

        Args:
            margin_ns: for the servos' return delays and the delays of the adapter and this computer.

        Raises:
            ArmDisconnected: the port is gone.
            ArmInterrupted: refused because of an emergency stop.
        """
        wire = self._wire
        wire.discard_input()
        self.send(request)
        reply_ns = self._line_free_ns + reply_bytes * self._byte_ns
        if self._in_pieces:
            wire.rest(max(reply_ns - wire.now_ns(), 0))
        received = wire.read(reply_ns + margin_ns)
        while received and not self._echoes and wire.now_ns() < self._earliest_answer_ns:
            received = wire.read(reply_ns + margin_ns)
        if len(received) == reply_bytes and received.startswith(HEADER) and not self._echoes:
            return received
        return self._collect(request, received, reply_bytes, reply_ns + margin_ns)

    def send(self, request: bytes) -> None:
        """Send a request without an answer; stuck bytes from before are dropped first.

        Raises:
            ArmDisconnected: the port is gone.
            ArmInterrupted: refused because of an emergency stop.
        """
        wire, free_ns = self._wire, self._line_free_ns
        with self._sending:
            if self._emergency is not None and self._emergency.requested:
                raise ArmInterrupted("an emergency stop was requested", "the request was not sent")
            before_ns = wire.now_ns()
            if before_ns - free_ns > STALLED_NS:
                wire.discard_output()
            wire.write(request)
        self._earliest_answer_ns = before_ns + len(request) * self._byte_ns
        now_ns = wire.now_ns()
        self.written_ns = begun_ns = now_ns if now_ns > free_ns else min(free_ns, now_ns + self._backlog_ns)
        self._line_free_ns = begun_ns + len(request) * self._byte_ns

    def now_ns(self) -> int:
        """The time on the wire's clock."""
        return self._wire.now_ns()

    def rest(self, duration_ns: int) -> None:
        """Sleep for this duration on the wire's clock."""
        self._wire.rest(duration_ns)

    def attach_emergency(self, emergency: Emergency, packet: bytes) -> None:
        """Let `emergency` send `packet` past every request; other requests are then refused until `take_request`.

        It may be sent while another thread is in `send`: a goal that has passed the check there must leave before the
        packet, not after it, because it would switch the torque on again.
        """

        def send() -> None:
            is_alone = self._sending.acquire(timeout=SENDING_S)
            try:
                self._wire.write(packet)
                self._line_free_ns = self._wire.now_ns() + len(packet) * self._byte_ns
            finally:
                if is_alone:
                    self._sending.release()

        self._emergency, self._urgent = emergency, send
        emergency.attach(send)
        if emergency.requested:
            send()

    def close(self) -> None:
        """Close the port. Torque stays as it is; nothing is sent."""
        if self._emergency is not None and self._urgent is not None:
            self._emergency.detach(self._urgent)
        self._wire.close()

    def _collect(self, request: bytes, received: bytes, reply_bytes: int, deadline_ns: int) -> bytes:
        """The whole reply that starts with these bytes, without the echo of its request."""
        pieces = 1
        while received and self._missing(request, received, reply_bytes) > 0:
            data = self._wire.read(deadline_ns)
            if not data:
                break
            received += data
            pieces += 1
        self._in_pieces |= pieces > FEW_PIECES
        return _after_echo(request, received) if self._echoes else received

    def _missing(self, request: bytes, received: bytes, reply_bytes: int) -> int:
        """Bytes of the reply still missing, counted from the first header, or from the end of the echo."""
        if self._echoes:
            return max(received.find(request), 0) + len(request) + reply_bytes - len(received)
        return max(received.find(HEADER), 0) + reply_bytes - len(received)

    def _detect_echo(self) -> bool:
        for _ in range(ECHO_PROBES):
            received = self.exchange(ECHO_PROBE, len(ECHO_PROBE), ECHO_MARGIN_NS)
            if not received or ECHO_PROBE in received:
                return bool(received)
        return False


def _after_echo(request: bytes, received: bytes) -> bytes:
    start = received.find(request)
    return received if start < 0 else received[start + len(request) :]
