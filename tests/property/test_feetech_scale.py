"""Ticks to joint units and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.firmware_bridge.host.calibration import JointCalibration, JointScale, joint_scale
from sefa_edge.profiles.schema import JointProfile, load_arm_profile

PROFILE = load_arm_profile("so101_sim")
BODY, GRIPPER = PROFILE.joints[0], PROFILE.joints[-1]

ranges = st.tuples(st.integers(0, 4095), st.integers(0, 4095)).filter(lambda r: r[0] < r[1])


def scale_of(joint: JointProfile, limits: tuple[int, int], drive_mode: int = 0) -> JointScale:
    return joint_scale(joint, JointCalibration(joint.servo_id, drive_mode, 0, *limits))


@given(ranges, st.integers(0, 4095))
def test_body_ticks_survive_degrees(limits: tuple[int, int], ticks: int) -> None:
    scale = scale_of(BODY, limits)
    assert scale.to_ticks(scale.to_joint(ticks)) == ticks


@given(ranges, st.sampled_from([0, 1]), st.data())
def test_gripper_ticks_survive_percent(limits: tuple[int, int], drive_mode: int, data: st.DataObject) -> None:
    scale = scale_of(GRIPPER, limits, drive_mode)
    ticks = data.draw(st.integers(*limits))
    assert -1e-9 <= scale.to_joint(ticks) <= 100 + 1e-9
    assert scale.to_ticks(scale.to_joint(ticks)) == ticks


@given(ranges, st.floats(-1e6, 1e6))
def test_no_goal_leaves_the_encoder_and_no_gripper_goal_its_range(limits: tuple[int, int], joint: float) -> None:
    assert 0 <= scale_of(BODY, limits).to_ticks(joint) <= 4095
    assert limits[0] <= scale_of(GRIPPER, limits).to_ticks(joint) <= limits[1]


@given(st.floats(-179, 179))
def test_degrees_are_rounded_to_the_nearest_tick(degrees: float) -> None:
    scale = scale_of(BODY, (0, 4095))
    assert abs(scale.to_joint(scale.to_ticks(degrees)) - degrees) <= scale.joint_per_tick / 2 + 1e-9


def test_lerobot_numbers() -> None:
    body, gripper = scale_of(BODY, (1000, 3000)), scale_of(GRIPPER, (2000, 3000))
    assert body.to_joint(2000) == 0
    assert body.to_joint(2000 + 1024) == pytest.approx(1024 * 360 / 4095)
    assert gripper.to_joint(2000) == 0
    assert gripper.to_joint(2250) == 25
    assert scale_of(GRIPPER, (2000, 3000), drive_mode=1).to_joint(2250) == 75
