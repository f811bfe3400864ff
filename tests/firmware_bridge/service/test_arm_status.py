"""`sefa-edge arm status` on simulated servos behind a pseudo-terminal: once, live, and on faulty arms."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sefa_edge.cli import main
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits
from tests.rigs.bench_arm import Bench, arm_on_the_bench

Captured = pytest.CaptureFixture[str]
PATIENCE_S = 60.0


def status(bench: Bench, *arguments: str) -> int:
    return main(["arm", "status", "--arm", "sim", "--port", bench.port.path, *arguments])


def row(text: str, joint: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(joint))


def test_a_healthy_arm_gives_a_table_without_colours_and_nothing_is_written(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        before = bench.registers()
        assert status(bench) == 0
        assert bench.registers() == before
        assert not bench.plant.ever_on
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 7
    assert re.split(r"  +", row(out, "elbow_flex")) == [
        "elbow_flex", "3", "2108", "5.3 deg", "2108", "5.3 deg", "off", "30 C", "7.4 V", "0 %", "0 mA", "ok",
    ]  # fmt: skip
    assert "%" in row(out, "gripper")


def test_the_report_contains_every_number(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.hold()
        assert status(bench, "--json", "-") == 0
    printed = capsys.readouterr()
    assert row(printed.err, "gripper")  # the table goes to stderr, as the report takes stdout
    report = json.loads(printed.out)
    assert (report["arm"], report["port"], report["well"]) == ("so101_sim", str(tmp_path / "arm"), True)
    assert report["joints"][2] == {
        "joint": "elbow_flex",
        "servo_id": 3,
        "unit": "degrees",
        "answers": True,
        "trouble": [],
        "model": 777,
        "model_name": "STS3215",
        "operating_mode": 0,
        "torque": 1,
        "position_ticks": 2108,
        "position": 5.32,
        "goal_ticks": 2108,
        "goal": 5.32,
        "temperature_c": 30,
        "supply_mv": 7400,
        "load_pct": 0.0,
        "current_ma": 0.0,
        "status_bits": 0,
        "status": "ok",
    }


@pytest.mark.slow
def test_problems_are_reported_with_exit_1(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.bus.servo(2).temperature_c = 66
        bench.bus.servo(3).fault_bits = StatusBits.OVERLOAD
        bench.bus.servo(4).connected = False
        bench.bus.servo(5).supply_mv = 4300
        assert status(bench, "--json", str(tmp_path / "s.json")) == 1
    out = capsys.readouterr().out
    assert "66 C" in row(out, "shoulder_lift")
    assert row(out, "elbow_flex").endswith("overload")
    assert row(out, "wrist_flex").endswith("SILENT")
    joints = {joint["joint"]: joint for joint in json.loads((tmp_path / "s.json").read_text())["joints"]}
    assert [joints[name]["trouble"] for name in ("shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")] == [
        ["temperature"], ["status"], ["silent"], ["supply"],
    ]  # fmt: skip
    assert joints["wrist_flex"]["answers"] is False


def test_a_servo_in_wheel_mode_or_of_another_model_is_reported_with_a_remedy(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.bus.servo(5).set_register(reg.OPERATING_MODE, 1)
        bench.bus.servo(2).set_register(reg.MODEL_NUMBER, 2825)
        bench.bus.servo(6).set_register(reg.MODEL_NUMBER, 4242)
        assert status(bench, "--json", str(tmp_path / "s.json")) == 1
    out = capsys.readouterr().out
    assert row(out, "wrist_roll").endswith("wheel (speed) mode")
    assert row(out, "shoulder_lift").endswith("STS3250, not allowed")
    command = f"sefa-edge arm configure --arm so101_sim --port {tmp_path / 'arm'} --write-eeprom"
    assert f"wrist_roll: wheel (speed) mode (register 33 is 1, 0 is position): {command}" in out
    assert "shoulder_lift: STS3250: STS series, 4096 positions a turn, 6 to 12.6 V, stall torque 50 kg cm" in out
    assert "gripper: " in out
    joints = {joint["joint"]: joint for joint in json.loads((tmp_path / "s.json").read_text())["joints"]}
    assert (joints["wrist_roll"]["operating_mode"], joints["wrist_roll"]["trouble"]) == (1, ["mode"])
    assert (joints["shoulder_lift"]["model_name"], joints["shoulder_lift"]["trouble"]) == ("STS3250", ["model"])


def test_an_arm_that_was_never_calibrated_is_shown_in_ticks(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        for servo in bench.bus.servos:
            servo.set_register(reg.MIN_POSITION, 0)
            servo.set_register(reg.MAX_POSITION, 4095)
        assert status(bench) == 0
    out = capsys.readouterr().out
    assert "2620     -- %" in row(out, "gripper")
    assert "deg" in row(out, "elbow_flex")  # LeRobot's zero is the middle of a turn


def test_a_calibration_file_is_used(tmp_path: Path, capsys: Captured) -> None:
    entries = {
        joint: {"id": i, "drive_mode": 0, "homing_offset": 0, "range_min": 2108 - 1300, "range_max": 2108 + 1300}
        for i, joint in enumerate(
            ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"), 1
        )
    }
    (tmp_path / "c.json").write_text(json.dumps(entries))
    with arm_on_the_bench(tmp_path) as bench:
        assert status(bench, "--calibration", str(tmp_path / "c.json")) == 0
    assert "0.0 deg" in row(capsys.readouterr().out, "elbow_flex")


@pytest.mark.slow
def test_an_arm_without_supply_is_one_line_and_exit_3(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        for servo in bench.bus.servos:
            servo.connected = False
        assert status(bench) == 3
    error, hint = capsys.readouterr().err.splitlines()
    assert error == f"error: no servo of so101_sim answers on {tmp_path / 'arm'} at 1000000 baud"
    assert "power supply" in hint


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--arm", "so1001"], 2, "no arm is called 'so1001'"),
        (["--arm", "sim", "--calibration", "/nowhere/c.json"], 2, "/nowhere/c.json does not exist"),
        (["--arm", "sim", "--json", "/nowhere/x.json"], 2, "the folder /nowhere does not exist"),
        (["--arm", "sim"], 4, "there is no serial port /nowhere/arm"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line_with_a_hint(
    arguments: list[str], code: int, message: str, capsys: Captured
) -> None:
    assert main(["arm", "status", "--port", "/nowhere/arm", *arguments]) == code
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: ")


def test_watching_without_a_terminal_is_one_table(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        assert status(bench, "--watch") == 0
    assert len(capsys.readouterr().out.splitlines()) == 7


class Watcher:
    """`arm status --watch` as a person at a terminal sees it."""

    def __init__(self, bench: Bench, **environment: str) -> None:
        command = [sys.executable, "-m", "sefa_edge", "arm", "status", "--arm", "sim"]
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*command, "--port", bench.port.path, "--watch"],
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "NO_COLOR"} | environment,
        )
        os.close(slave)
        self.seen = b""

    def until(self, text: bytes, times: int = 1) -> None:
        while self.seen.count(text) < times:
            readable, _, _ = select.select([self.master], [], [], PATIENCE_S)
            assert readable, f"timed out waiting for {text!r}: {self.seen!r}"
            self.seen += os.read(self.master, 4096)

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE_S)
        assert self.process.stderr is not None
        self.seen += self.process.stderr.read()
        self.process.stderr.close()
        os.close(self.master)
        return code


@pytest.mark.slow
def test_watching_refreshes_in_place_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        before = bench.registers()
        watcher = Watcher(bench)
        watcher.until(b"Ctrl-C ends it")
        bench.bus.servo(3).temperature_c = 70
        watcher.until(b"\x1b[31m       70 C\x1b[0m")
        watcher.until(b"\x1b[8A", times=2)
        bench.bus.servo(4).connected = False
        watcher.until(b"\x1b[31mSILENT")
        assert watcher.end() == 0
        assert bench.registers() == before
    assert b"Traceback" not in watcher.seen


@pytest.mark.slow
def test_watching_without_colours(tmp_path: Path) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.bus.servo(3).temperature_c = 70
        watcher = Watcher(bench, NO_COLOR="1")
        watcher.until(b"Ctrl-C ends it", times=2)
        assert watcher.end() == 0
    assert not re.search(rb"\x1b\[\d*m", watcher.seen)


@pytest.mark.slow
def test_a_cable_pulled_while_watching_is_one_line_and_exit_3(tmp_path: Path) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        watcher = Watcher(bench)
        watcher.until(b"Ctrl-C ends it")
        bench.port.unplug()
        assert watcher.process.wait(PATIENCE_S) == 3
        assert watcher.process.stderr is not None
        assert b"error: the serial port" in watcher.process.stderr.read()
        watcher.process.stderr.close()
        os.close(watcher.master)
