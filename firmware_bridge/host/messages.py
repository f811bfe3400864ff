"""The nouns that cross between the runtime and an arm. All times are nanoseconds of CLOCK_MONOTONIC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class JointState:
    """One reading of the arm; arrays have one entry per joint, in the arm profile's order.

    `valid_mask[i]` tells whether joint i answered this time; when it did not, its entries are those of its last
    answer, `age_ns[i]` old. Positions are degrees (gripper 0..100).
    """

    sequence: int
    stamp_ns: int
    joint_deg: np.ndarray
    velocity_deg_s: np.ndarray
    load_pct: np.ndarray
    current_ma: np.ndarray
    temperature_c: np.ndarray
    supply_mv: int
    status_bits: np.ndarray
    valid_mask: np.ndarray
    age_ns: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class JointGoal:
    """A position command that has passed the limiter; only `edge.safety` makes one for a moving arm."""

    sequence: int
    due_ns: int
    expires_ns: int
    joint_deg: np.ndarray
    left_out: int = 0
    """Bit i: joint i gets no goal with this command. A goal would switch the torque of a limp servo on."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldCommand:
    """What each joint's own registers say of its command; arrays [n] in the arm profile's order.

    Asked after a silence, to tell a lost connection from a lost supply. Entries count where `valid_mask` is set.
    """

    valid_mask: np.ndarray
    """Whether the joint answered."""
    torque_on: np.ndarray
    powered_throughout: np.ndarray
    """False: its volatile registers are not those of the last goal, so that it started anew since then."""
    goal_deg: np.ndarray
    """The goal that it holds, float64."""


@dataclass(frozen=True, slots=True)
class TorqueReading:
    """Names of joints, by what their servos say of their torque; a joint that is in neither has its torque off."""

    on: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    """Joints whose servos did not answer."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was done to an arm before it is armed: one line each for a person, empty when there is nothing to tell."""

    written: str = ""
    left: str = ""
    """What is not as the profile says, and was not written."""


NOT_PREPARED = Preparation()
