"""The end of every run: hold, park, release, whatever went wrong, and the message that says how it ended."""

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
from sefa_edge.edge.run.direct_release import read_torque_directly, release_directly
from sefa_edge.edge.run.monitor import RunMonitor
from sefa_edge.edge.run.process_group import ProcessGroup
from sefa_edge.edge.run.status import StatusLine
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.profiles.errors import FaultError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode, of_signal
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.stopping import EMERGENCY, STOPPING, StopSignals
from sefa_edge.profiles.units import ms_to_ns, s_to_ns

PARK_TIMEOUT_S = 90.0
AS_PLANNED = (ArmLeft.PARKED, ArmLeft.STAYS_PARKED)
"""How the arm is left by a run that went as planned."""
EMERGENCY_ANSWER_NS = s_to_ns(0.3)
"""A control process that has not answered an emergency stop by then is killed, and this process releases the arm."""
START_PATIENCE_S = 3.0
"""A control process that is stopped before it is ready: it has not touched the arm, and is killed after this."""
RESCUE_START_PATIENCE_S = 10.0
"""How long one that is to park the arm may take until it is ready, in addition to the arm's recovery time."""
RESCUES = 2
"""How many control processes are started, one after the other, to park an arm that may hold."""
KILL_PATIENCE_S = 0.2
"""From SIGKILL to the end of control; the arm does not wait longer for it."""


class StopRequested(Exception):
    """A stop signal was received."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


class ControlEnded(SefaError):
    """The control process ended on its own, and its Final says why."""


class ControlLost(FaultError):
    """The control process ended without a Final, or fell silent."""


EarlyEnd: TypeAlias = "StopRequested | SefaError | None"
"""What ended a run early; None: it went as planned."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: exit code, a message with a hint for a person, and how the arm is left."""

    exit_code: int
    message: str
    hint: str = ""
    left: ArmLeft = ArmLeft.NOT_TOUCHED
    is_early: bool = True
    """Something other than its plan ended the run."""


