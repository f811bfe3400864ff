"""Owns the right to move: a pure function of (setpoint, commanded, envelope, now); alone makes a JointGoal.

Every command obeys position, velocity and acceleration limits together, in every joint, at every tick. The
three can contradict each other: a joint that rushes at its end stop cannot be stopped there inside its
acceleration limit. So a joint is only ever as fast as it can still brake. Braking by `change` per tick from a
step `s` covers

    s + (s - change) + (s - 2 change) + ...  =  (m + 1) s - change m (m + 1) / 2        m = floor(s / change)

and a step is feasible when that way fits between the joint and its limit. Its inverse is `fastest_step`: the
longest step that can still stop within a given room. It bounds the step at the limits, and it steers: seen
from a frame that moves with the setpoint, the joint takes the longest step that can still stop there. So

- a setpoint that keeps the limits passes unchanged, and its clipped bits stay zero;
- one that does not is approached as fast as the limits allow, and not run past when it stands;
- once feasible, always feasible: whatever the next setpoint is, there is a next step.

Time advances by one period per tick even when ticks were skipped: after a stall the arm goes on and does not
jump.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.modes import Fault
from sefa_edge.edge.shaping import Setpoint
from sefa_edge.firmware_bridge.host.messages import JointGoal
from sefa_edge.profiles.schema import LimitTable
from sefa_edge.profiles.units import NS_PER_S

CLIP_TOLERANCE_DEG = 1e-6
"""A goal that differs less from its setpoint was not clipped, only rounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """A LimitTable for one control period; arrays float64 [n]."""

    min_deg: np.ndarray
    max_deg: np.ndarray
    step_deg: np.ndarray
    """Longest step in one tick: the velocity limit."""
    change_deg: np.ndarray
    """Largest change of the step from one tick to the next: the acceleration limit."""
    period_s: float
    expiry_ns: int

    @classmethod
    def of(cls, limits: LimitTable, period_ns: int) -> Envelope:
        period_s = period_ns / NS_PER_S
        return cls(
            min_deg=limits.min_deg,
            max_deg=limits.max_deg,
            step_deg=limits.max_velocity_deg_s * period_s,
            change_deg=limits.max_acceleration_deg_s2 * period_s**2,
            period_s=period_s,
            expiry_ns=limits.goal_timeout_ns,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Commanded:
    """What the arm was last told: the position [n], and the step [n] that led there."""

    sequence: int
    joint_deg: np.ndarray
    step_deg: np.ndarray

    @classmethod
    def standing(cls, joint_deg: np.ndarray) -> Commanded:
        """An arm at rest at a measured pose, which may lie outside the limits."""
        return cls(0, joint_deg.astype(np.float64), np.zeros(len(joint_deg)))

    def after(self, goal: JointGoal) -> Commanded:
        """The state once `goal` has been sent."""
        return Commanded(goal.sequence, goal.joint_deg, goal.joint_deg - self.joint_deg)

    def stopping_deg(self, envelope: Envelope) -> np.ndarray:
        """Where the joints [n] come to rest when they brake now; it does not move while they do."""
        first_step = np.maximum(np.abs(self.step_deg) - envelope.change_deg, 0.0)
        return self.joint_deg + np.sign(self.step_deg) * stopping_way(first_step, envelope.change_deg)


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """A goal that may be sent, and which joints it was bent for; or a fault and no goal."""

    goal: JointGoal | None
    clipped_bits: int
    fault: Fault | None


def check(setpoint: Setpoint, commanded: Commanded, envelope: Envelope, now_ns: int) -> Verdict:
    """The feasible command nearest to the setpoint. Not a number in, no motion out (Fault.BAD_CHUNK)."""
    here_deg, change_deg = commanded.joint_deg, envelope.change_deg
    wanted_deg = np.clip(setpoint.joint_deg, envelope.min_deg, envelope.max_deg)
    drift_deg = np.clip(setpoint.velocity_deg_s * envelope.period_s, -envelope.step_deg, envelope.step_deg)
    drift_deg = np.where(wanted_deg == setpoint.joint_deg, drift_deg, 0.0)
    way_deg = wanted_deg - drift_deg - here_deg
    step_deg = drift_deg + np.copysign(fastest_step(np.abs(way_deg), change_deg), way_deg)

    room_above, room_below = envelope.max_deg - here_deg, here_deg - envelope.min_deg
    highest = np.minimum(commanded.step_deg + change_deg, envelope.step_deg)
    lowest = np.maximum(commanded.step_deg - change_deg, -envelope.step_deg)
    step_deg = np.maximum(step_deg, np.maximum(lowest, -fastest_step(room_below, change_deg)))
    step_deg = np.minimum(step_deg, np.minimum(highest, fastest_step(room_above, change_deg)))

    # A joint found outside its limits may come back in, never go further out.
    floor_deg, ceiling_deg = np.minimum(envelope.min_deg, here_deg), np.maximum(envelope.max_deg, here_deg)
    goal_deg = np.clip(here_deg + step_deg, floor_deg, ceiling_deg)
    if not (np.isfinite(setpoint.joint_deg).all() and np.isfinite(goal_deg).all()):
        return Verdict(None, 0, Fault.BAD_CHUNK)
    clipped = bits(np.abs(goal_deg - setpoint.joint_deg) > CLIP_TOLERANCE_DEG)
    return Verdict(JointGoal(commanded.sequence + 1, now_ns, now_ns + envelope.expiry_ns, goal_deg), clipped, None)


def stopping_way(step_deg: np.ndarray, change_deg: np.ndarray) -> np.ndarray:
    """Way [n] covered by a step >= 0 and the ever shorter ones that follow it until rest."""
    m = np.floor(step_deg / change_deg)
    return (m + 1) * step_deg - change_deg * m * (m + 1) / 2


def fastest_step(room_deg: np.ndarray, change_deg: np.ndarray) -> np.ndarray:
    """The inverse: the longest step [n] whose stopping way fits the room [n]; zero where there is none."""
    room_deg = np.maximum(room_deg, 0.0)
    m = np.floor((np.sqrt(1 + 8 * room_deg / change_deg) - 1) / 2)
    return (room_deg + change_deg * m * (m + 1) / 2) / (m + 1)


def bits(mask: np.ndarray) -> int:
    """A boolean array [n <= 32] as an integer: bit i is joint i."""
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")
