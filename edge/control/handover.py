"""How a newer chunk takes over from what the arm is doing: pure functions from chunks to the path that is played.

replace    from the present position and velocity to the new chunk's next step, then along the new chunk
blend      along the new chunk at once; the present distance between it and the arm becomes an offset that fades out
ensemble   as blend, along the mean of all chunks that cover a time (ACT, Zhao et al. 2023,
           section IV-A): the i-th oldest of them has the weight exp(-k i)

In every mode the path begins at the commanded position and velocity: a hand-over has no jump in either.
Steps before now are never played.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sefa_edge.edge.control.handover_settings import HandOver
from sefa_edge.edge.control.shaping import Path, Setpoint, cubic, path_through, resting, sample_paths
from sefa_edge.profiles.units import ms_to_ns

SHORTEST_FADE_NS = ms_to_ns(1)
"""Shorter fades are skipped: no control period is shorter, and velocities would suffer from rounding."""

TINY = float(np.finfo(np.float64).tiny)


def hand_over(chunks: Sequence[Path], here: Setpoint, now_ns: int, settings: HandOver) -> Path:
    """The path from now on, with two or more knots. `chunks`: oldest first, with equal numbers of steps at equal
    intervals; the last one ends after `now_ns`."""
    newest = chunks[-1]
    if settings.mode == "replace":
        return _join_plan(newest, here, now_ns)
    plan = newest if settings.mode == "blend" or len(chunks) == 1 else average(chunks, settings.decay)
    return _fade(plan, here, now_ns, ms_to_ns(settings.fade_ms))


def average(chunks: Sequence[Path], decay: float) -> Path:
    """The mean, with weights exp(-decay i), of the chunks that cover the time of each knot of the newest one.

    All chunks must have the same number of knots and the same period.
    """
    times_ns = chunks[-1].times_ns
    if len(times_ns) == 1:
        return chunks[-1]
    # Relative to the largest weight, so that none overflows and their sum is never zero.
    exponents = -decay * np.arange(len(chunks))
    weights = np.exp(exponents - exponents.max())
    places, covers = sample_paths(chunks, times_ns)
    shares = weights[:, None] * covers
    shares[-1] += TINY  # the newest covers all its knots, however small its weight
    shares /= shares.sum(axis=0)
    return path_through(times_ns, (shares[:, :, None] * places).sum(axis=0))


def _join_plan(plan: Path, here: Setpoint, now_ns: int) -> Path:
    row = int(np.searchsorted(plan.times_ns, now_ns, side="right"))
    return Path(
        np.concatenate([[now_ns], plan.times_ns[row:]]),
        np.concatenate([here.joint_deg[None], plan.joint_deg[row:]]),
        np.concatenate([here.velocity_deg_s[None], plan.velocity_deg_s[row:]]),
    )


def _fade(plan: Path, here: Setpoint, now_ns: int, fade_ns: int) -> Path:
    """The plan plus an offset that fades to zero: both are cubics, so their sum is exact."""
    if fade_ns < SHORTEST_FADE_NS:
        return _join_plan(plan, here, now_ns)
    end_ns = now_ns + fade_ns
    now_row = int(np.searchsorted(plan.times_ns, now_ns, side="right"))
    end_row = int(np.searchsorted(plan.times_ns, end_ns))
    fading, rest = slice(now_row, end_row), slice(end_row, None)
    on_plan = plan.point(now_ns)
    apart = Setpoint(here.joint_deg - on_plan.joint_deg, here.velocity_deg_s - on_plan.velocity_deg_s)
    gone = resting(np.zeros_like(here.joint_deg))
    offset = cubic(apart, gone, (plan.times_ns[fading] - now_ns)[:, None], fade_ns)
    pieces = [
        ([now_ns], [here.joint_deg], [here.velocity_deg_s]),
        (
            plan.times_ns[fading],
            plan.joint_deg[fading] + offset.joint_deg,
            plan.velocity_deg_s[fading] + offset.velocity_deg_s,
        ),
        (plan.times_ns[rest], plan.joint_deg[rest], plan.velocity_deg_s[rest]),
    ]
    if end_row < len(plan.times_ns) and plan.times_ns[end_row] != end_ns:
        end = plan.point(end_ns)
        pieces.insert(2, ([end_ns], [end.joint_deg], [end.velocity_deg_s]))
    return Path(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
