"""What the arm is doing, what may happen next, and what every fault leads to: one pure function, one table.

    IDLE ──ARM──> ARMED ──RUN──> RUNNING          every powered mode ──(command or fault)──> HOLD
      │            (moves to start pose)           HOLD ──at rest──> ARMED | RUNNING | PARK | RELEASED | FAULT
      └──STOP──> the end, arm untouched            PARK ──at the park pose──> RELEASED ──> the end

A command does not jump; it sets a target, and the target is taken up once the arm has come to rest. Limits
are not faults: clipping sets bits in the tick report and goes on. A fault latches and leads to the outcome
that its row names; the first one keeps its name, and only a person (a new process) clears it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

from sefa_edge.profiles.units import s_to_ns


class Mode(IntEnum):
    """What the arm is doing."""

    IDLE = 0  # connected, torque untouched: an arm that stands stays standing
    ARMED = 1  # torque on; a planned move to the start pose, then waiting there
    RUNNING = 2  # follows action chunks
    HOLD = 3  # decelerates inside the acceleration limit and keeps the pose, torque on
    PARK = 4  # a slow planned move to the park pose, then waiting there
    RELEASED = 5  # torque off, read back
    FAULT = 6  # a fault ended here: nothing more is sent, the torque is left as it is


class Command(IntEnum):
    """What the supervisor may ask for."""

    ARM = 1  # torque on at the present pose, move to the start pose
    RUN = 2  # follow chunks (once the start pose is reached)
    HOLD = 3
    PARK = 4
    RELEASE = 5  # come to rest, then torque off where the arm stands: the arm may drop
    STOP = 6  # hold, park, release, exit


class Progress(IntEnum):
    """What the loop observes about its own movement."""

    SETTLED = 1  # at rest where the present mode leads
    ARM_BACK = 2  # every joint answers again, torque is on at the present pose
    ARM_GONE = 3  # the recovery time is over


class Fault(IntEnum):
    """Codes are part of the record format: never reuse one."""

    NONE = 0
    SUPERVISOR_LOST = 1
    POLICY_LOST = 2
    CHUNK_TIMEOUT = 3
    BAD_CHUNK = 4
    ARM_TIMEOUT = 5
    ARM_DISCONNECTED = 6
    FOLLOWING_ERROR = 7
    SERVO_STATUS = 8
    LOOP_OVERRUN = 9
    TORQUE_REFUSED = 10
    CAMERA_STALE = 11
    CAMERA_FROZEN = 12
    CAMERA_DARK = 13
    CAMERA_SKEW = 14
    ENGINE_FAILED = 15


class Outcome(IntEnum):
    """What a fault leads to. Deadlines: the acceleration limit for hold, the plan for park, RECOVERY_NS."""

    PARK = 1  # hold, park, release, exit; left holding when the way to the park pose is blocked
    AWAIT_ARM = 2  # hold; when the arm is back within RECOVERY_NS as PARK, otherwise as LEAVE
    LEAVE = 3  # send nothing more, leave the torque as it is, exit


RECOVERY_NS = s_to_ns(5)
"""How long a vanished arm is waited for."""

FAULT_EXIT_CODE = 3


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One row of the fault table: where it leads, what a person is told, what a person can do."""

    outcome: Outcome
    message: str
    hint: str


