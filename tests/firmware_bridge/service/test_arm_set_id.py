"""`sefa-edge arm set-id` on new simulated servos: guided on a terminal, and headless."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sefa_edge.cli import main
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import Instruction
from tests.rigs.bench_arm import Bench, servos_on_the_bench

pytestmark = pytest.mark.once

Captured = pytest.CaptureFixture[str]
PATIENCE_S = 60.0
ALLOWED = "--write-eeprom"


def set_id(bench: Bench, *arguments: str) -> int:
    return main(["arm", "set-id", "--arm", "sim", "--port", bench.port.path, *arguments])


def address(bench: Bench, index: int = 0) -> tuple[int, int, int]:
    """Id, baud rate, lock."""
    servo = bench.bus.servos[index]
    with bench.port.lock:
        return servo.servo_id, reg.BAUD_RATES[servo.register(reg.BAUD_RATE)], servo.register(reg.LOCK)


@pytest.mark.slow
@pytest.mark.parametrize("before", [(1, 500_000), (99, 76_800), (0, 250_000)])
def test_a_new_servo_becomes_the_joint(tmp_path: Path, before: tuple[int, int], capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, before) as bench:
        assert set_id(bench, "gripper", ALLOWED) == 0
        assert address(bench) == (6, 1_000_000, 1)
        assert not bench.plant.ever_on
    line = f"gripper: servo {before[0]} at {before[1]} baud is now servo 6 at 1000000 baud, read back and locked"
    assert capsys.readouterr().out.splitlines() == [line]


@pytest.mark.slow
def test_a_correct_servo_is_not_written(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (6, 1_000_000)) as bench:
        before = bench.registers()
        assert set_id(bench, "gripper", ALLOWED) == 0
        assert bench.registers() == before
    assert "already servo 6 at 1000000 baud, nothing written" in capsys.readouterr().out


def test_nothing_is_written_without_the_flag(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (1, 1_000_000)) as bench:
        before = bench.registers()
        assert set_id(bench, "gripper") == 2
        assert bench.registers() == before
    assert "hint: add --write-eeprom" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "servos", [[(1, 1_000_000), (2, 1_000_000)], [(1, 1_000_000), (1, 500_000)], [(1, 1_000_000), (1, 1_000_000)]]
)
def test_two_servos_are_refused(tmp_path: Path, servos: list[tuple[int, int]], capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, *servos) as bench:
        before = bench.registers()
        assert set_id(bench, "gripper", ALLOWED) == 2
        assert bench.registers() == before
    printed = capsys.readouterr().err
    assert "more than one servo answers" in printed
    assert "connect one servo alone" in printed


@pytest.mark.slow
def test_every_id_is_pinged_when_replies_collide(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (1, 1_000_000), (2, 1_000_000)) as bench:
        bench.bus.disturb = lambda answers: answers if len(answers) != 12 else b"\xff" + answers[6:]
        assert set_id(bench, "gripper", ALLOWED) == 2
    assert "servo 1 at 1000000 baud, servo 2 at 1000000 baud" in capsys.readouterr().err


@pytest.mark.slow
def test_another_model_is_refused(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (1, 1_000_000)) as bench:
        bench.bus.servos[0].set_register(reg.MODEL_NUMBER, 1284)
        assert set_id(bench, "gripper", ALLOWED) == 2
        assert address(bench) == (1, 1_000_000, 1)
    printed = capsys.readouterr().err
    assert "servo 1 at 1000000 baud is SCS0009 (model number 1284), the arm profile allows STS3215" in printed
    assert "SCS servos send the high byte first" in printed


@pytest.mark.slow
def test_a_servo_with_torque_on_is_refused(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (1, 1_000_000)) as bench:
        bench.hold()
        assert set_id(bench, "gripper", ALLOWED) == 2
        assert (address(bench), bench.torque()) == ((1, 1_000_000, 1), [1])
    assert "the torque of servo 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("register", [reg.LOCK, reg.SERVO_ID, reg.BAUD_RATE], ids=lambda register: register.name)
def test_a_lost_write_is_reported_and_the_servo_left_locked(
    tmp_path: Path, register: reg.Register, capsys: Captured
) -> None:
    def lose(data: bytes) -> bytes:
        """Lose every write of this register with its new value."""
        is_write = len(data) > 9 and data[4] == Instruction.SYNC_WRITE and data[5] == register.address
        unlocks = register is not reg.LOCK or data[8:9] == b"\0"
        return b"" if is_write and unlocks else data

    with servos_on_the_bench(tmp_path, (1, 500_000)) as bench:
        bench.bus.disturb_request = lose
        assert set_id(bench, "gripper", ALLOWED) == 3
        assert address(bench)[2] == 1
    printed = capsys.readouterr().err
    assert "was not changed to servo 6 at 1000000 baud: servo" in printed
    assert "scan --port" in printed


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["griper", ALLOWED], 2, "the arm so101_sim has no joint 'griper'"),
        (["gripper", ALLOWED], 4, "there is no serial port /nowhere/arm"),
        ([ALLOWED], 2, "which needs a terminal"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line_with_a_hint(
    arguments: list[str], code: int, message: str, capsys: Captured
) -> None:
    assert main(["arm", "set-id", "--arm", "sim", "--port", "/nowhere/arm", *arguments]) == code
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: ")


class Guided:
    """`arm set-id` as a person at a terminal sees it."""

    def __init__(self, bench: Bench) -> None:
        command = [sys.executable, "-m", "sefa_edge", "arm", "set-id", "--arm", "sim", ALLOWED]
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*command, "--port", bench.port.path], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.seen = ""

    def until(self, text: str) -> None:
        while text not in self.seen:
            readable, _, _ = select.select([self.master], [], [], PATIENCE_S)
            assert readable, f"timed out waiting for '{text}': {self.seen}"
            printed = os.read(self.master, 4096).decode()
            self.seen += printed
            if "no servo answers" in printed:  # the simulated one may be late on a busy machine: try again
                self.press_enter()

    def press_enter(self) -> None:
        os.write(self.master, b"\n")

    def end(self) -> int:
        code = self.process.wait(PATIENCE_S)
        os.close(self.master)
        return code


@pytest.mark.slow
def test_six_servos_are_guided_through_from_gripper_to_shoulder(tmp_path: Path) -> None:
    joints = ["gripper", "wrist_roll", "wrist_flex", "elbow_flex", "shoulder_lift", "shoulder_pan"]
    with servos_on_the_bench(tmp_path, *[(1, 1_000_000)] * 6) as bench:
        for servo in bench.bus.servos:
            servo.connected = False
        guided = Guided(bench)
        for number, joint in enumerate(joints):
            guided.until(f"{number + 1}/6: connect the servo of {joint} alone")
            if number == 2:  # the previous one is still connected: reported, and asked again
                guided.press_enter()
                guided.until("servo 5 at 1000000 baud is the one of wrist_roll, which is done")
            for other, servo in enumerate(bench.bus.servos):
                servo.connected = other == number
            guided.press_enter()
            guided.until(f"{joint}: servo 1 at 1000000 baud is now" if joint != "shoulder_pan" else "nothing written")
        guided.until("done. Connect the servos")
        assert guided.end() == 0
        assert [address(bench, index) for index in range(6)] == [(6 - index, 1_000_000, 1) for index in range(6)]


@pytest.mark.slow
def test_ctrl_c_while_waiting_ends_the_command(tmp_path: Path) -> None:
    with servos_on_the_bench(tmp_path, (1, 1_000_000)) as bench:
        guided = Guided(bench)
        guided.until("press Enter")
        guided.process.send_signal(signal.SIGINT)
        guided.until("stopped")
        assert guided.end() == 130
        assert address(bench) == (1, 1_000_000, 1)
    assert "Traceback" not in guided.seen
