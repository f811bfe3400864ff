"""The emergency stop's own way to the wire, past whatever the rest of the program waits for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sefa_edge.firmware_bridge.host.errors import ArmDisconnected
from sefa_edge.profiles.stopping import EMERGENCY, StopSignals


class Emergency:
    """Whether torque off was asked for. One object is shared by a signal handler, the links to an arm, and a loop.

    From `ask` to `take` every transaction on the wire is refused (ArmInterrupted), so that whatever is asking a silent
    servo again gives up at once; `take` is called by who then switches the torque off and reads it back.
    """

    def __init__(self) -> None:
        self.asked = False
        self._send: Callable[[], None] | None = None

    def ask(self) -> None:
        """Send torque off to every servo, once and unconfirmed, and refuse everything else. For a signal handler."""
        self.asked = True
        send = self._send
        if send is not None:
            with suppress(ArmDisconnected):
                send()

    def take(self) -> bool:
        """Whether it was asked for since the last call; the wire is usable again."""
        asked, self.asked = self.asked, False
        return asked

    def reach(self, send: Callable[[], None]) -> None:
        """From now on `ask` sends with `send`, which must not block and may raise ArmDisconnected."""
        self._send = send

    def leave(self, send: Callable[[], None]) -> None:
        """The wire of `send` is closed."""
        if self._send == send:
            self._send = None


def emergency_signals(emergency: Emergency) -> StopSignals:
    """For a program that moves an arm itself: Ctrl-\\ sends torque off from its handler."""
    return StopSignals(lambda number: emergency.ask() if number is EMERGENCY else None)
