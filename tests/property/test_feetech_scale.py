"""Ticks to joint units and back, compared with LeRobot's formulae and with values that its code computed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sefa_edge.firmware_bridge.host.calibration import JointCalibration, JointScale, joint_scale
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.schema import JointProfile

PROFILE = load_arm_profile("so101_sim")
BODY, GRIPPER = PROFILE.joints[0], PROFILE.joints[-1]
PERCENT_BODY = load_arm_profile("so101_sim_percent").joints[0]
MODES = {"degrees": BODY, "range_m100_100": PERCENT_BODY, "range_0_100": GRIPPER}
GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "lerobot_0_4_4_ticks.json").read_text())
NEAR = 1e-9

ranges = st.tuples(st.integers(0, 4095), st.integers(0, 4095)).filter(lambda r: r[0] < r[1])


def scale_of(joint: JointProfile, limits: tuple[int, int], drive_mode: int = 0) -> JointScale:
    return joint_scale(joint, JointCalibration(joint.servo_id, drive_mode, 0, *limits))


@given(ranges, st.integers(0, 4095))
def test_body_ticks_come_back_from_degrees(limits: tuple[int, int], ticks: int) -> None:
    scale = scale_of(BODY, limits)
    assert scale.to_ticks(scale.to_joint(ticks)) == ticks


@given(ranges, st.sampled_from([0, 1]), st.data())
def test_gripper_ticks_come_back_from_percent(limits: tuple[int, int], drive_mode: int, data: st.DataObject) -> None:
    scale = scale_of(GRIPPER, limits, drive_mode)
    ticks = data.draw(st.integers(*limits))
    assert -1e-9 <= scale.to_joint(ticks) <= 100 + 1e-9
    assert scale.to_ticks(scale.to_joint(ticks)) == ticks


@given(ranges, st.floats(-1e6, 1e6))
def test_goals_stay_within_the_encoder_and_gripper_goals_within_their_range(
    limits: tuple[int, int], joint: float
) -> None:
    assert 0 <= scale_of(BODY, limits).to_ticks(joint) <= 4095
    assert limits[0] <= scale_of(GRIPPER, limits).to_ticks(joint) <= limits[1]


@given(st.floats(-179, 179))
def test_degrees_are_rounded_to_the_nearest_tick(degrees: float) -> None:
    scale = scale_of(BODY, (0, 4095))
    assert abs(scale.to_joint(scale.to_ticks(degrees)) - degrees) <= scale.joint_per_tick / 2 + 1e-9


def test_values_calculated_by_hand() -> None:
    body, gripper = scale_of(BODY, (1000, 3000)), scale_of(GRIPPER, (2000, 3000))
    assert body.to_joint(2000) == 0
    assert body.to_joint(2000 + 1024) == pytest.approx(1024 * 360 / 4095)
    assert gripper.to_joint(2000) == 0
    assert gripper.to_joint(2250) == 25
    assert scale_of(GRIPPER, (2000, 3000), drive_mode=1).to_joint(2250) == 75


def lerobot_joint(mode: str, limits: tuple[int, int], drive_mode: int, ticks: int) -> float:
    """Joint value of a reading, as LeRobot documents it (0.4.4, `SerialMotorsBus`)."""
    low, high = limits
    if mode == "degrees":
        return (ticks - (low + high) / 2) * 360 / 4095
    share = (min(high, max(low, ticks)) - low) / (high - low)
    value = share * 200 - 100 if mode == "range_m100_100" else share * 100
    mirrored = -value if mode == "range_m100_100" else 100 - value
    return mirrored if drive_mode else value


def lerobot_ticks(mode: str, limits: tuple[int, int], drive_mode: int, joint: float) -> int:
    """Goal for a joint value, truncated as in LeRobot; in degrees it may exceed the encoder's range."""
    low, high = limits
    if mode == "degrees":
        return int(joint * 4095 / 360 + (low + high) / 2)
    if mode == "range_m100_100":
        joint = -joint if drive_mode else joint
        return int((min(100.0, max(-100.0, joint)) + 100) / 200 * (high - low) + low)
    joint = 100 - joint if drive_mode else joint
    return int(min(100.0, max(0.0, joint)) / 100 * (high - low) + low)


modes = st.sampled_from(sorted(MODES))
drive_modes = st.sampled_from([0, 1])


@settings(max_examples=25)
@given(ranges, modes, drive_modes)
def test_every_tick_reads_as_in_lerobot(limits: tuple[int, int], mode: str, drive_mode: int) -> None:
    scale = scale_of(MODES[mode], limits, drive_mode)
    errors = [abs(scale.to_joint(t) - lerobot_joint(mode, limits, drive_mode, t)) for t in range(4096)]
    assert max(errors) < NEAR


@settings(max_examples=25)
@given(ranges, modes, drive_modes)
def test_every_tick_inside_the_range_comes_back(limits: tuple[int, int], mode: str, drive_mode: int) -> None:
    scale = scale_of(MODES[mode], limits, drive_mode)
    assert [scale.to_ticks(scale.to_joint(t)) for t in range(limits[0], limits[1] + 1)] == list(
        range(limits[0], limits[1] + 1)
    )


@given(ranges, modes, drive_modes, st.floats(-200, 200))
def test_goals_are_within_one_tick_of_lerobots(
    limits: tuple[int, int], mode: str, drive_mode: int, joint: float
) -> None:
    theirs = lerobot_ticks(mode, limits, drive_mode, joint)
    ours = scale_of(MODES[mode], limits, drive_mode).to_ticks(joint)
    assert abs(ours - min(max(theirs, 0), 4095)) <= 1


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=lambda case: f"{case['joint']}-{case['mode']}-{case['drive_mode']}"
)
def test_values_that_lerobot_computed(case: dict[str, object]) -> None:
    limits, drive_mode = (int(case["range_min"]), int(case["range_max"])), int(case["drive_mode"])  # type: ignore[call-overload]
    scale = scale_of(MODES[str(case["mode"])], limits, drive_mode)
    for ticks, value in zip(case["ticks"], case["values"], strict=True):  # type: ignore[call-overload]
        assert scale.to_joint(ticks) == pytest.approx(value, abs=NEAR)
        assert lerobot_joint(str(case["mode"]), limits, drive_mode, ticks) == pytest.approx(value, abs=NEAR)
    for goal, ticks in zip(case["goals"], case["goal_ticks"], strict=True):  # type: ignore[call-overload]
        assert abs(scale.to_ticks(goal) - min(max(ticks, 0), 4095)) <= 1
        assert lerobot_ticks(str(case["mode"]), limits, drive_mode, goal) == ticks
