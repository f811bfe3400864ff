"""From chunk steps (10 to 30 a second) to one setpoint per control tick: a smooth path through knots.

Between two knots the path is a cubic with a given velocity at both ends (Hermite), so position and velocity are
continuous everywhere. The velocity at a knot is the mean of the slopes on both sides, limited so that the path stays
monotone (Fritsch and Carlson, SIAM J. Numer. Anal. 17, 1980): between two knots no joint leaves their interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sefa_edge.profiles.units import NS_PER_S

MONOTONE_SLOPES = 3.0
"""A cubic stays monotone while the velocity at its ends is at most three times its mean slope."""


@dataclass(frozen=True, slots=True, eq=False)
class Setpoint:
    """Wanted position of the joints and its velocity: float64 [n], degrees and degrees/s."""

    joint_deg: np.ndarray
    velocity_deg_s: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The part of a path between two knots: the cubic with this position and velocity at its ends."""

    from_ns: int
    to_ns: int
    start: Setpoint
    end: Setpoint

    def setpoint(self, now_ns: int) -> Setpoint:
        """The point of the segment at `now_ns`, which must lie between its ends."""
        return cubic(self.start, self.end, now_ns - self.from_ns, self.to_ns - self.from_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A path through knots at increasing times_ns int64 [m]: joint_deg and velocity_deg_s float64 [m, n]."""

    times_ns: np.ndarray
    joint_deg: np.ndarray
    velocity_deg_s: np.ndarray

    def segment(self, row: int) -> Segment:
        """The segment that ends at knot `row` >= 1."""
        start = Setpoint(self.joint_deg[row - 1], self.velocity_deg_s[row - 1])
        end = Setpoint(self.joint_deg[row], self.velocity_deg_s[row])
        return Segment(int(self.times_ns[row - 1]), int(self.times_ns[row]), start, end)

    def point(self, moment_ns: int) -> Setpoint:
        """Position and velocity [n] at one time. Outside its knots the path is a straight line."""
        if moment_ns <= self.times_ns[0] or moment_ns >= self.times_ns[-1]:
            end = 0 if moment_ns <= self.times_ns[0] else -1
            outside_s, velocity_deg_s = (moment_ns - int(self.times_ns[end])) / NS_PER_S, self.velocity_deg_s[end]
            return Setpoint(self.joint_deg[end] + outside_s * velocity_deg_s, velocity_deg_s)
        return self.segment(int(np.searchsorted(self.times_ns, moment_ns))).setpoint(moment_ns)


def path_through(times_ns: np.ndarray, joint_deg: np.ndarray) -> Path:
    """The smooth path through joint_deg float64 [m, n] at evenly spaced times int64 [m]."""
    if len(times_ns) == 1:
        return Path(times_ns, joint_deg, np.zeros_like(joint_deg))
    slopes = (joint_deg[1:] - joint_deg[:-1]) * (NS_PER_S / int(times_ns[1] - times_ns[0]))
    before, after = slopes[:-1], slopes[1:]
    steepness = np.abs(slopes)
    bound = MONOTONE_SLOPES * np.minimum(steepness[:-1], steepness[1:])
    inner = np.maximum(np.minimum((before + after) / 2, bound), -bound)
    return Path(times_ns, joint_deg, np.concatenate((slopes[:1], inner * (before * after > 0), slopes[-1:])))


def sample_paths(paths: Sequence[Path], times_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions [i, k, n] on all paths at the same times int64 [k], and whether path i covers time k, boolean [i, k].

    The paths have evenly spaced knots, two or more, with the same number and period in each. A position that is not
    covered is finite and has no meaning.
    """
    first = paths[0].times_ns
    step_ns, last_row = int(first[1] - first[0]), len(first) - 2
    since_ns = times_ns - np.array([path.times_ns[0] for path in paths])[:, None]
    covers = (since_ns >= 0) & (since_ns <= (last_row + 1) * step_ns)
    row = np.maximum(np.minimum(since_ns // step_ns, last_row), 0)
    which = np.arange(len(paths))[:, None]
    joint_deg = np.array([path.joint_deg for path in paths])
    velocity_deg_s = np.array([path.velocity_deg_s for path in paths])
    start = Setpoint(joint_deg[which, row], velocity_deg_s[which, row])
    row_after = row + 1
    end = Setpoint(joint_deg[which, row_after], velocity_deg_s[which, row_after])
    share, duration_s = (since_ns - row * step_ns)[:, :, None] / step_ns, step_ns / NS_PER_S
    first, bend, twist = _coefficients(start, end, duration_s)
    return start.joint_deg + share * (first + share * (bend + share * twist)), covers


def resting(joint_deg: np.ndarray) -> Setpoint:
    """A setpoint that does not move."""
    return Setpoint(joint_deg, np.zeros(len(joint_deg)))


def cubic(start: Setpoint, end: Setpoint, since_ns: int | np.ndarray, duration_ns: int | np.ndarray) -> Setpoint:
    """Cubic Hermite segments, one or many: the points `since_ns` after the start of each, which lasts `duration_ns`."""
    share, duration_s = since_ns / duration_ns, duration_ns / NS_PER_S
    first, bend, twist = _coefficients(start, end, duration_s)
    joint_deg = start.joint_deg + share * (first + share * (bend + share * twist))
    velocity = (first + share * (2 * bend + share * (3 * twist))) / duration_s
    return Setpoint(joint_deg, velocity)


def _coefficients(start: Setpoint, end: Setpoint, duration_s: float | np.ndarray) -> tuple[np.ndarray, ...]:
    """Coefficients of share, its square and its cube."""
    travel = end.joint_deg - start.joint_deg
    first, last = start.velocity_deg_s * duration_s, end.velocity_deg_s * duration_s
    rest = travel - first
    twist = last - rest - travel
    return first, rest - twist, twist