FAULTS = {
    Fault.SUPERVISOR_LOST: FaultRow(
        Outcome.PARK,
        "the supervisor process is gone",
        "it was killed or it crashed; its own output tells why. Start the run again",
    ),
    Fault.POLICY_LOST: FaultRow(
        Outcome.PARK,
        "the policy process is gone",
        "its output above tells why; out of memory is the usual reason",
    ),
    Fault.CHUNK_TIMEOUT: FaultRow(
        Outcome.PARK,
        "the policy sent no usable action chunk in time",
        "does the camera deliver, and is inference fast enough? `sefa-edge profile` measures both",
    ),
    Fault.BAD_CHUNK: FaultRow(
        Outcome.PARK,
        "the policy sent a chunk that is no motion: not finite, or of the wrong shape",
        "the engine and its card do not fit each other, or its weights are broken; export again",
    ),
    Fault.ARM_TIMEOUT: FaultRow(
        Outcome.AWAIT_ARM,
        "servos do not answer",
        "check the arm's power supply and the servo cables, also between the joints",
    ),
    Fault.ARM_DISCONNECTED: FaultRow(
        Outcome.AWAIT_ARM,
        "the arm's port disappeared",
        "check the USB cable and the adapter's power",
    ),
    Fault.FOLLOWING_ERROR: FaultRow(
        Outcome.PARK,
        "the arm does not follow its goal",
        "something is in its way, or a joint is overloaded; clear it and start again",
    ),
    Fault.SERVO_STATUS: FaultRow(
        Outcome.PARK,
        "a servo reports overload, heat, current, encoder or voltage trouble",
        "let it cool down and check the load and the power supply",
    ),
    Fault.LOOP_OVERRUN: FaultRow(
        Outcome.PARK,
        "the control loop lost its rate",
        "`sefa-edge bench-loop` tells whether this machine can keep it; or give another --cpu, or a lower --rate",
    ),
    Fault.TORQUE_REFUSED: FaultRow(
        Outcome.LEAVE,
        "a servo did not confirm its torque setting",
        "check cables and power; support the arm before you switch its power off",
    ),
    Fault.CAMERA_STALE: FaultRow(
        Outcome.PARK,
        "a camera gives no fresh picture",
        "check its cable, or try another USB port; `sefa-edge profile` measures the age of pictures",
    ),
    Fault.CAMERA_FROZEN: FaultRow(
        Outcome.PARK,
        "a camera repeats the same picture",
        "its driver hangs: unplug it and plug it in again",
    ),
    Fault.CAMERA_DARK: FaultRow(
        Outcome.PARK,
        "a camera sees nothing",
        "take its cap off, switch the light on, and check its exposure",
    ),
    Fault.CAMERA_SKEW: FaultRow(
        Outcome.PARK,
        "the pictures of the cameras are too far apart in time",
        "give each camera a USB port of its own, or ask for a lower rate",
    ),
    Fault.ENGINE_FAILED: FaultRow(
        Outcome.PARK,
        "the engine failed while it ran",
        "the GPU or its memory may be in trouble; `sefa-edge inspect` checks the file, `dmesg` the device",
    ),
}
"""THE fault table. Every fault ends with exit code 3."""


class Target(IntEnum):
    """Where a mode goes on to once the arm has come to rest."""

    NONE = 0  # stay
    ARM = 1
    RUN = 2
    PARK = 3
    RELEASE = 4
    STOP = 5  # park, release, end
    AWAIT_ARM = 6  # wait for the arm to answer again
    LEAVE = 7  # end with torque on


@dataclass(frozen=True, slots=True)
class ModeState:
    """The whole state of the machine. `parked` tells whether the torque went off at the park pose."""

    mode: Mode = Mode.IDLE
    target: Target = Target.NONE
    fault: Fault = Fault.NONE
    parked: bool = False

    @property
    def powered(self) -> bool:
        """Whether this process commands the arm now."""
        return self.mode in POWERED

    @property
    def finished(self) -> bool:
        """Whether the process has nothing left to do."""
        return self.mode is Mode.FAULT or (self.target is Target.STOP and not self.powered)

    @property
    def exit_code(self) -> int:
        return FAULT_EXIT_CODE if self.fault else 0


POWERED = frozenset({Mode.ARMED, Mode.RUNNING, Mode.HOLD, Mode.PARK})

Event: TypeAlias = Command | Progress | Fault

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
"""What SETTLED leads to; whatever is not listed stays."""

