"""`sefa-edge arm center|free|park` on a pseudo-terminal, and two programs that want one port."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sefa_edge.cli import main
from sefa_edge.edge.pictures import write_picture
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.port_lock import openers
from tests.rigs.bench_arm import JudgedBench, arm_on_the_bench

Captured = pytest.CaptureFixture[str]
PATIENCE_S = 60.0
ELBOW, GRIPPER = 2, 5


def arm(bench: JudgedBench, verb: str, *arguments: str) -> int:
    if verb == "free" or "release" in arguments:
        bench.ask_for_release()
    return main(["arm", verb, "--arm", "sim", "--port", bench.port.path, *arguments])


@contextmanager
def process(bench: JudgedBench, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`sefa-edge …` as a separate process, its output in a pipe."""
    started = subprocess.Popen(
        [sys.executable, "-m", "sefa_edge", *arguments, "--arm", "sim", "--port", bench.port.path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()
        assert started.stdout is not None
        started.stdout.close()


# -- center and park ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_centering_announces_the_move_and_holds_in_the_middle(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        assert arm(bench, "center") == 0
        assert bench.torque() == [1] * 6
        assert abs(bench.joint_deg(ELBOW)) < 0.5
    out = capsys.readouterr().out
    assert re.search(r"torque on where it stands, then all joints to the middle pose in \d+\.\d s;", out)
    assert "then it holds there, torque on" in out
    assert re.search(r"elbow_flex +5\.3 to +0\.0 deg", out)
    assert out.splitlines()[-1] == "arm at the middle pose, torque on"


@pytest.mark.slow
def test_one_joint_is_centred_and_the_arm_released(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        assert arm(bench, "center", "elbow_flex", "--then", "release") == 0
        assert bench.torque() == [0] * 6
        assert abs(bench.joint_deg(ELBOW)) < 0.5
        assert abs(bench.joint_deg(0) - 5.3) < 0.5
    out = capsys.readouterr().out
    assert "IT DROPS" in out
    assert out.splitlines()[-1] == "arm released where it stood"


@pytest.mark.slow
def test_the_arm_moves_to_the_start_pose_and_then_parks(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        assert arm(bench, "center", "--pose", "start", "--then", "park", "--speed", "60") == 0
        assert bench.torque() == [0] * 6
        assert abs(bench.joint_deg(ELBOW) - 90.0) < 1.0
    assert capsys.readouterr().out.splitlines()[-1] == "arm parked and released"


@pytest.mark.slow
def test_the_arm_parks_and_releases(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        assert arm(bench, "park", "--speed", "60") == 0
        assert bench.torque() == [0] * 6
        assert abs(bench.joint_deg(ELBOW) - 90.0) < 1.0
    lines = capsys.readouterr().out.splitlines()
    assert "then to the park pose in" in lines[0]
    assert lines[-1] == "arm parked and released"


@pytest.mark.slow
def test_an_obstacle_leaves_the_arm_holding_with_exit_3(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.plant.blocked = ELBOW
        assert arm(bench, "park", "--speed", "60") == 3
        assert bench.torque() == [1] * 6
    printed = capsys.readouterr().err
    assert "error: the arm does not follow its goal (elbow_flex): arm left holding" in printed
    assert "hint: " in printed


@pytest.mark.slow
def test_ctrl_c_ends_the_process_and_leaves_the_arm_holding(tmp_path: Path) -> None:
    with arm_on_the_bench(tmp_path) as bench, process(bench, "arm", "park", "--speed", "10") as parking:
        while bench.torque() != [1] * 6 or bench.joint_deg(ELBOW) < 6.0:
            assert parking.poll() is None
            time.sleep(0.02)
        parking.send_signal(signal.SIGINT)
        assert parking.wait(PATIENCE_S) == 130
        assert parking.stdout is not None
        assert "stopped by Ctrl-C: arm left holding its last goal, torque still on" in parking.stdout.read()
        assert bench.torque() == [1] * 6
        assert bench.joint_deg(ELBOW) < 60.0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["center", "elbow"], 2, "the arm so101_sim has no joint 'elbow'"),
        (["center", "--speed", "0"], 2, "--speed: expected a speed above 0"),
        (["park", "--speed", "nan"], 2, "up to 1000 degrees per second, got 'nan'"),
        (["park", "--speed", "100"], 2, "--speed 100 is out of range"),
        (["center", "--calibration", "/nowhere/c.json"], 2, "/nowhere/c.json does not exist"),
        (["center"], 4, "there is no serial port /nowhere/arm"),
        (["park"], 4, "there is no serial port /nowhere/arm"),
        (["free", "--yes"], 4, "there is no serial port /nowhere/arm"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line_with_a_hint(
    arguments: list[str], code: int, message: str, capsys: Captured
) -> None:
    assert main(["arm", *arguments, "--arm", "sim", "--port", "/nowhere/arm"]) == code
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: ")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["center", "park"])
def test_an_arm_with_a_missing_servo_is_not_energised(tmp_path: Path, verb: str, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.bus.servo(4).connected = False
        assert arm(bench, verb) == 3
        assert bench.torque() == [0] * 6
    assert "servo 4 (wrist_flex) does not answer" in capsys.readouterr().err


# -- free ----------------------------------------------------------------------------------------------------


def test_a_holding_arm_is_released_with_yes(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.hold()
        assert arm(bench, "free", "--yes") == 0
        assert bench.torque() == [0] * 6
    assert "torque off, read back from all 6 servos (held before: shoulder_pan," in capsys.readouterr().out


@pytest.mark.slow
def test_without_yes_and_without_a_terminal_the_arm_keeps_holding(tmp_path: Path) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.hold()
        with process(bench, "arm", "free") as freeing:
            assert freeing.wait(PATIENCE_S) == 2
            assert freeing.stdout is not None
            assert "error: the arm would drop: shoulder_pan," in freeing.stdout.read()
        assert bench.torque() == [1] * 6


def test_a_released_arm_needs_no_confirmation(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        assert arm(bench, "free") == 0
    assert "none of them held" in capsys.readouterr().out


def test_a_servo_that_does_not_release_is_named(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.hold()
        bench.bus.servo(3).accepts_torque = False
        assert arm(bench, "free", "--yes") == 3
        assert bench.torque() == [0, 0, 1, 0, 0, 0]
    assert "servo of elbow_flex did not confirm that its torque is off" in capsys.readouterr().err


@pytest.mark.slow
def test_a_silent_servo_is_named_and_the_others_are_free(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.hold()
        bench.bus.servo(3).connected = False
        assert arm(bench, "free", "--yes") == 3
        assert bench.torque() == [0, 0, 1, 0, 0, 0]
    assert "elbow_flex" in capsys.readouterr().err


@pytest.mark.slow
def test_an_arm_without_supply_is_reported_as_already_released(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        for servo in bench.bus.servos:
            servo.connected = False
        assert arm(bench, "free", "--yes") == 3
    assert "without supply is already released" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code", "torque"), [(b"y\n", 0, 0), (b"\n", 1, 1), (b"no\n", 1, 1)])
def test_a_person_at_a_terminal_is_asked(tmp_path: Path, answer: bytes, code: int, torque: int) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.hold()
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "sefa_edge", "arm", "free", "--arm", "sim", "--port", bench.port.path]
        freeing = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        seen = b""
        while b"[y/N]" not in seen:
            readable, _, _ = select.select([master], [], [], PATIENCE_S)
            assert readable, seen
            seen += os.read(master, 4096)
        assert b"THE ARM DROPS" in seen
        if torque == 0:
            bench.ask_for_release()
        os.write(master, answer)
        assert freeing.wait(PATIENCE_S) == code
        os.close(master)
        assert bench.torque() == [torque] * 6


# -- two programs, one port --------------------------------------------------------------------------------


@contextmanager
def watching(bench: JudgedBench) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the port: `arm status --watch`."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "sefa_edge", "arm", "status", "--arm", "sim", "--port", bench.port.path, "--watch"]
    started = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while b"Ctrl-C ends it" not in seen:
        readable, _, _ = select.select([master], [], [], PATIENCE_S)
        assert readable, seen
        seen += os.read(master, 4096)
    yield started
    started.send_signal(signal.SIGINT)
    with suppress(OSError):  # reads as the end of the terminal; the process cannot end while its output is unread
        while select.select([master], [], [], PATIENCE_S)[0] and os.read(master, 4096):
            pass
    assert started.wait(PATIENCE_S) == 0
    os.close(master)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["scan"],
        ["status", "--arm", "sim"],
        ["set-id", "gripper", "--write-eeprom", "--arm", "sim"],
        ["center", "--arm", "sim"],
        ["free", "--yes", "--arm", "sim"],
        ["park", "--arm", "sim"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_port_that_another_process_holds_is_refused_with_its_name(
    tmp_path: Path, arguments: list[str], capsys: Captured
) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        bench.hold()
        before = bench.registers()
        with watching(bench) as holder:
            assert main(["arm", *arguments, "--port", bench.port.path]) == 4
            assert holder.pid in [opener.pid for opener in openers(Path(bench.port.path))]
        assert bench.registers() == before
    error, hint = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"error: {bench.port.path} is in use by another program \(process {holder.pid}, python[\d.]*\)", error
    )
    assert hint == "hint: one program owns an arm; stop the other one"


@pytest.mark.once
@pytest.mark.slow
def test_a_run_and_the_arm_commands_refuse_each_others_port(
    tmp_path: Path, reach_engine: Path, capsys: Captured
) -> None:
    import numpy as np

    (tmp_path / "pictures").mkdir()
    write_picture(tmp_path / "pictures/0.png", np.full((96, 96, 3), 128, np.uint8))
    run = ["run", "--engine", str(reach_engine), "--arm", "so101_sim", "--camera", f"images:{tmp_path / 'pictures'}"]
    run += ["--video", "none", "--seconds", "100", "--port"]
    with arm_on_the_bench(tmp_path) as bench:
        with watching(bench) as holder:
            assert main([*run, bench.port.path]) == 4
        assert f"(process {holder.pid}, " in capsys.readouterr().err
        command = [sys.executable, "-m", "sefa_edge", *run, bench.port.path]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
            while bench.torque() != [reg.TORQUE_ON] * 6:
                assert running.poll() is None
                time.sleep(0.05)
            assert arm(bench, "status") == 4
            assert "is in use by another program (process " in capsys.readouterr().err
            assert arm(bench, "free", "--yes") == 4
            assert bench.torque() == [reg.TORQUE_ON] * 6
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=PATIENCE_S)
            assert running.returncode == 130


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["not read", "Ctrl-S"])
@pytest.mark.parametrize("verb", ["park", "center"])
def test_a_frozen_terminal_does_not_delay_a_moving_arm(tmp_path: Path, verb: str, frozen: str) -> None:
    """It parks and releases, or ends holding, and exits, even though its output cannot be written."""
    master, slave = pty.openpty()
    with arm_on_the_bench(tmp_path) as bench:
        arguments = ["arm", verb, "--arm", "sim", "--port", bench.port.path, "--speed", "60"]
        with subprocess.Popen(
            [sys.executable, "-m", "sefa_edge", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        ) as moving:
            while bench.torque() != [1] * 6:
                assert moving.poll() is None, os.read(master, 4096)
                time.sleep(0.02)
            if frozen == "Ctrl-S":
                os.write(master, b"\x13")
            else:
                fill(slave)
            assert moving.wait(PATIENCE_S) == 0, os.read(master, 8192)[-600:]
        assert bench.torque() == ([0] * 6 if verb == "park" else [1] * 6)
    os.close(master)
    os.close(slave)


def fill(terminal: int) -> None:
    """Write until the terminal's buffer is full."""
    os.set_blocking(terminal, False)
    with suppress(BlockingIOError):
        while True:
            os.write(terminal, b"x" * 512)
    os.set_blocking(terminal, True)
