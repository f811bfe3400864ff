"""Error statistics in action units: golden values, invariants, and that NaN is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sefa_edge.profiles.action_error import (
    ActionError,
    NotFiniteError,
    Spread,
    action_error,
    error_table,
)
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError

JOINTS = load_arm_profile("so101").joints
PAN, GRIPPER = JOINTS[0], JOINTS[-1]

chunks = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6).flatmap(
    lambda shape: st.tuples(*[arrays(np.float32, (*shape, 2), elements=st.floats(-300, 300, width=32))] * 2)
)


def spreads(error: ActionError) -> list[Spread]:
    of_joints = [spread for joint in error.joints for spread in (joint.joint, joint.ticks, *joint.steps)]
    return [error.overall, *error.steps, *of_joints]


@given(chunks)
def test_statistics_agree_with_the_differences(pair: tuple[np.ndarray, np.ndarray]) -> None:
    reference, candidate = pair
    error = action_error(reference, candidate, [PAN, GRIPPER])
    difference = np.abs(candidate.astype(float) - reference.astype(float))
    assert error.overall.max == difference.max() == max(joint.joint.max for joint in error.joints)
    assert error.overall.max == max(step.max for step in error.steps)
    assert error.overall.mean == pytest.approx(difference.mean())
    assert error.overall.p99 in difference
    assert (difference <= error.overall.p99).mean() >= 0.99 - 1e-9
    assert (difference < error.overall.p99).mean() < 0.99
    assert all(0 <= spread.mean <= spread.max and spread.p99 <= spread.max for spread in spreads(error))
    assert difference[error.worst_samples[0]].max() == error.overall.max
    assert len(set(error.worst_samples)) == min(len(reference), 8)
    for joint, profile in zip(error.joints, (PAN, GRIPPER), strict=True):
        assert joint.ticks.max == pytest.approx(joint.joint.max * profile.ticks_per_unit)
    assert ActionError.model_validate_json(error.model_dump_json()) == error


@given(chunks)
def test_the_error_is_symmetric(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert action_error(pair[0], pair[1], [PAN, GRIPPER]) == action_error(pair[1], pair[0], [PAN, GRIPPER])


@given(chunks, st.data())
def test_values_that_are_not_finite_are_refused(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    reference, candidate = pair
    at = tuple(data.draw(st.integers(0, side - 1)) for side in candidate.shape)
    candidate[at] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    name = (PAN, GRIPPER)[at[2]].name
    with pytest.raises(NotFiniteError, match=f"for {name} at sample {at[0]}, step {at[1]}") as caught:
        action_error(reference, candidate, [PAN, GRIPPER])
    assert caught.value.exit_code == 1
    with pytest.raises(InputError, match="the reference returns"):
        action_error(candidate, reference, [PAN, GRIPPER])


def test_golden_values() -> None:
    reference = np.zeros((100, 2, 2), np.float32)
    candidate = reference.copy()
    candidate[:, 0, 0] = np.arange(100) / 8  # exact in binary: p99 of 100 values is the 99th, 98 / 8
    candidate[:, 1, 1] = -1
    error = action_error(reference, candidate, [PAN, GRIPPER])
    pan, gripper = error.joints
    assert pan.steps == [Spread(mean=49.5 / 8, p99=98 / 8, max=99 / 8), Spread(mean=0, p99=0, max=0)]
    assert pan.joint == Spread(mean=49.5 / 16, p99=97 / 8, max=99 / 8)  # rank 198 of 200, half of them 0
    assert gripper.joint == Spread(mean=0.5, p99=1, max=1)
    assert (error.samples, error.worst_joint, error.worst_samples[:3]) == (100, PAN.name, [99, 98, 97])
    assert pan.ticks.max == pytest.approx(99 / 8 * 4095 / 360)
    assert gripper.ticks.max == pytest.approx((3186 - 1934) / 100)


def test_an_engine_has_no_error_against_itself() -> None:
    chunk = np.random.default_rng(0).normal(0, 50, (30, 16, 6)).astype(np.float32)
    error = action_error(chunk, chunk.copy(), JOINTS)
    assert all(spread == Spread(mean=0, p99=0, max=0) for spread in spreads(error))
    assert error.worst_samples == list(range(8))


def test_the_difference_does_not_overflow_float32() -> None:
    reference = np.full((1, 1, 1), 3e38, np.float32)
    error = action_error(reference, -reference, [PAN])
    assert np.isfinite(error.overall.max)
    assert error.overall.max == pytest.approx(6e38)


@pytest.mark.parametrize(
    ("shape", "other"),
    [((4, 16, 6), (4, 8, 6)), ((4, 16, 5), (4, 16, 5)), ((16, 6), (16, 6)), ((0, 16, 6), (0, 16, 6))],
)
def test_shapes_that_cannot_be_compared_are_refused(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="compare"):
        action_error(np.zeros(shape, np.float32), np.zeros(other, np.float32), JOINTS)


def test_the_table_is_aligned_and_complete() -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(0, 30, (50, 16, 6)).astype(np.float32)
    error = action_error(reference, reference + rng.normal(0, 0.01, reference.shape).astype(np.float32), JOINTS)
    tables = [block.splitlines() for block in error_table(error).split("\n\n")]
    assert [len(table) for table in tables] == [8, 17, 17]
    assert all(joint.name in tables[0][index + 1] for index, joint in enumerate(JOINTS))
    for table in tables[1:]:
        assert len({len(line) for line in table}) == 1
        assert [line.split()[0] for line in table[1:]] == [str(step) for step in range(16)]
    elbow = tables[0][3].split()
    assert float(elbow[3]) == pytest.approx(error.joints[2].joint.p99, abs=1e-4)
    assert json.loads(error.model_dump_json())["joints"][2]["joint"]["p99"] == error.joints[2].joint.p99
