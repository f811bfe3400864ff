"""The end of every run: hold, park, release, whatever went wrong, and then the words for it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from sefa_edge.edge.faults import FAULTS, Fault
from sefa_edge.edge.modes import POWERED, Command, Mode
from sefa_edge.edge.records import ControlCommand, Torque
from sefa_edge.edge.running.crew import Crew
from sefa_edge.edge.running.status import StatusLine
from sefa_edge.edge.running.stop_signals import EMERGENCY, STOPPING, StopSignals
from sefa_edge.edge.running.watch import Watch
from sefa_edge.edge.transport import ChannelClosed
from sefa_edge.profiles.errors import FaultError, SefaError
from sefa_edge.profiles.units import s_to_ns

HOME_TIMEOUT_S = 90.0
FAULT_EXIT_CODE = 3
UNTOUCHED = "arm not touched"
PARKED = "arm parked and released"
STAYING = "arm parked, torque still on"
LEFT_HOLDING = "arm left holding its last goal, torque still on"
UNKNOWN = "the arm may still hold: nothing is known about its torque"


class StopAsked(Exception):
    """A person asked for the end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


class ControlLost(FaultError):
    """The control process ended without a word, or fell silent."""


CutShort: TypeAlias = "StopAsked | SefaError | None"
"""What ended a run before its time, if anything did."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: exit code, and a message with a hint for a person."""

    exit_code: int
    message: str
    hint: str = ""


class Homecoming:
    """Brings the arm home. From here on signals are answered but not obeyed."""

    def __init__(self, crew: Crew, watch: Watch, tell: Callable[[], None], line: StatusLine) -> None:
        """`tell` updates the status line; it is called in every turn of every wait."""
        self._crew, self._watch, self._tell, self._line = crew, watch, tell, line
        self._rescuing = False
        self._emergency = False

    def bring(self, cut_short: CutShort, signals: StopSignals) -> Ending:
        """Hold, park, release; by a fresh control process if the first one is gone. In an emergency release at once."""
        self._emergency = isinstance(cut_short, StopAsked) and cut_short.number is EMERGENCY
        self._announce(cut_short)
        if self._crew.control is not None:
            self._end_control(cut_short, signals)
        return self._ending(cut_short)

    def _announce(self, cut_short: CutShort) -> None:
        if isinstance(cut_short, StopAsked):
            self._line.say(f"{STOPPING[cut_short.number]}: {'EMERGENCY STOP' if self._emergency else 'stopping'}")
        elif cut_short is not None and self._watch.mode in POWERED:
            self._line.say(f"fault: {cut_short}")

    def _end_control(self, cut_short: CutShort, signals: StopSignals) -> None:
        control = self._crew.control
        assert control is not None
        if isinstance(cut_short, ControlLost):
            control.stop(patience_s=0.0)
        if control.exit_code is None and self._watch.final is None:
            self._send(Command.EMERGENCY if self._emergency else Command.STOP)
            self._wait(lambda: self._watch.final is not None, signals)
        if self._watch.final is None:
            control.stop(patience_s=0.0)
            self._watch.hear_control_out()
        if self._watch.final is None and (self._emergency or self._watch.mode in POWERED):
            self._rescue(signals)

    def _rescue(self, signals: StopSignals) -> None:
        what = "releases" if self._emergency else "parks"
        self._line.say(f"the control process is gone; another one {what} the arm")
        self._rescuing = True
        ready = self._watch.ready
        self._crew.start_rescue(None if ready is None else ready.identity)
        self._watch.watch_control()
        self._wait(lambda: self._watch.ready is not None, signals)
        for command in (Command.EMERGENCY,) if self._emergency else (Command.ARM, Command.STOP):
            self._send(command)  # ARM holds the present pose; the move to the start pose is overtaken by STOP
        self._wait(lambda: self._watch.final is not None, signals)
        if self._watch.final is None and self._crew.control is not None:
            self._crew.control.stop(patience_s=0.0)

    def _send(self, command: Command) -> None:
        with suppress(ChannelClosed):  # the wait that follows notices it
            if self._crew.control_channel is not None:
                self._crew.control_channel.send(ControlCommand(command).pack())

    def _wait(self, condition: Callable[[], bool], signals: StopSignals) -> None:
        """Wait for the control process, for as long as it lives and reports."""
        give_up_ns = time.monotonic_ns() + s_to_ns(HOME_TIMEOUT_S)
        while not condition() and time.monotonic_ns() < give_up_ns:
            if self._crew.control in self._watch.dead or self._watch.control_is_silent:
                return
            self._tell()
            taken = signals.take()
            if EMERGENCY in taken:
                self._emergency = True
                self._line.say("EMERGENCY STOP")
                self._send(Command.EMERGENCY)
            elif taken:
                self._line.say("the arm is being parked and released; it will end by itself in a few seconds")

    def _arm_words(self) -> str:
        final = self._watch.final
        if self._crew.control is None:
            return UNTOUCHED
        if final is not None and final.mode is Mode.IDLE:
            return UNKNOWN if self._rescuing else UNTOUCHED
        if final is None:
            return UNKNOWN if self._rescuing or self._watch.mode in POWERED else UNTOUCHED
        released = final.mode is Mode.RELEASED and final.torque is Torque.OFF
        if final.mode is Mode.PARKED:
            return STAYING
        return PARKED if released else LEFT_HOLDING

    def _ending(self, cut_short: CutShort) -> Ending:
        final, arm_words = self._watch.final, self._arm_words()
        if final is not None and final.fault is Fault.EMERGENCY_STOP:
            return Ending(FAULT_EXIT_CODE, final.message, final.hint)
        if self._emergency:
            hint = "cut the arm's power if it still holds"
            return Ending(FAULT_EXIT_CODE, f"{FAULTS[Fault.EMERGENCY_STOP].message}: {arm_words}", hint)
        if isinstance(cut_short, SefaError) and arm_words == UNTOUCHED:
            return Ending(cut_short.exit_code, str(cut_short), cut_short.hint)
        if isinstance(cut_short, SefaError) and (final is None or str(cut_short) != final.message):
            return Ending(FAULT_EXIT_CODE, f"{cut_short}: {arm_words}", cut_short.hint)
        if final is not None and final.exit_code:  # also a fault on the way home
            return Ending(FAULT_EXIT_CODE, final.message, final.hint)
        if isinstance(cut_short, StopAsked):
            return Ending(128 + cut_short.number, f"stopped by {STOPPING[cut_short.number]}: {arm_words}")
        return Ending(0 if arm_words in (PARKED, STAYING) else FAULT_EXIT_CODE, arm_words)
