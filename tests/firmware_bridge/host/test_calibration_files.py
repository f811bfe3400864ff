"""LeRobot's calibration files: where they are stored, which one an id names, and writing them byte for byte."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.calibration import lerobot_text, load_calibration, nominal_calibration
from sefa_edge.firmware_bridge.host.calibration_files import (
    calibration_root,
    file_of_id,
    find_calibration,
    save_calibration,
    spare_path,
)
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError

PROFILE = load_arm_profile("so101")
BY_LEROBOT = Path(__file__).parents[2] / "data" / "lerobot_0_4_4_calibration.json"
"""Written by LeRobot 0.4.4's `MotorCalibration` and draccus 0.10.0's `dump(calibration, file, indent=4)`."""


@pytest.fixture
def robots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path / "calibration"))
    return tmp_path / "calibration" / "robots"


def put(robots: Path, folder: str, name: str, offset: int = 0) -> Path:
    (robots / folder).mkdir(parents=True, exist_ok=True)
    content = json.loads(BY_LEROBOT.read_text())
    content["gripper"]["homing_offset"] = offset
    path = robots / folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=4))
    return path


def test_a_file_written_by_lerobot_is_written_back_byte_for_byte(tmp_path: Path) -> None:
    calibration = load_calibration(BY_LEROBOT, PROFILE)
    assert lerobot_text(PROFILE, calibration).encode() == BY_LEROBOT.read_bytes()
    save_calibration(tmp_path / "robots" / "so_follower" / "arm.json", PROFILE, calibration)
    assert (tmp_path / "robots" / "so_follower" / "arm.json").read_bytes() == BY_LEROBOT.read_bytes()
    assert os.listdir(tmp_path / "robots" / "so_follower") == ["arm.json"]


@pytest.mark.parametrize("folder", ["so_follower", "so101_follower"])
def test_an_id_is_found_in_either_folder(robots: Path, folder: str) -> None:
    path = put(robots, folder, "black arm")
    assert find_calibration("black arm", PROFILE) == path
    assert file_of_id("black arm", PROFILE) == path


def test_identical_copies_in_both_folders_are_accepted(robots: Path) -> None:
    newer, _ = put(robots, "so_follower", "black"), put(robots, "so101_follower", "black")
    assert find_calibration("black", PROFILE) == newer


def test_two_different_files_of_one_id_are_refused_with_both_paths(robots: Path) -> None:
    paths = put(robots, "so_follower", "black", 1), put(robots, "so101_follower", "black", 2)
    with pytest.raises(InputError, match="two different calibrations are called 'black'") as caught:
        find_calibration("black", PROFILE)
    assert all(str(path) in str(caught.value) for path in paths)
    with pytest.raises(InputError, match="has two files for 'black'"):
        file_of_id("black", PROFILE)


def test_an_so100_of_the_same_name_is_another_arm(robots: Path) -> None:
    mine = put(robots, "so101_follower", "black", 1)
    put(robots, "so100_follower", "black", 2)
    assert find_calibration("black", PROFILE) == mine
    assert find_calibration("black", load_arm_profile("so101_percent")) == mine
    own = PROFILE.model_copy(update={"name": "my_arm"})
    with pytest.raises(InputError, match="two different"):
        find_calibration("black", own)


def test_a_missing_id_lists_the_existing_ones(robots: Path) -> None:
    put(robots, "so_follower", "black")
    put(robots, "so101_follower", "white")
    (robots / "so_follower" / "evil\x1b[2J.json").write_text("{}")
    with pytest.raises(InputError, match="has no calibration 'blue'") as caught:
        find_calibration("blue", PROFILE)
    assert caught.value.hint == "existing: black (so_follower), white (so101_follower)"


def test_without_any_file_the_hint_says_how_to_make_one(robots: Path) -> None:
    with pytest.raises(InputError, match="has no calibration 'blue'") as caught:
        find_calibration("blue", PROFILE)
    assert "sefa-edge calibrate" in caught.value.hint
    assert file_of_id("blue", PROFILE) == robots / "so_follower" / "blue.json"


def test_a_path_is_used_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_calibration("black.json", PROFILE) == Path("black.json")
    assert find_calibration("./black", PROFILE) == Path("black")
    assert find_calibration("~/black.json", PROFILE) == tmp_path / "black.json"


@pytest.mark.parametrize("arm_id", ["", "..", ".hidden", "-rf", "a\nb", "a\x1b[2J", "x" * 101, "a\0b"])
def test_an_id_cannot_leave_the_folder(robots: Path, arm_id: str) -> None:
    for lookup in (find_calibration, file_of_id):
        with pytest.raises(InputError, match="cannot be the id of an arm"):
            lookup(arm_id, PROFILE)


@pytest.mark.parametrize("arm_id", ["../black", "a/../../b", "/etc/passwd"])
def test_a_path_is_refused_as_the_id_of_a_new_file(robots: Path, arm_id: str) -> None:
    with pytest.raises(InputError, match="cannot be the id of an arm"):
        file_of_id(arm_id, PROFILE)


def test_a_file_found_by_id_is_checked(robots: Path) -> None:
    path = put(robots, "so_follower", "black")
    path.write_text(" " * 1_000_001)
    with pytest.raises(InputError, match="larger than 1000000 bytes"):
        find_calibration("black", PROFILE)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="has no calibration 'black'"):
        find_calibration("black", PROFILE)


def test_the_root_is_the_one_that_lerobot_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_LEROBOT_CALIBRATION", "HF_LEROBOT_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    steps = [
        ("", "", "/home/ada/.cache/huggingface/lerobot/calibration"),
        ("XDG_CACHE_HOME", "/cache", "/cache/huggingface/lerobot/calibration"),
        ("HF_HOME", "~/hf", "/home/ada/hf/lerobot/calibration"),
        ("HF_LEROBOT_HOME", "/lerobot", "/lerobot/calibration"),
        ("HF_LEROBOT_CALIBRATION", "/here", "/here"),
        ("HF_LEROBOT_CALIBRATION", "", "/lerobot/calibration"),
    ]
    for name, value, expected in steps:
        if name:
            monkeypatch.setenv(name, value)
        assert calibration_root() == Path(expected)


def test_spare_paths_never_overwrite_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "sefa-edge" / "calibration"
    for expected in ("so101.json", "so101-2.json", "so101-3.json"):
        path = spare_path("so101")
        assert path == folder / expected
        path.write_text("")


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"):
        save_calibration(tmp_path / "file" / "arm.json", PROFILE, nominal_calibration(PROFILE))
