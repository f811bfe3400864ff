"""The end of every run: hold, park, release, whatever went wrong, and then the words for it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sefa_edge.edge.control.arming import torque_note
from sefa_edge.edge.control.modes import ModeState, describe, left_of
from sefa_edge.edge.ipc.faults import ARM_LEFT, FAULTS, ArmLeft, Fault
from sefa_edge.edge.ipc.records import Torque
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.edge.run.crew import Crew
from sefa_edge.edge.run.direct_release import read_torque_directly, release_directly
from sefa_edge.edge.run.status import StatusLine
from sefa_edge.edge.run.watch import Watch
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.profiles.errors import FaultError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode, of_signal
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.stopping import EMERGENCY, STOPPING, StopSignals
from sefa_edge.profiles.units import ms_to_ns, s_to_ns

HOME_TIMEOUT_S = 90.0
AS_PLANNED = (ArmLeft.PARKED, ArmLeft.STAYS_PARKED)
"""How the arm is left by a run that went as planned."""
EMERGENCY_ANSWER_NS = s_to_ns(0.3)
"""A control process that has not answered an emergency stop by then is killed, and this process releases the arm."""
STARTING_S = 3.0
"""A control process that is told to stop before it is ready: it has not touched the arm, and is killed after this."""
RESCUE_STARTING_S = 10.0
"""How long one that is to park the arm may take until it is ready, beside the recovery time of the arm."""
RESCUES = 2
"""So many control processes are started, one after the other, to park an arm that may hold."""
KILL_PATIENCE_S = 0.2
"""From SIGKILL to the end of control; the arm does not wait longer for it."""


class StopAsked(Exception):
    """A person asked for the end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


class ControlEnded(SefaError):
    """The control process ended by itself, and its Final said why."""


class ControlLost(FaultError):
    """The control process ended without a word, or fell silent."""


CutShort: TypeAlias = "StopAsked | SefaError | None"
"""What ended a run before its time, if anything did."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: exit code, a message with a hint for a person, and how the arm is left."""

    exit_code: int
    message: str
    hint: str = ""
    left: ArmLeft = ArmLeft.NOT_TOUCHED
    cut_short: bool = True
    """Something other than its plan ended the run."""


