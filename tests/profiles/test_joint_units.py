"""Degrees, or LeRobot's -100..100: profiles in either unit, and values that reveal their unit."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sefa_edge.profiles.arms import load_arm_profile, shipped_arms
from sefa_edge.profiles.card import JointSpec, load_card
from sefa_edge.profiles.card_check import CardError, World, check_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.joint_units import unit_doubtful, unit_impossible
from sefa_edge.profiles.schema import ArmProfile

DEGREES, PERCENT = load_arm_profile("so101"), load_arm_profile("so101_percent")


@pytest.mark.parametrize("name", shipped_arms())
def test_every_arm_also_has_a_profile_in_lerobots_percent(name: str) -> None:
    arm = load_arm_profile(f"{name}_percent")
    assert [joint.unit for joint in arm.joints] == [*["range_percent"] * 5, "percent"]
    assert ArmProfile.model_validate(arm.model_dump()) == arm
    assert arm.limit_table().hash != load_arm_profile(name).limit_table().hash


def test_limits_are_those_of_the_arm_in_degrees() -> None:
    lift, gripper = PERCENT.joints[1], PERCENT.joints[5]
    assert (lift.range_max_ticks - lift.range_min_ticks) / 2 * 360 / 4095 == pytest.approx(100.0)
    assert lift.max_velocity_deg_s == pytest.approx(DEGREES.joints[1].max_velocity_deg_s)
    assert (lift.min_deg, lift.max_deg) == (pytest.approx(-100), pytest.approx(100))
    assert gripper == DEGREES.joints[5]
    roll, roll_deg = PERCENT.joints[4], DEGREES.joints[4]
    assert roll.min_deg == pytest.approx(roll_deg.min_deg / 1.8)
    assert PERCENT.park_pose_deg == pytest.approx([0, -90, 90 / 0.9684, 60 / 0.95, 0, 0], abs=0.1)


def test_settings_for_all_joints_use_the_strictest_joint() -> None:
    assert PERCENT.tracking_error_deg == pytest.approx(DEGREES.tracking_error_deg / 1.8)
    assert PERCENT.move_velocity_deg_s == pytest.approx(DEGREES.move_velocity_deg_s / 1.8)
    assert PERCENT.safety.park_velocity_deg_s == pytest.approx(DEGREES.safety.park_velocity_deg_s / 1.8)


def test_a_joint_in_percent_stays_inside_its_bounds(tmp_path: Path) -> None:
    content = PERCENT.model_dump()
    content["joints"][0]["max_deg"] = 110.0
    path = tmp_path / "arm.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"joints\.0: .*110.0 is not inside -100\.\.100, the range of a joint"):
        load_arm_profile(str(path))


def test_unknown_names_are_reported_with_their_suffix() -> None:
    with pytest.raises(InputError, match="no arm is called 'so102_percent'"):
        load_arm_profile("so102_percent")
    with pytest.raises(InputError, match="no arm is called 'so101_percent_percent'"):
        load_arm_profile("so101_percent_percent")


def test_values_beyond_100_are_not_percent() -> None:
    assert "not in LeRobot's -100..100" in unit_impossible("range_percent", -100.0, 104.2)
    assert "not in LeRobot's -100..100" in unit_impossible("range_percent", -180.0, 20.0)
    assert unit_impossible("range_percent", -100.00001, 100.00001) == ""
    assert unit_impossible("degrees", -180.0, 180.0) == ""
    assert unit_impossible("percent", -4.5, 101.4) == "", "a simulated gripper that squeezes"
    assert unit_impossible("degrees", -360.0, 360.0) == "", "a whole turn in either direction"
    assert "raw encoder readings" in unit_impossible("degrees", 1000.0, 3000.0)
    assert "raw encoder readings" in unit_impossible("percent", 0.0, 2048.0)
    with pytest.raises(ValueError, match="to which it clips"):
        JointSpec(name="a", unit="range_percent", zero="range_middle", trained_min_deg=-140, trained_max_deg=100)


def test_degrees_that_look_clipped_at_100_are_questioned() -> None:
    joint = DEGREES.joints[0]
    assert "looks like LeRobot's -100..100" in unit_doubtful(joint, -100.0, 73.0)
    assert unit_doubtful(joint, -99.0, 98.0) == ""
    assert unit_doubtful(joint, -100.0, 104.0) == ""
    assert unit_doubtful(PERCENT.joints[0], -100.0, 100.0) == ""


def test_an_engine_in_the_other_unit_is_refused(reach_engine: Path) -> None:
    with pytest.raises(CardError, match="the engine uses degrees, arm 'so101_percent' range_percent") as caught:
        check_card(load_card(reach_engine), World(PERCENT, 100.0))
    assert "so101_percent" in caught.value.hint
