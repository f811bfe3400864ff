"""Modes, commands and observations of the loop, as the processes of a run exchange them."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from sefa_edge.edge.ipc.faults import Fault


class Mode(IntEnum):
    """What the arm is doing."""

    IDLE = 0  # connected, torque left as it was: an arm that holds keeps holding
    ARMED = 1  # torque on; a planned move to the start pose, then waiting there
    RUNNING = 2  # follows action chunks
    HOLD = 3  # decelerates inside the acceleration limit and keeps the pose, torque on
    PARK = 4  # a slow planned move to the park pose, then waiting there
    RELEASED = 5  # torque off, read back
    FAULT = 6  # the end after a fault: nothing more is sent, the torque is left as it is
    EMERGENCY = 7  # torque off wherever the arm is, repeated in every tick until every servo confirms it
    PARKED = 8  # the end at the park pose with torque on, as the profile says


class Command(IntEnum):
    """Commands of the supervisor."""

    ARM = 1  # torque on at the present pose, move to the start pose
    RUN = 2  # follow chunks (once the start pose is reached)
    HOLD = 3
    PARK = 4
    RELEASE = 5  # come to rest, then torque off in place: the arm may drop
    STOP = 6  # hold, park, release, exit
    EMERGENCY = 7  # torque off at once, wherever the arm is: it drops


class Progress(IntEnum):
    """What the loop observes about its own movement."""

    SETTLED = 1  # at rest where the present mode ends
    ARM_BACK = 2  # every joint answers again and still holds its goal
    ARM_GONE = 3  # the recovery time is over, or servos do not confirm torque off
    STAYS = 4  # at rest at a park pose where the profile keeps the torque on
    LIMP = 5  # every joint has lost its power, and has no torque


POWERED = frozenset({Mode.ARMED, Mode.RUNNING, Mode.HOLD, Mode.PARK})
"""Modes in which the process commands the arm."""

Event: TypeAlias = Command | Progress | Fault