class Homecoming:
    """Brings the arm home. The handler of a stop signal has told control already, before anything here runs."""

    def __init__(
        self, crew: Crew, watch: Watch, profile: ArmProfile, tell: Callable[[], None], line: StatusLine
    ) -> None:
        """`tell` updates the status line; it is called in every turn of every wait."""
        self._crew, self._watch, self._profile, self._tell, self._line = crew, watch, profile, tell, line
        self._emergency_ns: int | None = None
        """When an emergency stop was noticed."""
        self._refusing: tuple[str, ...] | None = None
        """Joints that did not confirm that they let go when this process itself switched the torque off."""

    def bring(self, cut_short: CutShort, signals: StopSignals) -> Ending:
        """Hold, park, release; by a fresh control process if the first one is gone. In an emergency release at once.

        What goes to control goes first; a person is told afterwards.
        """
        if isinstance(cut_short, StopAsked) and cut_short.number is EMERGENCY:
            self._emergency_ns = time.monotonic_ns()
        elif not isinstance(cut_short, ControlLost):
            self._crew.command(Command.STOP)
        self._announce(cut_short)
        if self._crew.control is not None:
            self._end_control(cut_short, signals)
        if self._emergency_ns is not None and not self._is_released() and self._has_arm:
            self._release_directly()
        return self._ending(cut_short)

    def release_now(self, ending: Ending) -> Ending:
        """The emergency stop of an arm that was left holding, when everything else is over; another one needs none."""
        if not self._watch.may_hold or self._refusing is not None:
            return ending
        self._release_directly()
        return self._emergency_ending()

    def _announce(self, cut_short: CutShort) -> None:
        if isinstance(cut_short, StopAsked):
            what = "stopping" if self._emergency_ns is None else "EMERGENCY STOP"
            self._line.say(f"{STOPPING[cut_short.number]}: {what}")
        elif cut_short is not None and self._watch.may_hold:
            self._line.say(f"fault: {cut_short}")

    def _end_control(self, cut_short: CutShort, signals: StopSignals) -> None:
        if not isinstance(cut_short, ControlLost):
            self._wait(signals)
        self._bury_control()
        if self._emergency_ns is None and self._watch.final is None and self._watch.may_hold:
            self._rescue(signals)

    def _bury_control(self) -> None:
        """A control process that did not tell how it ended does nothing more; take in what it said before."""
        if self._watch.final is None and self._crew.control is not None:
            self._crew.control.kill(KILL_PATIENCE_S)
            self._watch.hear_control_out()

    def _is_released(self) -> bool:
        return self._watch.final is not None and self._watch.final.torque is Torque.OFF

    def _rescue(self, signals: StopSignals) -> None:
        ready = self._watch.ready
        self._rescuing = True
        for _ in range(RESCUES):
            self._crew.start_rescue(None if ready is None else ready.identity)
            self._watch.watch_control()
            self._line.say("the control process is gone; another one parks the arm if it holds")
            self._wait(signals)
            self._bury_control()
            if self._watch.final is not None or self._emergency_ns is not None:
                return

    def _release_directly(self) -> None:
        self._refusing = release_directly(self._profile, str(self._crew.port), self._shout)
        if not self._refusing:
            self._watch.may_hold = False

    def _shout(self, refusing: tuple[str, ...]) -> None:
        self._line.say(f"EMERGENCY STOP: {', '.join(refusing)} DID NOT CONFIRM: CUT THE ARM'S POWER; still trying")

    def _wait(self, signals: StopSignals) -> None:
        """Wait for the Final of the control process, for as long as it lives and answers."""
        begun_ns = time.monotonic_ns()
        while self._watch.final is None and time.monotonic_ns() < begun_ns + s_to_ns(HOME_TIMEOUT_S):
            if self._crew.control in self._watch.dead or self._watch.control_is_silent or self._is_deaf():
                return
            if self._watch.ready is None and time.monotonic_ns() > begun_ns + self._starting_ns:
                return
            self._tell()
            self._answer_signals(signals)

    def _answer_signals(self, signals: StopSignals) -> None:
        taken = signals.take()
        if EMERGENCY in taken:
            self._emergency_ns = self._emergency_ns or time.monotonic_ns()
            self._line.say("EMERGENCY STOP")
        elif taken:
            self._line.say("the arm is being parked and released; it will end by itself in a few seconds")

    @property
    def _starting_ns(self) -> int:
        """How long control is waited for while it is not ready."""
        rescue_ns = s_to_ns(RESCUE_STARTING_S) + ms_to_ns(self._profile.safety.recovery_ms)
        return rescue_ns if self._rescuing else s_to_ns(STARTING_S)

    def _is_deaf(self) -> bool:
        """Whether an emergency stop was not answered in time."""
        if self._emergency_ns is None or self._watch.emergency_heard:
            return False
        return time.monotonic_ns() - self._emergency_ns > EMERGENCY_ANSWER_NS

    def _arm_left(self) -> ArmLeft:
        final = self._watch.final
        if final is None or self._crew.control is None:
            return self._by_torque() if self._watch.may_hold else ArmLeft.NOT_TOUCHED
        if final.mode is not Mode.IDLE:
            return final.left
        if self._watch.may_hold:
            return ArmLeft.UNKNOWN
        return ArmLeft.LIMP if self._watch.was_powered else ArmLeft.NOT_TOUCHED

    @property
    def _has_arm(self) -> bool:
        """Whether there may be an arm: not while a simulated world is only about to begin."""
        return self._crew.control is not None or self._crew.port.exists()

    def _by_torque(self) -> ArmLeft:
        """How an arm is left that no control process has told about."""
        torque = self._torque()
        if torque.on:
            return ArmLeft.HOLDING
        return ArmLeft.UNKNOWN if torque.unknown else ArmLeft.LIMP

    def _torque_note(self) -> str:
        """What to add to "arm not touched": an earlier program may have left the torque on."""
        return torque_note(self._torque(), self._profile.joint_names)

    def _held_before(self) -> str:
        """What to add to an error that says nothing about the arm: that its torque is on."""
        torque = self._torque()
        return f": {ARM_LEFT[ArmLeft.NOT_TOUCHED]}{torque_note(torque, self._profile.joint_names)}" if torque.on else ""

    def _torque(self) -> TorqueReading:
        if not self._has_arm:
            return TorqueReading(())
        return read_torque_directly(self._profile, str(self._crew.port))

    def _emergency_ending(self) -> Ending:
        mode = Mode.FAULT if self._refusing else Mode.RELEASED
        state = ModeState(mode, fault=Fault.EMERGENCY_STOP, unconfirmed=bool(self._refusing))
        return Ending(ExitCode.FAULT, *describe(state, self._refusing or ()), left_of(state))

    def _ending(self, cut_short: CutShort) -> Ending:
        if self._refusing is not None:
            return self._emergency_ending()
        final, left = self._watch.final, self._arm_left()
        if final is not None and final.fault is Fault.EMERGENCY_STOP:
            return Ending(ExitCode.FAULT, final.message, final.hint, left)
        if self._emergency_ns is not None:
            message = f"{FAULTS[Fault.EMERGENCY_STOP].message}: {ARM_LEFT[left]}"
            return Ending(ExitCode.FAULT, message, "cut the arm's power if it holds", left)
        if isinstance(cut_short, ControlLost):
            return self._ending_without_control(cut_short, left)
        if isinstance(cut_short, SefaError) and left is ArmLeft.NOT_TOUCHED:
            return Ending(cut_short.exit_code, f"{cut_short}{self._held_before()}", cut_short.hint, left)
        if isinstance(cut_short, SefaError) and not isinstance(cut_short, ControlEnded):
            return Ending(ExitCode.FAULT, f"{cut_short}: {ARM_LEFT[left]}", cut_short.hint, left)
        if final is not None and final.exit_code:  # also a fault on the way home
            return Ending(ExitCode.FAULT, final.message, final.hint, left)
        if isinstance(cut_short, StopAsked):
            message = f"stopped by {STOPPING[cut_short.number]}: {self._words(left)}"
            return Ending(of_signal(cut_short.number), message, "", left)
        code = ExitCode.DONE if left in AS_PLANNED else ExitCode.FAULT
        return Ending(code, ARM_LEFT[left], "", left, cut_short=False)

    def _ending_without_control(self, lost: ControlLost, left: ArmLeft) -> Ending:
        final = self._watch.final
        if final is not None and final.fault:  # what the other control process met tells how the arm is left
            return Ending(ExitCode.FAULT, f"{lost}; then {final.message}", final.hint, left)
        return Ending(ExitCode.FAULT, f"{lost}: {self._words(left)}", lost.hint, left)

    def _words(self, left: ArmLeft) -> str:
        """How the arm is left; of one that was not touched also whether an earlier program left its torque on."""
        return ARM_LEFT[left] + (self._torque_note() if left is ArmLeft.NOT_TOUCHED else "")
