"""Reading LeRobot's calibration files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.calibration import (
    JointCalibration,
    load_calibration,
    nominal_calibration,
)
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import load_arm_profile

PROFILE = load_arm_profile("so101")


def lerobot_file() -> dict[str, dict[str, int]]:
    """As `lerobot-calibrate` writes it; keys in another order than the profile's on purpose."""
    return {
        joint.name: {
            "id": joint.servo_id,
            "drive_mode": 0,
            "homing_offset": -100 * joint.servo_id,
            "range_min": 700 + joint.servo_id,
            "range_max": 3200 + joint.servo_id,
        }
        for joint in reversed(PROFILE.joints)
    }


def write(folder: Path, content: object) -> Path:
    path = folder / "my_arm.json"
    path.write_text(json.dumps(content))
    return path


def test_a_lerobot_file_is_read_in_the_order_of_the_profile(tmp_path: Path) -> None:
    calibration = load_calibration(write(tmp_path, lerobot_file()), PROFILE)
    assert [joint.servo_id for joint in calibration.joints] == [1, 2, 3, 4, 5, 6]
    assert calibration.joints[2] == JointCalibration(3, 0, -300, 703, 3203)


def test_nominal_is_what_the_profile_says() -> None:
    first = nominal_calibration(PROFILE).joints[0]
    assert first.homing_offset == 0
    assert first.range_min_ticks == PROFILE.joints[0].range_min_ticks


@pytest.mark.parametrize(
    ("joint", "key", "value", "message"),
    [
        ("gripper", "id", 5, "gripper is servo 5, but servo 6"),
        ("gripper", "homing_offset", 2048, "gripper.homing_offset"),
        ("gripper", "range_max", 4096, "gripper.range_max"),
        ("gripper", "range_min", 3999, "range_min 3999 must be below"),
        ("gripper", "drive_mode", 2, "gripper.drive_mode"),
        ("gripper", "range_min", 1.5, "gripper.range_min"),
        ("gripper", "range_min", "700", "gripper.range_min"),
        ("gripper", "rangemin", 1, "gripper.rangemin"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, joint: str, key: str, value: object, message: str) -> None:
    content: dict[str, dict[str, object]] = {name: dict(entry) for name, entry in lerobot_file().items()}
    content[joint][key] = value
    with pytest.raises(InputError, match=message):
        load_calibration(write(tmp_path, content), PROFILE)


def test_missing_and_foreign_joints_are_named(tmp_path: Path) -> None:
    content = lerobot_file()
    content["main_gripper"] = content.pop("gripper")
    with pytest.raises(InputError, match="gripper"):
        load_calibration(write(tmp_path, content), PROFILE)
    with pytest.raises(InputError, match="does not exist"):
        load_calibration(tmp_path / "absent.json", PROFILE)
    with pytest.raises(InputError, match=r"my_arm\.json"):
        load_calibration(write(tmp_path, [1, 2]), PROFILE)
