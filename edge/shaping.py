"""From chunk steps (10 to 30 a second) to one setpoint per control tick: straight lines between steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sefa_edge.profiles.units import NS_PER_S


@dataclass(frozen=True, slots=True, eq=False)
class Setpoint:
    """Where the joints should be now, and how fast that place moves: float64 [n], degrees and degrees/s."""

    joint_deg: np.ndarray
    velocity_deg_s: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A straight piece of plan between two knots [n] in time."""

    from_ns: int
    to_ns: int
    from_deg: np.ndarray
    to_deg: np.ndarray


def interpolate(segment: Segment, now_ns: int) -> Setpoint:
    """The point of the segment at `now_ns`, which lies between its ends."""
    duration_ns = segment.to_ns - segment.from_ns
    way_deg = segment.to_deg - segment.from_deg
    position = segment.from_deg + way_deg * ((now_ns - segment.from_ns) / duration_ns)
    return Setpoint(position, way_deg * (NS_PER_S / duration_ns))


def resting(joint_deg: np.ndarray) -> Setpoint:
    """A setpoint that does not move."""
    return Setpoint(joint_deg, np.zeros(len(joint_deg)))
