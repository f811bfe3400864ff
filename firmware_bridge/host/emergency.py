"""The emergency stop's direct access to the wire, past anything that the rest of the program waits for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sefa_edge.firmware_bridge.host.errors import ArmDisconnected
from sefa_edge.profiles.stopping import EMERGENCY, StopSignals


class Emergency:
    """Whether torque off was requested. One object is shared by a signal handler, the links to an arm, and a loop.

    From `request` to `take_request` every transaction on the wire is refused (ArmInterrupted), so that retries with a
    silent servo end at once. Whoever calls `take_request` must then switch the torque off and read it back.
    """

    def __init__(self) -> None:
        self.requested = False
        self._send: Callable[[], None] | None = None

    def request(self) -> None:
        """Send torque off to every servo, once and unconfirmed, and refuse everything else. For a signal handler."""
        self.requested = True
        send = self._send
        if send is not None:
            with suppress(ArmDisconnected):
                send()

    def take_request(self) -> bool:
        """Whether it was requested since the last call; the wire is usable again."""
        requested, self.requested = self.requested, False
        return requested

    def attach(self, send: Callable[[], None]) -> None:
        """Let `request` call `send`, which must not block and may raise ArmDisconnected."""
        self._send = send

    def detach(self, send: Callable[[], None]) -> None:
        """Forget `send`: its wire is closed."""
        if self._send == send:
            self._send = None


def emergency_signals(emergency: Emergency) -> StopSignals:
    """For a program that moves an arm itself: Ctrl-\\ sends torque off from its handler."""
    return StopSignals(lambda number: emergency.request() if number is EMERGENCY else None)
