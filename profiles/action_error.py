"""How much the actions of two engines differ: differences of action chunks in joint units and in servo ticks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.percentiles import nearest_rank
from sefa_edge.profiles.quantities import Count, CountOrZero, Positive, Real
from sefa_edge.profiles.schema import JointProfile
from sefa_edge.profiles.strict import StrictModel

WORST_SAMPLES = 8


class NotFiniteError(SefaError):
    """The candidate returned NaN or infinity: it ran and failed, whatever the budget."""

    exit_code = ExitCode.FAILED


Difference = Annotated[float, Real("a difference", 0.0, 1e42)]
"""No two float32 values differ by more, in joint units or in ticks."""


class Spread(StrictModel):
    """Absolute differences: mean, 99th percentile (nearest rank, an actual sample), maximum."""

    mean: Difference
    p99: Difference
    max: Difference


class JointError(StrictModel):
    """One joint, over all samples: all steps together in both units, and step by step in joint units."""

    name: str
    unit: str
    ticks_per_unit: Positive
    joint: Spread
    """In degrees, or in percent for a joint with that unit."""
    ticks: Spread
    steps: list[Spread]


class ActionError(StrictModel):
    """Error statistics of a candidate against a reference, on the same observations and noise."""

    samples: Count
    overall: Spread
    """All joints and steps, each in its own unit."""
    joints: Annotated[list[JointError], Field(min_length=1)]
    steps: list[Spread]
    """Per chunk step, all joints."""
    worst_joint: str
    """The joint with the largest 99th percentile in joint units."""
    worst_samples: list[CountOrZero]
    """Indices of the samples with the largest difference anywhere in their chunk, largest first."""


def action_error(reference: np.ndarray, candidate: np.ndarray, joints: Sequence[JointProfile]) -> ActionError:
    """Compare chunks float32 [N, T, n] in joint units, N and T >= 1.

    Raises:
        NotFiniteError: the candidate has NaN or infinity; names sample, step and joint.
        InputError: shapes that differ, or a reference with NaN or infinity.
    """
    if reference.shape != candidate.shape or reference.ndim != 3 or reference.shape[2] != len(joints):
        raise InputError(
            f"chunks {reference.shape} and {candidate.shape} of {len(joints)} joints cannot be compared",
            "give two engines for the same arm and horizon",
        )
    if reference.size == 0:
        raise InputError("there are no samples to compare", "choose at least one")
    _check_finite(reference, joints, InputError, "the reference")
    _check_finite(candidate, joints, NotFiniteError, "the candidate")
    difference = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    per_joint = [_joint_error(joint, difference[:, :, index]) for index, joint in enumerate(joints)]
    worst_first = np.argsort(-difference.max(axis=(1, 2)), kind="stable")
    return ActionError(
        samples=len(difference),
        overall=_spread(difference),
        joints=per_joint,
        steps=[_spread(difference[:, step]) for step in range(difference.shape[1])],
        worst_joint=max(per_joint, key=lambda error: error.joint.p99).name,
        worst_samples=worst_first[:WORST_SAMPLES].tolist(),
    )


def why_unproven(reference: np.ndarray, budget_p99: float) -> str | None:
    """Why an action error against this reference proves nothing; None if it proves something.

    A comparison must be able to fail. It cannot if an engine that ignores its inputs and always returns the mean of all
    chunks would be within the budget, as with a single sample or a reference that never changes.

    Args:
        reference: chunks float32 [N, T, n] in joint units.
        budget_p99: the largest 99th percentile that passes, in joint units.
    """
    of_constant = _spread(np.abs(reference - reference.mean(axis=0, dtype=np.float64)))
    if of_constant.p99 > budget_p99:
        return None
    return (
        f"an engine that gives the same chunk for all {len(reference)} sample(s) would be within the budget of "
        f"{budget_p99:g}"
    )


def error_table(error: ActionError) -> str:
    """The statistics as two aligned tables: per joint in its unit and in ticks, and p99 per chunk step and joint."""
    rows = [["joint", "unit", "mean", "p99", "max", "ticks: mean", "p99", "max"]]
    rows += [[joint.name, joint.unit, *_numbers(joint.joint), *_numbers(joint.ticks)] for joint in error.joints]
    rows.append(["all", "", *_numbers(error.overall), "", "", ""])
    steps = [["p99 at step", *(joint.name for joint in error.joints), "all"]]
    for index, spread in enumerate(error.steps):
        steps.append([str(index), *(_number(joint.steps[index].p99) for joint in error.joints), _number(spread.p99)])
    ticks = [["in ticks", *(joint.name for joint in error.joints)]]
    for index in range(len(error.steps)):
        ticks.append([str(index), *(_number(j.steps[index].p99 * j.ticks_per_unit) for j in error.joints)])
    return "\n\n".join(_aligned(table) for table in (rows, steps, ticks))


def _check_finite(chunks: np.ndarray, joints: Sequence[JointProfile], error: type[SefaError], whose: str) -> None:
    wrong = np.argwhere(~np.isfinite(chunks))
    if len(wrong):
        sample, step, joint = wrong[0].tolist()
        value = chunks[sample, step, joint]
        raise error(
            f"{whose} returns {value} for {joints[joint].name} at sample {sample}, step {step} "
            f"({len(wrong)} such values in total)",
            "the engine overflows or its weights are damaged: keep more layers in higher precision, or export again",
        )


def _joint_error(joint: JointProfile, difference: np.ndarray) -> JointError:
    scale = joint.ticks_per_unit
    return JointError(
        name=joint.name,
        unit=joint.unit,
        ticks_per_unit=scale,
        joint=_spread(difference),
        ticks=_spread(difference * scale),
        steps=[_spread(difference[:, step]) for step in range(difference.shape[1])],
    )


def _spread(difference: np.ndarray) -> Spread:
    ranked = np.sort(difference, axis=None)
    p99 = float(ranked[nearest_rank(0.99, ranked.size)])
    # Rounding may make the mean of equal values larger than the largest of them.
    return Spread(mean=min(float(ranked.mean()), float(ranked[-1])), p99=p99, max=float(ranked[-1]))


def _numbers(spread: Spread) -> list[str]:
    return [_number(spread.mean), _number(spread.p99), _number(spread.max)]


def _number(value: float) -> str:
    """Four decimals, or an exponent for very small values."""
    return "0" if value == 0 else f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
