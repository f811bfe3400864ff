"""Checks before arming: the torque is switched on only after the readings have been good for a while.

Supply, status bits and temperature are checked. A problem that lasts longer than the guard allows becomes a fault
before anything is written to the arm; one that goes away, and a joint that does not answer, delay arming.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from sefa_edge.edge.control.safety import READING_FAULTS, Guard, GuardState, Situation, judge
from sefa_edge.edge.control.watched_arm import WatchedArm
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import names_of
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.firmware_bridge.host.messages import JointState, TorqueReading
from sefa_edge.firmware_bridge.host.status_text import status_text

JUDGED = (Fault.SUPPLY_VOLTAGE, Fault.SERVO_STATUS, Fault.OVERHEATED)
"""In the order in which they are reported."""


class Arming(Enum):
    """When the command to arm takes effect. The values are written to recordings."""

    AFTER_CHECK = "after_looking"
    IMMEDIATELY = "at_once"
    """For an arm that may already be raised and must not drop, and for a simulated one."""


class ReadingCheck:
    """Checks before arming that all readings have been good for long enough."""

    def __init__(self, guard: Guard) -> None:
        self._required_ns = max(guard.health.supply_ns, guard.health.status_ns)
        self._good_since_ns: int | None = None

    def add(self, guarded: GuardState, answered: np.ndarray, now_ns: int) -> None:
        """Add one reading that the guard has judged; `answered` is bool [n]: the joints that answered."""
        if suspicion(guarded) is not None or not answered.all():
            self._good_since_ns = None
        elif self._good_since_ns is None:
            self._good_since_ns = now_ns

    def passed(self, now_ns: int) -> bool:
        """Whether the readings have been good for long enough."""
        return self._good_since_ns is not None and now_ns - self._good_since_ns >= self._required_ns


def suspicion(guarded: GuardState) -> Fault | None:
    """The first of JUDGED that the newest reading indicates, even if not yet for long enough to be a fault."""
    bad = {fault for fault, row in zip(READING_FAULTS, guarded.bad_readings, strict=True) if row.any()}
    return next((fault for fault in JUDGED if fault in bad), None)


def first_suspicion(guard: Guard, reading: JointState) -> Fault | None:
    """The same for a single reading, before anything has been written to the arm."""
    joints = len(reading.joint_deg)
    guarded = GuardState.fresh(Mode.IDLE, joints)
    return suspicion(judge(guarded, _at_rest(reading, np.ones(joints, bool)), guard, 0)[0])


def _at_rest(reading: JointState, answered: np.ndarray) -> Situation:
    """What the guard judges before anything has been sent to the arm."""
    return Situation(
        mode=Mode.IDLE,
        reading=reading,
        answered=answered,
        commanded_deg=reading.joint_deg,
        fed_ns=0,
        awaits_first_chunk=False,
        heartbeat_ns=None,
        move_end_ns=0,
    )


def details_of(fault: Fault, joints: int, arm: WatchedArm, guard: Guard) -> tuple[str, ...]:
    """What the arm, or the status bits of its servos, report about a fault; empty: only which joints."""
    if fault in (Fault.OUTSIDE_RANGE, Fault.OTHER_ARM):
        return (arm.fault_detail,)
    if fault is not Fault.SERVO_STATUS:
        return ()
    bits = arm.state.status_bits & ~guard.health.forgiven_status_bits
    return tuple(f"{name}: {status_text(int(bits[arm.names.index(name)]))}" for name in names_of(joints, arm.names))


def torque_note(torque: TorqueReading, names: tuple[str, ...]) -> str:
    """Text to append to "arm not touched" if another program has left the torque on, or servos did not answer."""
    note = ""
    if torque.on:
        note += f"; its torque was already on in {'all joints' if torque.on == names else ', '.join(torque.on)}"
    if torque.unknown == names:
        note += "; whether its torque is on is not known"
    elif torque.unknown:
        note += f"; whether the torque of {', '.join(torque.unknown)} is on is not known"
    return note
