"""The simulated bus as a port without a terminal, on any clock: the servos of a lock-step simulation."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from sefa_edge.firmware_bridge.host.errors import ArmDisconnected
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.simulation.bus import Reply, SimulatedBus
from sefa_edge.profiles.errors import MissingError

PORT_NAME = "simulated"


class Clock(Protocol):
    """The clock of the wire and of the loop that uses it."""

    def now_ns(self) -> int: ...

    def sleep_until(self, deadline_ns: int) -> None: ...


class BusPort:
    """A port for a bus in this process; the counterpart of `PtyPort`::

    clock, port = ManualClock(), BusPort(bus, clock)
    arm = connect_feetech_arm(profile, port.open(), None)     # every transaction moves the clock
    """

    def __init__(self, bus: SimulatedBus, clock: Clock) -> None:
        self.plugged = True
        self._bus = bus
        self._clock = clock
        self._wire: BusWire | None = None

    def open(self) -> Link:
        """A link to the servos. Raises MissingError if the cable is unplugged or another link is open."""
        if not self.plugged:
            raise MissingError(f"there is no port {PORT_NAME}", "its cable was pulled")
        if self._wire is not None and self._wire.is_open:
            raise MissingError(f"{PORT_NAME} is in use", "one program owns an arm")
        self._wire = BusWire(self._bus, self._clock)
        return Link(self._wire)

    def unplug(self) -> None:
        """Unplug the cable: an open link sees the port vanish. The servos keep their state."""
        self.plugged = False
        self._bus.hang_up()
        if self._wire is not None:
            self._wire.is_gone = True

    def replug(self) -> None:
        """Plug the cable in: the port must be opened again."""
        self.plugged = True


class BusWire:
    """Implements `Wire` on a simulated bus: bytes take their time, and waiting moves the clock."""

    def __init__(self, bus: SimulatedBus, clock: Clock) -> None:
        self.port, self.baud = PORT_NAME, bus.baud
        self.is_open = True
        self.is_gone = False
        self._bus = bus
        self._clock = clock
        self._replies: deque[Reply] = deque()

    def now_ns(self) -> int:
        return self._clock.now_ns()

    def rest(self, duration_ns: int) -> None:
        self._clock.sleep_until(self._clock.now_ns() + duration_ns)

    def discard_input(self) -> None:
        self._require()
        self._replies.extend(self._bus.catch_up(self.now_ns()))
        while self._replies and self._replies[0].due_ns <= self.now_ns():
            self._replies.popleft()

    def discard_output(self) -> None:
        """Nothing to drop: everything written has left this side of the wire."""
        self._require()

    def write(self, data: bytes) -> None:
        self._require()
        self._replies.extend(self._bus.receive(data, self.now_ns()))

    def read(self, deadline_ns: int) -> bytes:
        self._require()
        self._catch_up(deadline_ns)
        if not self._replies or self._replies[0].due_ns > deadline_ns:
            self._clock.sleep_until(deadline_ns)
            return b""
        self._clock.sleep_until(self._replies[0].due_ns)
        return self._replies.popleft().data

    def close(self) -> None:
        self.is_open = False

    def _catch_up(self, deadline_ns: int) -> None:
        """Wait for delayed requests, unless a reply arrives earlier."""
        while (arrival_ns := self._bus.next_arrival_ns) is not None and arrival_ns <= deadline_ns:
            if self._replies and self._replies[0].due_ns <= arrival_ns:
                return
            self._clock.sleep_until(arrival_ns)
            self._replies.extend(self._bus.catch_up(arrival_ns))

    def _require(self) -> None:
        if self.is_gone:
            raise ArmDisconnected(f"the port {PORT_NAME} is gone", "plug the cable in again")
