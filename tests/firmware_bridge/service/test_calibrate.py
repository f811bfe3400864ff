"""`sefa-edge calibrate` without a person: headless, from ranges, restoring; wrong arguments; no partial writes."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sefa_edge.cli import main
from sefa_edge.firmware_bridge.host.calibration import lerobot_entries, load_calibration, nominal_calibration
from sefa_edge.firmware_bridge.host.calibration_files import save_calibration
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import open_feetech_arm
from sefa_edge.firmware_bridge.host.feetech.protocol import Instruction
from sefa_edge.profiles.arms import load_arm_profile
from tests.rigs.calibration_stand import FACTORY, MIDDLE, NAMES, PROFILE, Stand, stand_at

RANGES = {joint.name: [joint.range_min_ticks, joint.range_max_ticks] for joint in PROFILE.joints}
OFFSETS = [ticks - 2047 for ticks in MIDDLE]
CALIBRATED = [(offset, *RANGES[name]) for offset, name in zip(OFFSETS, NAMES, strict=True)]


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path / "lerobot"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "ranges.json").write_text(json.dumps(RANGES))
    with stand_at(tmp_path / "arm") as made:
        yield made


def calibrate(stand: Stand, *arguments: str) -> int:
    return main(["calibrate", "--arm", "so101", "--port", stand.port.path, *arguments])


def from_ranges(stand: Stand, *arguments: str) -> int:
    ranges = Path(stand.port.path).with_name("ranges.json")
    return calibrate(stand, "--headless", "--middle-now", "--ranges", str(ranges), *arguments)


def lerobot_file(tmp_path: Path, name: str) -> Path:
    return tmp_path / "lerobot" / "robots" / "so_follower" / f"{name}.json"


def kept(tmp_path: Path, ending: str) -> list[Path]:
    return sorted((tmp_path / "state" / "sefa-edge" / "calibration").glob(f"*{ending}*.json"))


@pytest.mark.slow
def test_new_numbers_are_written_to_the_servos_and_to_lerobots_file(stand: Stand, tmp_path: Path) -> None:
    assert from_ranges(stand, "--id", "black", "--write-eeprom", "--json", str(tmp_path / "r.json")) == 0
    assert stand.carried() == CALIBRATED
    assert stand.locked() == [1] * 6
    written = load_calibration(lerobot_file(tmp_path, "black"), PROFILE)
    assert [joint.homing_offset for joint in written.joints] == OFFSETS
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["written_to_servos"]
    assert report["file"] == str(lerobot_file(tmp_path, "black"))
    assert report["calibration"] == lerobot_entries(PROFILE, written)
    assert json.loads(Path(report["backup"]).read_text()) == report["before"]
    assert not any(stand.torque_is_on())
    assert stand.plant.goals == []
    arm = open_feetech_arm(PROFILE, stand.port.path, written)
    arm.close()


@pytest.mark.slow
def test_the_default_id_is_the_arms_name(stand: Stand, tmp_path: Path) -> None:
    assert from_ranges(stand, "--write-eeprom") == 0
    assert lerobot_file(tmp_path, "so101").is_file()


@pytest.mark.slow
def test_an_arm_that_was_calibrated_before_gets_the_same_numbers_again(stand: Stand) -> None:
    for servo, old in zip(stand.bus.servos, (-2000, 2000, 7, 0, -1, 1024), strict=True):
        servo.set_register(reg.HOMING_OFFSET, old)
    assert from_ranges(stand, "--write-eeprom") == 0
    assert stand.carried() == CALIBRATED


@pytest.mark.slow
def test_an_old_file_is_replaced_in_place_and_kept(stand: Stand, tmp_path: Path) -> None:
    old = lerobot_file(tmp_path, "black").parents[1] / "so101_follower" / "black.json"
    save_calibration(old, PROFILE, nominal_calibration(PROFILE))
    before = old.read_bytes()
    assert from_ranges(stand, "--id", "black", "--write-eeprom") == 0
    assert old.read_bytes() != before
    assert [path.read_bytes() for path in kept(tmp_path, "replaced")] == [before]
    assert not lerobot_file(tmp_path, "black").exists()


@pytest.mark.slow
def test_without_the_flag_no_servo_and_no_file_of_lerobot_is_touched(
    stand: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert from_ranges(stand, "-o", str(tmp_path / "new.json")) == 0
    assert stand.carried() == FACTORY
    assert "--restore" in capsys.readouterr().out
    assert not (tmp_path / "lerobot").exists()
    assert calibrate(stand, "--restore", str(tmp_path / "new.json"), "--write-eeprom") == 0
    assert stand.carried() == CALIBRATED


def test_the_report_may_go_to_standard_output(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    assert from_ranges(stand, "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["written_to_servos"], report["file"], report["backup"]) == (False, None, None)
    assert list(report["calibration"]) == list(NAMES)


@pytest.mark.slow
def test_a_timed_sweep_records_movements_by_hand(stand: Stand, tmp_path: Path) -> None:
    done = threading.Event()
    hands = threading.Thread(target=wave, args=(stand, done))
    hands.start()
    try:
        arguments = ["--headless", "--middle-now", "--sweep-seconds", "4", "-o", str(tmp_path / "new.json")]
        assert calibrate(stand, *arguments) == 0
    finally:
        done.set()
        hands.join()
    for entry, joint in zip(load_calibration(tmp_path / "new.json", PROFILE).joints, PROFILE.joints, strict=True):
        assert entry.range_max_ticks - entry.range_min_ticks in ((4095,) if joint.turns_freely else range(1502, 1701))


def wave(stand: Stand, done: threading.Event) -> None:
    """Move every joint 850 ticks back and forth, slowly enough for a busy machine."""
    path_ticks = 850
    while not done.wait(0.004):
        path_ticks += 10
        shift = abs(path_ticks % 3400 - 1700) - 850
        for name, middle in zip(NAMES, MIDDLE, strict=True):
            stand.move(name, middle + shift)


@pytest.mark.slow
def test_a_sweep_without_movement_is_refused(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate(stand, "--headless", "--middle-now", "--sweep-seconds", "0.1", "--write-eeprom") == 1
    printed = capsys.readouterr().err
    assert "shoulder_pan was moved over 0 of about 2503 ticks" in printed
    assert "Traceback" not in printed
    assert stand.carried() == FACTORY


def test_torque_that_is_on_is_never_switched_off_without_being_asked_to(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.energise("elbow_flex")
    assert from_ranges(stand, "--write-eeprom") == 2
    printed = capsys.readouterr().err
    assert "the torque is on: elbow_flex" in printed
    assert f"sefa-edge arm free --arm so101 --port {stand.port.path}" in printed
    assert stand.torque_is_on().count(True) == 1
    assert stand.carried() == FACTORY


@pytest.mark.slow
def test_a_restore_shows_the_differences_and_waits_for_the_flag(
    stand: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.json"
    save_calibration(path, PROFILE, nominal_calibration(PROFILE))
    assert calibrate(stand, "--restore", str(path)) == 2
    printed = capsys.readouterr().err
    assert "add --write-eeprom" in printed
    assert "796..3299" in printed
    assert stand.carried() == FACTORY
    assert calibrate(stand, "--restore", str(path), "--write-eeprom") == 0
    assert calibrate(stand, "--restore", str(path)) == 0
    assert "already have these numbers" in capsys.readouterr().out
    (backup,) = kept(tmp_path, "before")
    assert calibrate(stand, "--restore", str(backup), "--write-eeprom") == 0
    assert stand.carried() == FACTORY


@pytest.mark.slow
def test_a_calibration_is_restored_by_id(stand: Stand, tmp_path: Path) -> None:
    save_calibration(lerobot_file(tmp_path, "black"), PROFILE, nominal_calibration(PROFILE))
    assert calibrate(stand, "--restore", "black", "--write-eeprom") == 0
    assert stand.carried()[0] == (0, 796, 3299)


@pytest.mark.slow
def test_an_arm_in_percent_reads_the_same_values_as_lerobot(stand: Stand) -> None:
    assert from_ranges(stand, "--write-eeprom") == 0
    for name, position in (("shoulder_pan", 3299 + 90), ("shoulder_lift", 910 + 569), ("gripper", 1934 - 5)):
        stand.move(name, position + OFFSETS[NAMES.index(name)])
    arm = open_feetech_arm(load_arm_profile("so101_percent"), stand.port.path, None)
    try:
        state = next(state for state in (arm.read_state() for _ in range(200)) if state.valid_mask.all())
    finally:
        arm.close()
    assert state.joint_deg[[0, 1, 5]].tolist() == pytest.approx([100.0, 569 / 2275 * 200 - 100, 0.0])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "a guided calibration needs a terminal"),
        (("--headless",), 2, "--headless needs --middle-now"),
        (("--headless", "--middle-now", "--write-eeprom"), 2, "--sweep-seconds S or --ranges FILE"),
        (("--headless", "--middle-now", "--sweep-seconds", "5"), 2, "this calibration would be written nowhere"),
        (("--headless", "--middle-now", "--sweep-seconds", "0", "--write-eeprom"), 2, "a time above 0"),
        (("--headless", "--middle-now", "--sweep-seconds", "nan", "--write-eeprom"), 2, "got 'nan'"),
        (("--middle-now",), 2, "--middle-now needs --headless"),
        (("--restore", "x.json", "--id", "black"), 2, "--restore measures nothing"),
        (("--restore", "x.json"), 2, "x.json does not exist"),
        (("--restore", "nobody"), 2, "LeRobot has no calibration 'nobody'"),
        (("--restore", "-rf"), 2, "expected one argument"),
        (("--headless", "--middle-now", "--ranges", "x", "--id", "../../etc/x", "--write-eeprom"), 2, "cannot be the"),
        (("--headless", "--middle-now", "--ranges", "none.json", "--write-eeprom"), 2, "none.json does not exist"),
        (("-o", "/nowhere/at/all.json"), 2, "the folder /nowhere/at does not exist"),
        (("--json", "/nowhere/at/all.json"), 2, "the folder /nowhere/at does not exist"),
        (("--arm", "octopus"), 2, "no arm is called 'octopus'"),
    ],
)
def test_wrong_arguments_are_reported_without_a_traceback(
    stand: Stand, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, message: str
) -> None:
    assert calibrate(stand, *arguments) == code
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert stand.carried() == FACTORY


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({**RANGES, "gripper": [3000, 2000]}, "gripper: 3000 must be below 2000"),
        ({**RANGES, "gripper": [3000]}, "gripper"),
        ({**RANGES, "gripper": [0.5, 2000]}, "gripper"),
        ({**RANGES, "gripper": [2000, 4096]}, "gripper"),
        ({**RANGES, "thumb": [1, 2]}, "thumb"),
        ({**RANGES, "elbow_flex": [2000, 2100]}, "elbow_flex was moved over 100 of about 2203"),
        ({**RANGES, "elbow_flex": [3, 2100]}, "crossed its encoder's end"),
    ],
)
def test_wrong_ranges_are_reported(
    stand: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str], ranges: dict[str, list[float]], message: str
) -> None:
    (tmp_path / "ranges.json").write_text(json.dumps(ranges))
    assert from_ranges(stand, "--write-eeprom") in (1, 2)
    assert message in capsys.readouterr().err
    assert stand.carried() == FACTORY


def test_a_port_in_use_or_absent_is_reported(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    arm = None
    for servo, (_, low, high) in zip(stand.bus.servos, CALIBRATED, strict=True):
        servo.set_register(reg.MIN_POSITION, low)
        servo.set_register(reg.MAX_POSITION, high)
    try:
        arm = open_feetech_arm(PROFILE, stand.port.path, None)
        assert from_ranges(stand, "--write-eeprom") == 4
    finally:
        if arm is not None:
            arm.close()
    assert f"in use by another program (process {os.getpid()}, " in capsys.readouterr().err
    stand.port.unplug()
    assert from_ranges(stand, "--write-eeprom") == 4


@pytest.mark.slow
def test_all_servos_get_their_old_numbers_back_when_one_accepts_no_writes(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.bus.disturb_request = lambda data: b"" if is_write_of(data, 4, reg.MIN_POSITION) else data
    assert from_ranges(stand, "--write-eeprom") == 3
    printed = capsys.readouterr().err
    assert "servo of wrist_flex did not keep min_position_limit 967 (register 9)" in printed
    assert "have their old numbers again" in printed
    assert stand.carried() == FACTORY
    assert stand.locked() == [1] * 6


def is_write_of(data: bytes, servo_id: int, register: reg.Register) -> bool:
    """Whether a request writes this register of this servo, alone or in a sync write."""
    if len(data) < 8:
        return False
    if data[4] == Instruction.SYNC_WRITE:
        return data[5] == register.address and servo_id in data[7 : -1 : data[6] + 1]
    return data[4] == Instruction.WRITE and (data[2], data[5]) == (servo_id, register.address)


@pytest.mark.slow
def test_a_cable_pulled_while_writing_is_reported_with_the_command_to_restore(
    stand: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.bus.disturb_request = lambda data: pull(stand) if is_write_of(data, 4, reg.HOMING_OFFSET) else data
    assert from_ranges(stand, "--id", "black", "--write-eeprom") == 3
    printed = capsys.readouterr().err
    assert "servos may have a mixture" in printed
    assert "--restore" in printed
    assert not lerobot_file(tmp_path, "black").exists()
    stand.bus.disturb_request = lambda data: data
    stand.port.replug()
    (backup,) = kept(tmp_path, "before")
    assert calibrate(stand, "--restore", str(backup), "--write-eeprom") == 0
    assert stand.carried() == FACTORY


def pull(stand: Stand) -> bytes:
    threading.Thread(target=stand.port.unplug).start()
    return b""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_of_writing_waits_for_its_end(
    stand: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def interrupt(data: bytes) -> bytes:
        if is_write_of(data, 2, reg.HOMING_OFFSET):
            os.kill(os.getpid(), number)
        return data

    stand.bus.disturb_request = interrupt
    assert from_ranges(stand, "--id", "black", "--write-eeprom") == 130
    assert stand.carried() == CALIBRATED
    assert stand.locked() == [1] * 6
    assert lerobot_file(tmp_path, "black").is_file()
    assert "came too late: all servos have the new numbers" in capsys.readouterr().err


@pytest.mark.slow
def test_a_joint_that_is_knocked_while_it_is_written_is_noticed(
    stand: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def knock(data: bytes) -> bytes:
        if is_write_of(data, 2, reg.HOMING_OFFSET):
            stand.move("shoulder_lift", MIDDLE[1] + 300)
        return data

    stand.bus.disturb_request = knock
    assert from_ranges(stand, "--write-eeprom") == 3
    assert "shoulder_lift reads 300 ticks away" in capsys.readouterr().err
    assert stand.carried() == FACTORY
    (new,) = kept(tmp_path, "new")
    stand.bus.disturb_request = lambda data: data
    assert calibrate(stand, "--restore", str(new), "--write-eeprom") == 0
    assert stand.carried() == CALIBRATED


@pytest.mark.slow
def test_an_error_writing_the_file_says_which_numbers_the_servos_have(
    stand: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lerobot").write_text("in the way")
    assert from_ranges(stand, "--write-eeprom") == 2
    assert "the servos have the new numbers, but" in capsys.readouterr().err
    assert stand.carried() == CALIBRATED
