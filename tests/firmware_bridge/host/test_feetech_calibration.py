"""Reading LeRobot's calibration files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.calibration import (
    Calibration,
    JointCalibration,
    load_calibration,
    nominal_calibration,
)
from sefa_edge.firmware_bridge.host.feetech.identity import (
    ServoIdentity,
    calibration_of,
    mismatches,
    require_same_calibration,
)
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError

PROFILE = load_arm_profile("so101")


def lerobot_file() -> dict[str, dict[str, int]]:
    """As `lerobot-calibrate` writes it, with the keys deliberately not in the profile's order."""
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


def test_the_nominal_calibration_is_that_of_the_profile() -> None:
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


def test_missing_and_unknown_joints_are_named(tmp_path: Path) -> None:
    content = lerobot_file()
    content["main_gripper"] = content.pop("gripper")
    with pytest.raises(InputError, match="gripper"):
        load_calibration(write(tmp_path, content), PROFILE)
    with pytest.raises(InputError, match="does not exist"):
        load_calibration(tmp_path / "absent.json", PROFILE)
    with pytest.raises(InputError, match=r"my_arm\.json"):
        load_calibration(write(tmp_path, [1, 2]), PROFILE)


NOMINAL = nominal_calibration(PROFILE)


def changed(calibration: Calibration, joint: int, **numbers: int) -> Calibration:
    joints = list(calibration.joints)
    joints[joint] = replace(joints[joint], **numbers)
    return Calibration(tuple(joints))


def in_servos(calibration: Calibration) -> tuple[ServoIdentity, ...]:
    template = dict.fromkeys(ServoIdentity.__dataclass_fields__, 0)
    return tuple(ServoIdentity(**{**template, "calibration": entry}) for entry in calibration.joints)  # type: ignore[arg-type]


def test_a_mismatch_names_joint_register_both_values_and_two_remedies() -> None:
    with pytest.raises(InputError) as caught:
        require_same_calibration(PROFILE, changed(NOMINAL, 1, range_max_ticks=3000), in_servos(NOMINAL))
    assert str(caught.value) == (
        "the calibration says max_position_limit 3000 for shoulder_lift, its servo says 3185 (register 11)"
    )
    assert "without --calibration" in caught.value.hint
    assert "sefa-edge calibrate --arm so101 --port PORT --restore FILE --write-eeprom" in caught.value.hint


def test_several_mismatches_are_counted_and_many_look_like_another_arm() -> None:
    two = changed(NOMINAL, 1, homing_offset=5, range_min_ticks=7)
    with pytest.raises(InputError, match=r"homing_offset 5 .*\(register 31\); 1 more number differs$"):
        require_same_calibration(PROFILE, two, in_servos(NOMINAL))
    other = changed(changed(two, 2, homing_offset=9), 4, homing_offset=3)
    with pytest.raises(InputError, match="3 more numbers differ: is it another arm's file\\?"):
        require_same_calibration(PROFILE, other, in_servos(NOMINAL))
    assert [(m.joint, m.register.address) for m in mismatches(PROFILE, other, NOMINAL)] == [
        ("shoulder_lift", 31), ("shoulder_lift", 9), ("elbow_flex", 31), ("wrist_roll", 31)
    ]  # fmt: skip


def test_message_and_hint_fit_into_the_last_message_of_the_control_process() -> None:
    other = changed(changed(changed(NOMINAL, 1, homing_offset=-2047), 2, homing_offset=9), 4, homing_offset=3)
    with pytest.raises(InputError) as caught:
        require_same_calibration(PROFILE.model_copy(update={"name": "so101_percent"}), other, in_servos(NOMINAL))
    assert max(len(str(caught.value)), len(caught.value.hint)) <= 240


def test_the_direction_is_not_stored_in_a_register() -> None:
    mirrored = changed(NOMINAL, 5, drive_mode=1)
    assert mirrored.same_registers(NOMINAL)
    assert mirrored != NOMINAL
    require_same_calibration(PROFILE, mirrored, in_servos(NOMINAL))


def test_factory_limits_count_as_a_calibration_only_for_the_wrist_roll() -> None:
    assert calibration_of(PROFILE, in_servos(NOMINAL)) == NOMINAL
    with pytest.raises(InputError, match=r"servo 1 \(shoulder_pan\) is not calibrated: .* 0\.\.4095") as caught:
        calibration_of(PROFILE, in_servos(changed(NOMINAL, 0, range_min_ticks=0, range_max_ticks=4095)))
    assert "sefa-edge calibrate --arm so101 --port PORT" in caught.value.hint
