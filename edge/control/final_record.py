"""The last report of the control process: how the run ended and how the arm is left."""

from __future__ import annotations

from dataclasses import dataclass

from sefa_edge.edge.control.arming import torque_note
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.modes import describe, left_of
from sefa_edge.edge.ipc.faults import ArmLeft, Fault
from sefa_edge.edge.ipc.policy_records import Trouble
from sefa_edge.edge.ipc.records import Final, Torque
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.schema import ArmProfile


@dataclass(frozen=True, slots=True)
class EndContext:
    """What the final message needs besides the state of the loop."""

    trouble: Trouble | None = None
    """The last one that the policy reported."""
    waited_for: str = ""
    """What the policy was doing when its chunk was overdue."""
    skipped_ticks: int = 0


def final_record(loop: ControlLoop, profile: ArmProfile, context: EndContext) -> Final:
    """How a finished loop ended: record, message and hint."""
    state, joints = loop.state, loop.motion.fault_joints
    message, hint = describe(state, _subjects(loop, context))
    if state.mode is Mode.IDLE:
        message += torque_note(loop.arm.read_torque(), profile.joint_names)
    return Final(
        mode=state.mode,
        fault=state.fault,
        fault_joints=joints,
        torque=loop.arm.torque,
        left=left_of(state),
        exit_code=state.exit_code,
        ticks=loop.ticks,
        skipped_ticks=context.skipped_ticks,
        message=message,
        hint=hint,
    )


def _subjects(loop: ControlLoop, context: EndContext) -> tuple[str, ...]:
    """What the latched fault is about."""
    fault, trouble, waited_for = loop.state.fault, context.trouble, context.waited_for
    if fault is Fault.LOOP_OVERRUN:
        return (f"{loop.motion.patience_ticks} ticks in a row",)
    if trouble is not None and trouble.fault is fault:
        return (trouble.about,)
    if fault is Fault.CHUNK_TIMEOUT and waited_for:
        return (waited_for,)
    return loop.motion.subjects


NOTHING_HOLDS = Final(
    Mode.IDLE, Fault.NONE, 0, Torque.OFF, ArmLeft.NOT_TOUCHED, 0, 0, 0, "no servo holds: the arm was not touched", ""
)
"""The end of a rescue that finds nothing to do."""


def not_started(error: SefaError) -> Final:
    """The loop never ran, and the arm was not touched."""
    return _without_loop(error, str(error), ArmLeft.NOT_TOUCHED)


def rescue_not_started(error: SefaError) -> Final:
    """The loop never ran, and an earlier process may have left the arm holding."""
    return _without_loop(error, f"{error}: the arm may still hold", ArmLeft.UNKNOWN)


def _without_loop(error: SefaError, message: str, left: ArmLeft) -> Final:
    return Final(Mode.IDLE, Fault.NONE, 0, Torque.UNTOUCHED, left, error.exit_code, 0, 0, message, error.hint)
