"""Calibration files that users really have: which are used, which are refused, and the hint of each refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.calibration import load_calibration, read_calibration
from sefa_edge.firmware_bridge.host.calibration_files import find_calibration
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError

PROFILE = load_arm_profile("so101")
NAMES = PROFILE.joint_names
SHARED = Path(__file__).parents[4] / "shared"
Content = dict[str, dict[str, object]]


def entries(prefix: str = "", id_step: int = 0) -> Content:
    """The file that LeRobot would write for the nominal arm."""
    return {
        prefix + joint.name: {
            "id": joint.servo_id + id_step,
            "drive_mode": 0,
            "homing_offset": -120,
            "range_min": joint.range_min_ticks,
            "range_max": joint.range_max_ticks,
        }
        for joint in PROFILE.joints
    }


def wheels(*names: str) -> Content:
    return {
        name: {"id": 7 + index, "drive_mode": 0, "homing_offset": 0, "range_min": 0, "range_max": 4095}
        for index, name in enumerate(names)
    }


def changed(joint: str, **fields: object) -> Content:
    content = entries()
    content[joint] |= fields
    return content


def old_format(**more: object) -> dict[str, object]:
    """A file in LeRobot's format before June 2025."""
    return {
        "homing_offset": [-2021, 3061, -1049, -2004, 2012, -2450],
        "drive_mode": [0, 1, 0, 0, 1, 0],
        "start_pos": [2050] * 6,
        "end_pos": [3040] * 6,
        "calib_mode": ["DEGREE"] * 5 + ["LINEAR"],
        "motor_names": list(NAMES),
        **more,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    def write_json(content: object) -> Path:
        path = tmp_path / "arm.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write_json


Write = Callable[[object], Path]


def test_the_arm_of_a_robot_with_wheels_is_used_and_the_wheels_are_reported(write: Write) -> None:
    found = read_calibration(write(entries("arm_") | wheels("base_left_wheel", "base_right_wheel")), PROFILE)
    assert [joint.servo_id for joint in found.calibration.joints] == [1, 2, 3, 4, 5, 6]
    assert [joint.homing_offset for joint in found.calibration.joints] == [-120] * 6
    (note,) = found.notes
    assert "arm_* is used as the arm, base_left_wheel, base_right_wheel ignored" in note
    (note,) = read_calibration(write(entries() | wheels("lift")), PROFILE).notes
    assert note.endswith("are used, lift ignored")
    assert read_calibration(write(entries()), PROFILE).notes == ()


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "arm.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(entries(), indent=4).replace("\n", "\r\n").encode())
    assert load_calibration(path, PROFILE).joints[0].homing_offset == -120


def test_the_order_in_the_file_does_not_matter(write: Write) -> None:
    backwards = dict(reversed(list(entries().items())))
    assert load_calibration(write(backwards), PROFILE) == load_calibration(write(entries()), PROFILE)


REFUSED: dict[str, tuple[object, str, str]] = {
    "before June 2025": (old_format(), "in LeRobot's format before June 2025", "cannot be converted: its zero"),
    "before June 2025, a leader": (
        old_format(kind="leader", range_min=[0] * 6),
        "calibration of a leader",
        "sefa-edge calibr",
    ),
    "before June 2025, two arms": (
        {"left": old_format(), "right": old_format()},
        "before June 2025",
        "cannot be converted",
    ),
    "before June 2025, in a list": ([old_format()], "before June 2025", "cannot be converted"),
    "before June 2025, by joint": (
        {name: {"homing_offset": 1, "start_pos": 1, "end_pos": 2, "calib_mode": "DEGREE"} for name in NAMES},
        "before June 2025",
        "cannot be converted",
    ),
    "before June 2025, as objects": (
        {"homing_offset": dict.fromkeys(NAMES, 1), "start_pos": {}, "end_pos": {}},
        "before June 2025",
        "cannot be converted",
    ),
    "two arms, each wrapped": (
        {"left": entries(), "right": entries()},
        "inside 'left' and 'right'",
        "save the object inside 'left'",
    ),
    "capitals": ({name.upper(): entry for name, entry in entries().items()}, "it has SHOULDER_PAN", "meant to be 'sh"),
    "true alone": ("true", "holds true, expected an object", "make one"),
    "wrapped": ({"joints": entries()}, "the joints are inside 'joints'", "save the object inside 'joints'"),
    "wrapped twice": ({"v": 1, "a": {"b": entries()}}, "the joints are inside 'a.b'", "a file of its own"),
    "two arms": (
        entries("left_") | entries("right_"),
        r"holds 2 arms: left_\*, right_\*",
        "the entries of one of them",
    ),
    "second arm on one bus": (
        entries(id_step=6),
        r"the servo ids 7\.\.12, .* so101 has 1\.\.6",
        "set its servo_id to 7",
    ),
    "a joint is missing": ({k: v for k, v in entries().items() if k != "gripper"}, "has no gripper", "--arm names"),
    "a joint is misspelt": (
        {("griper" if name == "gripper" else name): entry for name, entry in entries().items()},
        "has no gripper; it has griper instead",
        "is 'griper' meant to be 'gripper'",
    ),
    "other names": ({f"motor_{n}": e for n, e in enumerate(entries().values())}, "has motor_0, motor_1", "kind of arm"),
    "same id twice": (
        changed("gripper", id=5),
        "gripper is servo 5, but servo 6 .*2 joints have this id",
        "another arm",
    ),
    "ids in another order": (
        {name: entry | {"id": 7 - int(str(entry["id"]))} for name, entry in entries().items()},
        "shoulder_pan is servo 6, but servo 1",
        "the same ids in another order",
    ),
    "text": (changed("gripper", range_min="700"), r"gripper\.range_min is the text '700'", "without quotes"),
    "a fraction": (changed("gripper", range_min=700.0), r"gripper\.range_min is 700\.0, expected a whole", "calibrate"),
    "true": (changed("gripper", drive_mode=True), r"gripper\.drive_mode is true", ""),
    "beyond the encoder": (changed("elbow_flex", range_max=4500), r"elbow_flex\.range_max is 4500.*0\.\.4095", ""),
    "a Dynamixel's offset": (changed("gripper", homing_offset=-3200), r"homing_offset is -3200", "Koch, Dynamixel"),
    "drive mode 2": (changed("gripper", drive_mode=2), r"gripper\.drive_mode is 2, expected a whole number 0\.\.1", ""),
    "range backwards": (changed("gripper", range_max=10), "range_min 1934 must be below range_max 10", "end to end"),
    "a field misspelt": (
        changed("gripper", rangemin=1),
        r"gripper\.rangemin is not a field",
        "did you mean 'range_min'",
    ),
    "missing fields": (entries() | {"gripper": {"id": 6}}, "gripper has no drive_mode, homing_offset", "an entry has"),
    "an entry that is a list": ({name: [1, 2] for name in NAMES}, "shoulder_pan is a list, expected an object", ""),
    "null": (entries() | {"gripper": None}, "gripper is null", ""),
    "a list": ([entries()], "holds a list, expected an object", "make one"),
    "an empty object": ({}, "is not a LeRobot calibration: it holds nothing", "make one"),
    "something else": ({"schema_version": 2, "name": "x"}, "it holds schema_version, name, expected", "make one"),
    "an empty file": ("", "is empty", "copy it again"),
    "blanks": (" \r\n", "is empty", "copy it again"),
    "YAML": ("shoulder_pan:\n  id: 1\n", "is YAML, expected a LeRobot calibration, which is JSON", "--arm"),
    "half a file": (json.dumps(entries())[:200], "is not valid JSON", "written completely"),
    "a web page": ("<html></html>", "is not valid JSON", ""),
    "escapes for a terminal": ({"\x1b[2J": {"id": 1}}, r"it has \?\[2J", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_what_was_expected_and_what_to_do(write: Write, name: str) -> None:
    content, message, hint = REFUSED[name]
    path = write(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}.*{message}") as refused:
        read_calibration(path, PROFILE)
    assert hint in refused.value.hint
    assert refused.value.hint
    for line in (str(refused.value), refused.value.hint):
        assert line.isprintable()


def put(root: Path, kind: str, robot: str, content: Mapping[str, object]) -> Path:
    path = root / kind / robot / "black.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path


def test_the_id_of_a_leader_is_reported_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    path = put(tmp_path, "teleoperators", "so101_leader", entries())
    with pytest.raises(InputError, match="'black' is the calibration of a leader arm") as refused:
        find_calibration("black", PROFILE)
    assert "give the path of its file" in refused.value.hint
    (note,) = read_calibration(path, PROFILE).notes
    assert "is the calibration of a leader" in note


def test_the_hint_for_the_id_of_another_robot_gives_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    path = put(tmp_path, "robots", "lekiwi", entries("arm_") | wheels("base_left_wheel"))
    with pytest.raises(InputError, match=r"another kind of robot \(lekiwi\)") as refused:
        find_calibration("black", PROFILE)
    assert str(path) in refused.value.hint
    assert read_calibration(path, PROFILE).calibration.joints[0].servo_id == 1


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("data/calibration/halid1020_follower_0.json", ""),
        ("data/lerobot_v21_so100_bimanual_real/arm1.json", ""),
        ("data/lerobot_v21_so100_bimanual_real/arm2.json", ""),
        ("data/calibration/rerun_5A7A0186111.json", "of a leader in LeRobot's format before June 2025"),
        ("data/calibration/rerun_5AE60574961.json", "is a calibration in LeRobot's format before June 2025"),
    ],
)
def test_files_of_real_arms_are_used_or_refused(file: str, message: str) -> None:
    path = SHARED / file
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    if not message:
        assert len(load_calibration(path, PROFILE).joints) == 6
        return
    with pytest.raises(InputError, match=message):
        load_calibration(path, PROFILE)
