"""The mode machine: what the arm is doing and what may follow, as one pure function.

    IDLE ──ARM──> ARMED ──RUN──> RUNNING          every powered mode ──(command or fault)──> HOLD
      │            (moves to start pose)           HOLD ──at rest──> ARMED | RUNNING | PARK | RELEASED | FAULT
      └──STOP──> the end, arm untouched            PARK ──at the park pose──> RELEASED | PARKED ──> the end

    anything ──EMERGENCY──> EMERGENCY ──every servo confirmed──> RELEASED ──> the end

A command does not switch modes immediately: it sets a target, which takes effect once the arm is at rest. Limits
are not faults: clipping only sets bits in the tick report. A fault latches and leads to the outcome
in its row; the first one is the one reported, and only a person (a new process) clears it. The emergency
stop is the exception: it takes effect immediately, moves nothing, and replaces an earlier fault.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from sefa_edge.edge.ipc.faults import ARM_LEFT, FAULTS, OBSTRUCTIONS, ArmLeft, Fault, Outcome
from sefa_edge.edge.ipc.vocabulary import POWERED, Command, Event, Mode, Progress
from sefa_edge.profiles.exit_codes import ExitCode

_OF_OTHER_PROCESSES = frozenset(
    {
        Fault.SUPERVISOR_LOST,
        Fault.SUPERVISOR_SILENT,
        Fault.POLICY_LOST,
        Fault.CAMERA_STALE,
        Fault.CAMERA_FROZEN,
        Fault.CAMERA_DARK,
        Fault.CAMERA_SKEW,
        Fault.ENGINE_FAILED,
        Fault.BAD_CHUNK,
    }
)
"""Faults of supervisor, policy and cameras: ignored while parking at the end, which needs none of them."""


_MORE_PRECISE = frozenset({Fault.OTHER_ARM})
"""Faults found while waiting for a lost arm; they replace the fault that began the wait."""
_EXPLAINED_BY_POWER_LOSS = frozenset({Fault.NONE, Fault.ARM_TIMEOUT, Fault.ARM_DISCONNECTED})
"""Faults that POWER_LOST replaces: it is the reason why the arm did not answer."""


class AfterFault(Enum):
    """What an arm does after a fault, while it can still be moved."""

    BY_TABLE = "as the fault table says: it parks, holds, or waits for the arm"
    HOLD_WHEN_OBSTRUCTED = "as the fault table says, but an obstructed arm holds and does not try to park"
    HOLD = "it stops and holds; a lost arm is not waited for, and nothing more is sent to it"

    def holds(self, fault: Fault) -> bool:
        """Whether a fault whose outcome is PARK leads to HOLD instead."""
        return self is AfterFault.HOLD or (self is AfterFault.HOLD_WHEN_OBSTRUCTED and fault in OBSTRUCTIONS)


class Target(Enum):
    """The mode to enter once the arm is at rest."""

    NONE = auto()  # stay
    ARM = auto()
    RUN = auto()
    PARK = auto()
    RELEASE = auto()
    STOP = auto()  # park, release, end
    AWAIT_ARM = auto()  # wait for the arm to answer again
    LEAVE = auto()  # end with torque on


@dataclass(frozen=True, slots=True)
class ModeState:
    """The whole state of the machine."""

    mode: Mode = Mode.IDLE
    target: Target = Target.NONE
    fault: Fault = Fault.NONE
    parked: bool = False
    """The torque went off at the park pose."""
    unconfirmed: bool = False
    """A servo did not confirm its torque setting: it may or may not hold."""
    limp: bool = False
    """The torque is off because every joint lost its power."""

    @property
    def powered(self) -> bool:
        """Whether this process commands the arm now."""
        return self.mode in POWERED

    @property
    def finished(self) -> bool:
        """Whether the process has nothing left to do."""
        return self.mode in _ENDS or (self.target is Target.STOP and not self.powered)

    @property
    def exit_code(self) -> int:
        return ExitCode.FAULT if self.fault else ExitCode.DONE


_ENDS = frozenset({Mode.FAULT, Mode.PARKED})

_AT_REST = {
    (Mode.ARMED, Target.RUN): (Mode.RUNNING, Target.NONE),
    (Mode.HOLD, Target.ARM): (Mode.ARMED, Target.NONE),
    (Mode.HOLD, Target.RUN): (Mode.RUNNING, Target.NONE),
    (Mode.HOLD, Target.PARK): (Mode.PARK, Target.NONE),
    (Mode.HOLD, Target.RELEASE): (Mode.RELEASED, Target.NONE),
    (Mode.HOLD, Target.STOP): (Mode.PARK, Target.STOP),
    (Mode.HOLD, Target.LEAVE): (Mode.FAULT, Target.NONE),
    (Mode.PARK, Target.STOP): (Mode.RELEASED, Target.STOP),
}
"""What SETTLED leads to; other states stay."""

_HOLD_THEN = {
    Command.ARM: Target.ARM,
    Command.HOLD: Target.NONE,
    Command.PARK: Target.PARK,
    Command.RELEASE: Target.RELEASE,
    Command.STOP: Target.STOP,
}


def transition(state: ModeState, event: Event, after_fault: AfterFault = AfterFault.BY_TABLE) -> ModeState:
    """The next state. Pure and total: an event that does not apply leaves the state as it is."""
    # By identity: enums compare as numbers, and a fault could equal the command.
    if event is Command.EMERGENCY or event is Fault.EMERGENCY_STOP:
        return ModeState(Mode.EMERGENCY, fault=Fault.EMERGENCY_STOP)
    if state.mode in _ENDS:
        return state
    if state.mode is Mode.EMERGENCY:
        return _in_emergency(state, event)
    if isinstance(event, Fault):
        after = _on_fault(state, event, after_fault)
    elif isinstance(event, Command):
        after = _on_command(state, event)
    else:
        after = _on_progress(state, event)
    if after.mode is not state.mode:
        return replace(after, parked=state.mode is Mode.PARK and after.mode is Mode.RELEASED and not after.limp)
    return after


def _in_emergency(state: ModeState, event: Event) -> ModeState:
    """Only two events matter: every servo has confirmed torque off, or the time for it is over."""
    if event is Progress.SETTLED:
        return replace(state, mode=Mode.RELEASED, target=Target.STOP)
    return replace(state, mode=Mode.FAULT, unconfirmed=True) if event is Progress.ARM_GONE else state


def _on_progress(state: ModeState, event: Progress) -> ModeState:
    if event is Progress.LIMP:
        return _limp(state)
    if event is Progress.STAYS:
        return replace(state, mode=Mode.PARKED) if (state.mode, state.target) == (Mode.PARK, Target.STOP) else state
    if event is Progress.SETTLED:
        mode, target = _AT_REST.get((state.mode, state.target), (state.mode, state.target))
        return replace(state, mode=mode, target=target)
    if state.target is not Target.AWAIT_ARM:
        return state
    if event is Progress.ARM_BACK:
        return replace(state, target=Target.STOP)
    return replace(state, mode=Mode.FAULT, target=Target.NONE)


def _limp(state: ModeState) -> ModeState:
    """The end, with nothing sent: a goal would switch the torque on again."""
    if not state.powered:
        return state
    return replace(state, mode=Mode.RELEASED, target=Target.STOP, fault=_with_power_lost(state.fault), limp=True)


def _with_power_lost(before: Fault) -> Fault:
    return Fault.POWER_LOST if before in _EXPLAINED_BY_POWER_LOSS else before


def _on_command(state: ModeState, command: Command) -> ModeState:
    if state.target in (Target.AWAIT_ARM, Target.LEAVE):
        return state
    if (state.fault or state.target is Target.STOP) and command in (Command.ARM, Command.RUN):
        return state  # sent before the sender learnt of the fault, or of the stop
    if not state.powered:
        return _on_command_unpowered(state, command)
    if command is Command.RUN:
        return replace(state, target=Target.RUN) if state.mode in (Mode.ARMED, Mode.HOLD) else state
    if (state.mode, command) == (Mode.PARK, Command.STOP):
        return replace(state, target=Target.STOP)
    if (state.mode, command) in ((Mode.PARK, Command.PARK), (Mode.ARMED, Command.ARM)):
        return replace(state, target=Target.NONE)
    return replace(state, mode=Mode.HOLD, target=_HOLD_THEN[command])


def _on_command_unpowered(state: ModeState, command: Command) -> ModeState:
    if command is Command.ARM:
        return replace(state, mode=Mode.ARMED, target=Target.NONE)
    if command is Command.RELEASE:
        return replace(state, mode=Mode.RELEASED, target=Target.NONE)
    if command is Command.STOP:
        return replace(state, target=Target.STOP)
    return state


def _on_fault(state: ModeState, fault: Fault, after_fault: AfterFault) -> ModeState:
    if fault is Fault.NONE or (fault in _OF_OTHER_PROCESSES and state.target is Target.STOP):
        return state
    explains = fault in _MORE_PRECISE and state.target is Target.AWAIT_ARM
    name = _with_power_lost(state.fault) if fault is Fault.POWER_LOST else state.fault or fault
    latched = replace(state, fault=fault if explains else name)
    outcome = FAULTS[fault].outcome
    if outcome is Outcome.LEAVE:
        return replace(latched, mode=Mode.FAULT, target=Target.NONE, unconfirmed=fault is Fault.TORQUE_REFUSED)
    if not state.powered:
        return replace(latched, target=Target.STOP)
    if outcome is Outcome.HOLD or (outcome is Outcome.PARK and after_fault.holds(fault)):
        return replace(latched, mode=Mode.HOLD, target=Target.LEAVE)
    if outcome is Outcome.AWAIT_ARM:
        if state.target is Target.LEAVE or after_fault is AfterFault.HOLD:  # its servos hold the last goal
            return replace(latched, mode=Mode.FAULT, target=Target.NONE)
        return replace(latched, mode=Mode.HOLD, target=Target.AWAIT_ARM)
    if state.target in (Target.AWAIT_ARM, Target.LEAVE):
        return latched
    if state.mode is Mode.PARK:
        return _on_fault_while_parking(latched, fault)
    return replace(latched, mode=Mode.HOLD, target=Target.STOP)


def _on_fault_while_parking(state: ModeState, fault: Fault) -> ModeState:
    if fault not in OBSTRUCTIONS:
        return replace(state, target=Target.STOP)
    # NONE: a person sent PARK and decides what follows.
    blocked = Target.LEAVE if state.target is Target.STOP else Target.NONE
    return replace(state, mode=Mode.HOLD, target=blocked)


def describe(state: ModeState, subjects: tuple[str, ...] = ()) -> tuple[str, str]:
    """Message and hint for the end of a run; `subjects` are the joints, or the camera, that a fault is about."""
    left = ARM_LEFT[left_of(state)]
    if not state.fault:
        return left, ""
    row = FAULTS[state.fault]
    about = f" ({', '.join(subjects)})" if subjects else ""
    if state.limp and state.fault is Fault.POWER_LOST:
        return f"{ARM_LEFT[ArmLeft.WITHOUT_POWER]}: {left}", row.hint
    if state.limp:
        return f"{row.message}{about}: {left}", row.hint
    if (state.mode, state.fault) == (Mode.FAULT, Fault.EMERGENCY_STOP):
        return f"{row.message}: {left}{about}", f"CUT THE ARM'S POWER NOW; then {row.hint}"
    holding = "; support the arm before you switch its power off" if state.mode in POWERED | _ENDS else ""
    return f"{row.message}{about}: {left}", f"{row.hint}{holding}"


def left_of(state: ModeState) -> ArmLeft:
    """How the arm is left when the run ends in this state."""
    if state.mode is Mode.FAULT and state.unconfirmed:
        return ArmLeft.NOT_RELEASED if state.fault is Fault.EMERGENCY_STOP else ArmLeft.UNCONFIRMED
    if state.limp and state.fault is not Fault.POWER_LOST:
        return ArmLeft.WITHOUT_POWER
    if state.mode is Mode.RELEASED:
        return ArmLeft.PARKED if state.parked else ArmLeft.RELEASED
    return _LEFT[state.mode]


_LEFT = {
    Mode.IDLE: ArmLeft.NOT_TOUCHED,
    Mode.EMERGENCY: ArmLeft.NOT_RELEASED,
    Mode.PARKED: ArmLeft.STAYS_PARKED,
    Mode.FAULT: ArmLeft.HOLDING,
} | dict.fromkeys(POWERED, ArmLeft.HOLDING)