class SafeStop:
    """Parks and releases the arm. The handler of a stop signal has sent its command to control before this runs."""

    def __init__(
        self,
        group: ProcessGroup,
        monitor: RunMonitor,
        profile: ArmProfile,
        receive: Callable[[], None],
        line: StatusLine,
    ) -> None:
        """`receive` handles what the processes send; it is called once in every iteration of every wait."""
        self._group, self._monitor, self._profile, self._receive, self._line = group, monitor, profile, receive, line
        self._emergency_ns: int | None = None
        """When an emergency stop was noticed."""
        self._unconfirmed: tuple[str, ...] | None = None
        """Joints whose torque is not confirmed to be off after this process itself has switched it off."""
        self._rescuing = False
        """Whether a control process that parks the arm has been started."""

    def perform(self, early_end: EarlyEnd, signals: StopSignals) -> Ending:
        """Hold, park, release; by another control process if the first one is gone. In an emergency release at once.

        What goes to control goes first; a person is notified afterwards.
        """
        if isinstance(early_end, StopRequested) and early_end.number is EMERGENCY:
            self._emergency_ns = time.monotonic_ns()
        elif not isinstance(early_end, ControlLost):
            self._group.command(Command.STOP)
        self._announce(early_end)
        if self._group.control is not None:
            self._end_control(early_end, signals)
        if self._emergency_ns is not None and not self._is_released() and self._has_arm:
            self._release_directly()
        return self._ending(early_end)

    def release_now(self, ending: Ending) -> Ending:
        """Release an arm that was left holding: an emergency stop during the shutdown. Another is released already."""
        if not self._monitor.may_hold or self._unconfirmed is not None:
            return ending
        self._release_directly()
        return self._emergency_ending()

    def _announce(self, early_end: EarlyEnd) -> None:
        if isinstance(early_end, StopRequested):
            what = "stopping" if self._emergency_ns is None else "EMERGENCY STOP"
            self._line.say(f"{STOPPING[early_end.number]}: {what}")
        elif early_end is not None and self._monitor.may_hold:
            self._line.say(f"fault: {early_end}")

    def _end_control(self, early_end: EarlyEnd, signals: StopSignals) -> None:
        if not isinstance(early_end, ControlLost):
            self._wait(signals)
        self._conclude_control()
        if self._emergency_ns is None and self._monitor.final is None and self._monitor.may_hold:
            self._rescue(signals)

    def _conclude_control(self) -> None:
        """Kill a control process that sent no Final, and handle what it had sent before."""
        if self._monitor.final is None and self._group.control is not None:
            self._group.control.kill(KILL_PATIENCE_S)
            self._monitor.receive_last_of_control()

    def _is_released(self) -> bool:
        return self._monitor.final is not None and self._monitor.final.torque is Torque.OFF

    def _rescue(self, signals: StopSignals) -> None:
        ready = self._monitor.ready
        self._rescuing = True
        for _ in range(RESCUES):
            self._group.start_rescue(None if ready is None else ready.identity)
            self._monitor.watch_control()
            self._line.say("the control process is gone; another one parks the arm if it holds")
            self._wait(signals)
            self._conclude_control()
            if self._monitor.final is not None or self._emergency_ns is not None:
                return

    def _release_directly(self) -> None:
        self._unconfirmed = release_directly(self._profile, str(self._group.port), self._report_unconfirmed)
        if not self._unconfirmed:
            self._monitor.may_hold = False

    def _report_unconfirmed(self, joints: tuple[str, ...]) -> None:
        self._line.say(f"EMERGENCY STOP: {', '.join(joints)} DID NOT CONFIRM: CUT THE ARM'S POWER; still trying")

    def _wait(self, signals: StopSignals) -> None:
        """Wait for the Final of the control process, for as long as it runs and answers."""
        start_ns = time.monotonic_ns()
        while self._monitor.final is None and time.monotonic_ns() < start_ns + s_to_ns(PARK_TIMEOUT_S):
            if self._group.control in self._monitor.dead or self._monitor.control_is_silent:
                return
            if self._ignores_emergency():
                return
            if self._monitor.ready is None and time.monotonic_ns() > start_ns + self._start_patience_ns:
                return
            self._receive()
            self._handle_signals(signals)

    def _handle_signals(self, signals: StopSignals) -> None:
        taken = signals.take()
        if EMERGENCY in taken:
            self._emergency_ns = self._emergency_ns or time.monotonic_ns()
            self._line.say("EMERGENCY STOP")
        elif taken:
            self._line.say("the arm is being parked and released; the run ends in a few seconds")

    @property
    def _start_patience_ns(self) -> int:
        """How long control is waited for while it is not ready."""
        rescue_ns = s_to_ns(RESCUE_START_PATIENCE_S) + ms_to_ns(self._profile.safety.recovery_ms)
        return rescue_ns if self._rescuing else s_to_ns(START_PATIENCE_S)

    def _ignores_emergency(self) -> bool:
        """Whether an emergency stop was not answered in time."""
        if self._emergency_ns is None or self._monitor.emergency_acknowledged:
            return False
        return time.monotonic_ns() - self._emergency_ns > EMERGENCY_ANSWER_NS

    def _arm_left(self) -> ArmLeft:
        final = self._monitor.final
        if final is None or self._group.control is None:
            return self._by_torque() if self._monitor.may_hold else ArmLeft.NOT_TOUCHED
        if final.mode is not Mode.IDLE:
            return final.left
        if self._monitor.may_hold:
            return ArmLeft.UNKNOWN
        return ArmLeft.LIMP if self._monitor.was_powered else ArmLeft.NOT_TOUCHED

    @property
    def _has_arm(self) -> bool:
        """Whether there may be an arm: not while a simulated world is only about to begin."""
        return self._group.control is not None or self._group.port.exists()

    def _by_torque(self) -> ArmLeft:
        """How an arm is left that no control process has reported on."""
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
        return read_torque_directly(self._profile, str(self._group.port))

    def _emergency_ending(self) -> Ending:
        mode = Mode.FAULT if self._unconfirmed else Mode.RELEASED
        state = ModeState(mode, fault=Fault.EMERGENCY_STOP, unconfirmed=bool(self._unconfirmed))
        return Ending(ExitCode.FAULT, *describe(state, self._unconfirmed or ()), left_of(state))

    def _ending(self, early_end: EarlyEnd) -> Ending:
        if self._unconfirmed is not None:
            return self._emergency_ending()
        final, left = self._monitor.final, self._arm_left()
        if final is not None and final.fault is Fault.EMERGENCY_STOP:
            return Ending(ExitCode.FAULT, final.message, final.hint, left)
        if self._emergency_ns is not None:
            message = f"{FAULTS[Fault.EMERGENCY_STOP].message}: {ARM_LEFT[left]}"
            return Ending(ExitCode.FAULT, message, "cut the arm's power if it holds", left)
        if isinstance(early_end, ControlLost):
            return self._ending_without_control(early_end, left)
        if isinstance(early_end, SefaError) and left is ArmLeft.NOT_TOUCHED:
            return Ending(early_end.exit_code, f"{early_end}{self._held_before()}", early_end.hint, left)
        if isinstance(early_end, SefaError) and not isinstance(early_end, ControlEnded):
            return Ending(ExitCode.FAULT, f"{early_end}: {ARM_LEFT[left]}", early_end.hint, left)
        if final is not None and final.exit_code:  # also a fault while it was being parked
            return Ending(ExitCode.FAULT, final.message, final.hint, left)
        if isinstance(early_end, StopRequested):
            message = f"stopped by {STOPPING[early_end.number]}: {self._describe(left)}"
            return Ending(of_signal(early_end.number), message, "", left)
        code = ExitCode.DONE if left in AS_PLANNED else ExitCode.FAULT
        return Ending(code, ARM_LEFT[left], "", left, is_early=False)

    def _ending_without_control(self, lost: ControlLost, left: ArmLeft) -> Ending:
        final = self._monitor.final
        if final is not None and final.fault:  # what the other control process met says how the arm is left
            return Ending(ExitCode.FAULT, f"{lost}; then {final.message}", final.hint, left)
        return Ending(ExitCode.FAULT, f"{lost}: {self._describe(left)}", lost.hint, left)

    def _describe(self, left: ArmLeft) -> str:
        """How the arm is left; of one that was not touched also whether an earlier program left its torque on."""
        return ARM_LEFT[left] + (self._torque_note() if left is ArmLeft.NOT_TOUCHED else "")
