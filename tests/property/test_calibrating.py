"""Calibration from joints moved by hand: any path, any old offset, any gap in the readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.firmware_bridge.host.calibration import MAX_HOMING_OFFSET, JointCalibration
from sefa_edge.firmware_bridge.service.calibrating import (
    EDGE_TICKS,
    JUMP_TICKS,
    MIDDLE_TICKS,
    Sweep,
    begin,
    findings,
    homing_offset_of,
    observe,
    result,
)
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError

PROFILE = load_arm_profile("so101")
ARM = PROFILE.model_copy(update={"joints": PROFILE.joints[:1]})
"""One joint, about 2503 ticks from end to end."""

encoders = st.integers(0, 4095)
hand_steps = st.lists(st.integers(-JUMP_TICKS, JUMP_TICKS), max_size=60)


def swept(middle: int, steps: list[int | None]) -> tuple[Sweep, list[int]]:
    """A sweep of one joint, and its true positions relative to the middle, not wrapped. None: a missing reading."""
    sweep, at, path = begin([middle]), 0, [0]
    for step in steps:
        at += step or 0
        sweep = observe(sweep, [None if step is None else (middle + at) % 4096])
        path.append(at)
    return sweep, path


@given(encoders)
def test_the_middle_pose_reads_2047_and_the_offset_fits_its_register(encoder: int) -> None:
    offset = homing_offset_of(encoder)
    assert abs(offset) <= MAX_HOMING_OFFSET
    assert encoder - offset == (MIDDLE_TICKS if encoder < 4095 else MIDDLE_TICKS + 1)


@given(encoders, hand_steps)
def test_the_range_covers_the_whole_path_or_is_refused(middle: int, steps: list[int | None]) -> None:
    sweep, path = swept(middle, steps)
    reads = begin([middle])[0].position_ticks
    low, high = reads + min(path), reads + max(path)
    if low >= EDGE_TICKS and high <= 4095 - EDGE_TICKS:
        assert (sweep[0].lowest_ticks, sweep[0].highest_ticks) == (low, high)
        assert not sweep[0].jumped
    else:
        (finding,) = findings(ARM, sweep)
        assert finding.restart


@given(encoders, st.integers(-2047, 2047), st.lists(st.one_of(st.none(), st.integers(-500, 500)), max_size=40))
def test_missing_readings_and_the_old_offset_do_not_affect_the_result(
    middle: int, old_offset: int, steps: list[int | None]
) -> None:
    sweep, _ = swept(middle, steps)
    present = [(middle - old_offset) % 4096]
    assert begin([(present[0] + old_offset) % 4096]) == begin([middle])
    assert sweep[0].homing_offset == homing_offset_of(middle)


def test_a_long_movement_during_a_gap_is_not_trusted() -> None:
    sweep = observe(observe(begin([2000]), [None]), [2000 + JUMP_TICKS + 1])
    assert sweep[0].jumped
    assert observe(sweep, [2000])[0].jumped, "moving back does not clear it"


def test_a_joint_that_was_hardly_moved_reports_both_distances() -> None:
    sweep, _ = swept(1000, [-300, 500])
    (finding,) = findings(ARM, sweep)
    assert (finding.problem, finding.restart) == ("was moved over 500 of about 2503 ticks", False)
    with pytest.raises(InputError, match="shoulder_pan was moved over 500 of about 2503 ticks") as caught:
        result(ARM, sweep)
    assert caught.value.exit_code == 1


def test_the_result_equals_lerobots() -> None:
    middle = [1000, 3000, 2047, 4095, 500, 2000]
    sweep = begin(middle)
    for share in (-0.5, 0.0, 0.5):
        sweep = observe(sweep, [(m + round(share * 1600)) % 4096 for m in middle])
    calibration = result(PROFILE, sweep)
    assert calibration.joints[0] == JointCalibration(1, 0, 1000 - 2047, 1247, 2847)
    assert calibration.joints[3] == JointCalibration(4, 0, 2047, 1248, 2848), "offset 2048 does not fit"
    assert calibration.joints[4] == JointCalibration(5, 0, 500 - 2047, 0, 4095), "the wrist roll has no ends"


def test_a_freely_turning_joint_may_go_round() -> None:
    sweep = begin([2047, 2047, 2047, 2047, 10, 2047])
    sweep = observe(sweep, [1100, 1100, 1100, 1100, 4000, 1400])
    sweep = observe(sweep, [2000, 2000, 2000, 2000, 10, 2000])
    sweep = observe(sweep, [3000, 3000, 3000, 3000, 10, 2600])
    assert findings(PROFILE, sweep) == ()