_HOLD_THEN = {
    Command.ARM: Target.ARM,
    Command.HOLD: Target.NONE,
    Command.PARK: Target.PARK,
    Command.RELEASE: Target.RELEASE,
    Command.STOP: Target.STOP,
}


def transition(state: ModeState, event: Event) -> ModeState:
    """The next state. Pure and total: an event that has no meaning in a state leaves it as it is."""
    if state.mode is Mode.FAULT:
        return state
    if isinstance(event, Fault):
        after = _on_fault(state, event)
    elif isinstance(event, Command):
        after = _on_command(state, event)
    else:
        after = _on_progress(state, event)
    if after.mode is not state.mode:
        return replace(after, parked=state.mode is Mode.PARK and after.mode is Mode.RELEASED)
    return after


def _on_progress(state: ModeState, event: Progress) -> ModeState:
    if event is Progress.SETTLED:
        mode, target = _AT_REST.get((state.mode, state.target), (state.mode, state.target))
        return replace(state, mode=mode, target=target)
    if state.target is not Target.AWAIT_ARM:
        return state
    if event is Progress.ARM_BACK:
        return replace(state, target=Target.STOP)
    return replace(state, mode=Mode.FAULT, target=Target.NONE)


def _on_command(state: ModeState, command: Command) -> ModeState:
    if state.target in (Target.AWAIT_ARM, Target.LEAVE):
        return state
    if state.fault and command in (Command.ARM, Command.RUN):
        return state
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


def _on_fault(state: ModeState, fault: Fault) -> ModeState:
    leaving = fault in (Fault.SUPERVISOR_LOST, Fault.POLICY_LOST) and state.target is Target.STOP
    if fault is Fault.NONE or leaving:  # whoever goes while we stop anyway takes nothing away
        return state
    latched = replace(state, fault=state.fault or fault)
    outcome = FAULTS[fault].outcome
    if outcome is Outcome.LEAVE:
        return replace(latched, mode=Mode.FAULT, target=Target.NONE)
    if not state.powered:
        return replace(latched, target=Target.STOP)
    if outcome is Outcome.AWAIT_ARM:
        return replace(latched, mode=Mode.HOLD, target=Target.AWAIT_ARM)
    if state.target in (Target.AWAIT_ARM, Target.LEAVE):
        return latched
    if state.mode is Mode.PARK:
        return _on_fault_while_parking(latched, fault)
    return replace(latched, mode=Mode.HOLD, target=Target.STOP)


def _on_fault_while_parking(state: ModeState, fault: Fault) -> ModeState:
    if fault is not Fault.FOLLOWING_ERROR:
        return replace(state, target=Target.STOP)
    blocked = Target.LEAVE if state.target is Target.STOP else Target.NONE  # NONE: a person is there to decide
    return replace(state, mode=Mode.HOLD, target=blocked)


def describe(state: ModeState, subjects: tuple[str, ...] = ()) -> tuple[str, str]:
    """Message and hint for the end of a run; `subjects` are the joints, or the camera, that a fault is about."""
    ending = _ENDINGS[state.mode]
    if (state.mode, state.fault) == (Mode.FAULT, Fault.TORQUE_REFUSED):
        ending = "arm left as it is, its torque may be on or off"
    if state.mode is Mode.RELEASED:
        ending = "arm parked and released" if state.parked else "arm released where it stood"
    if not state.fault:
        return ending, ""
    row = FAULTS[state.fault]
    about = f" ({', '.join(subjects)})" if subjects else ""
    left = "; support the arm before you switch its power off" if state.mode in POWERED | {Mode.FAULT} else ""
    return f"{row.message}{about}: {ending}", f"{row.hint}{left}"


_ENDINGS = {
    Mode.IDLE: "arm not touched",
    Mode.RELEASED: "arm released",
    Mode.FAULT: "arm left holding its last goal, torque still on",
} | dict.fromkeys(POWERED, "arm left holding its last goal, torque still on")
