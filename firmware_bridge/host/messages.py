"""The messages between the runtime and an arm. All times are nanoseconds of CLOCK_MONOTONIC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from sefa_edge.profiles.wire_types import BOOL, F64, I64, U8, U32, Text


@dataclass(frozen=True, slots=True, eq=False)
class JointState:
    """One reading of the arm; arrays have one entry per joint, in the arm profile's order.

    Where `valid_mask[i]` is false, joint i did not answer this time and its entries are those of its last answer,
    `age_ns[i]` old. Positions are degrees (gripper 0..100).
    """

    sequence: Annotated[int, I64]
    """Number of the reading."""
    stamp_ns: Annotated[int, I64]
    """When it was read."""
    joint_deg: Annotated[np.ndarray, F64["n"]]
    velocity_deg_s: Annotated[np.ndarray, F64["n"]]
    load_pct: Annotated[np.ndarray, F64["n"]]
    current_ma: Annotated[np.ndarray, F64["n"]]
    temperature_c: Annotated[np.ndarray, F64["n"]]
    supply_mv: Annotated[int, I64]
    status_bits: Annotated[np.ndarray, U8["n"]]
    """Error bits of each servo."""
    valid_mask: Annotated[np.ndarray, BOOL["n"]]
    """Whether the joint answered this time."""
    age_ns: Annotated[np.ndarray, I64["n"]]
    """Age of the joint's last answer."""


@dataclass(frozen=True, slots=True, eq=False)
class JointGoal:
    """A position command that has passed the limiter; only `edge.control.safety` makes one for a moving arm."""

    sequence: Annotated[int, I64]
    """Number of the goal."""
    due_ns: Annotated[int, I64]
    """When it should be reached."""
    expires_ns: Annotated[int, I64]
    """After this it must not be sent."""
    joint_deg: Annotated[np.ndarray, F64["n"]]
    left_out: Annotated[int, U32] = 0
    """Bit i: joint i gets no goal. A goal would switch the torque of a limp servo on."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldCommand:
    """The command in each joint's own registers; arrays [n] in the arm profile's order.

    Read after missing answers, to distinguish a lost connection from a lost supply. Entries are meaningful where
    `valid_mask` is set.
    """

    valid_mask: Annotated[np.ndarray, BOOL["n"]]
    """Whether the joint answered."""
    torque_on: Annotated[np.ndarray, BOOL["n"]]
    powered_throughout: Annotated[np.ndarray, BOOL["n"]]
    """False: its volatile registers are not those of the last goal, so it has restarted since then."""
    goal_deg: Annotated[np.ndarray, F64["n"]]
    """The goal in its registers."""


@dataclass(frozen=True, slots=True)
class TorqueReading:
    """Names of joints by the torque that their servos report; a joint in neither list has its torque off."""

    on: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    """Joints whose servos did not answer."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was written to an arm before it is armed: one line each for a person, empty if there is nothing to say."""

    written: Annotated[str, Text(240)] = ""
    left: Annotated[str, Text(240)] = ""
    """Settings that differ from the profile and were not written."""


NOT_PREPARED = Preparation()
