"""`sefa-edge calibrate` as a person uses it: a real terminal, simulated joints moved by hand, ENTER, Ctrl-C."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.calibration import load_calibration
from tests.rigs.calibration_stand import FACTORY, MIDDLE, NAMES, PROFILE, Stand, stand_at

PATIENCE_S = 60.0
"""A hang fails; a slow machine does not."""

ON_A_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\n"
REACH = 900
SWEPT = [
    (middle - 2047, *((0, 4095) if joint.turns_freely else (2047 - REACH, 2047 + REACH)))
    for middle, joint in zip(MIDDLE, PROFILE.joints, strict=True)
]


class Operator:
    """A person at their own terminal."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._master, slave = os.openpty()
        self.screen = ""
        self._seen = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, sys.executable, "-m", "sefa_edge", "calibrate", *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, **environment},
        )  # fmt: skip
        os.close(slave)

    def see(self, pattern: str) -> None:
        """Wait until this pattern appears after the previous match."""
        while (match := re.compile(pattern).search(self.screen, self._seen)) is None:
            assert self._read(), f"the program ended without showing {pattern!r}:\n{self.screen}"
        self._seen = match.end()

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def leave(self) -> int:
        """Wait for the end of the program; return its exit code."""
        while self._read():
            pass
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        readable, _, _ = select.select((self._master,), (), (), PATIENCE_S)
        assert readable, f"nothing new on the screen:\n{self.screen}"
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the program has closed the terminal
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with stand_at(tmp_path / "arm") as made:
        yield made


@pytest.fixture
def operator(stand: Stand, tmp_path: Path) -> Iterator[Operator]:
    environment = {"HF_LEROBOT_CALIBRATION": str(tmp_path / "lerobot"), "XDG_STATE_HOME": str(tmp_path / "state")}
    person = Operator(["--arm", "so101", "--port", stand.port.path, "--id", "black"], environment)
    yield person
    person.close()


def lerobot_file(tmp_path: Path) -> Path:
    return tmp_path / "lerobot" / "robots" / "so_follower" / "black.json"


def take_middle(operator: Operator) -> None:
    operator.see(r"middle of its travel[\s\S]*encoder[\s\S]*gripper +\d")
    operator.type(ENTER)


def move_all(stand: Stand, operator: Operator, shift: int) -> None:
    for name, middle in zip(NAMES, MIDDLE, strict=True):
        stand.move(name, middle + shift)
    operator.see(rf"gripper +{2047 + shift} ")


def sweep(stand: Stand, operator: Operator) -> None:
    operator.see(r"one end to the other[\s\S]*lowest")
    for shift in (REACH, 0, -REACH):
        move_all(stand, operator, shift)
    operator.type(ENTER)


@pytest.mark.slow
def test_a_new_arm_is_calibrated_and_written_after_write_is_typed(
    stand: Stand, operator: Operator, tmp_path: Path
) -> None:
    operator.see("torque of all servos is off")
    take_middle(operator)
    sweep(stand, operator)
    operator.see(r"in the servos now[\s\S]*Type 'write'.*: ")
    assert stand.carried() == FACTORY, "nothing may be written before the confirmation"
    operator.type("write\n")
    assert operator.leave() == 0, operator.screen
    assert stand.carried() == SWEPT
    assert stand.locked() == [1] * 6
    entries = load_calibration(lerobot_file(tmp_path), PROFILE).joints
    assert [(e.homing_offset, e.range_min_ticks, e.range_max_ticks) for e in entries] == SWEPT
    assert stand.plant.goals == []


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["", "yes write"])
def test_any_other_answer_leaves_the_servos_unchanged_and_keeps_the_numbers(
    stand: Stand, operator: Operator, tmp_path: Path, answer: str
) -> None:
    take_middle(operator)
    sweep(stand, operator)
    operator.see("Type 'write'.*: ")
    operator.type(answer + ENTER)
    assert operator.leave() == 0
    assert stand.carried() == FACTORY
    assert not lerobot_file(tmp_path).exists()
    (kept,) = (tmp_path / "state" / "sefa-edge" / "calibration").iterdir()
    assert load_calibration(kept, PROFILE).joints[0].homing_offset == SWEPT[0][0]
    assert f"--restore {kept}" in operator.screen


@pytest.mark.slow
def test_an_arm_that_holds_is_released_only_after_the_warning(stand: Stand, tmp_path: Path) -> None:
    stand.energise("shoulder_lift", "elbow_flex")
    environment = {"HF_LEROBOT_CALIBRATION": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    operator = Operator(["--port", stand.port.path], environment)
    try:
        operator.see("torque is on: shoulder_lift, elbow_flex")
        operator.see("SAG")
        operator.see("ENTER switches the torque off")
        assert stand.torque_is_on().count(True) == 2
        operator.type(ENTER)
        operator.see("torque of all servos is off, read back")
        assert not any(stand.torque_is_on())
        operator.type(CTRL_C)
        assert operator.leave() == 130
    finally:
        operator.close()


CTRL_C_BEFORE_EACH_QUESTION = """
import os, signal, sys, time
from sefa_edge.firmware_bridge.service.calibration_terminal import CalibrationTerminal
keyboard, screen = open(0, closefd=False), open(1, "w", closefd=False)
terminal, typed, received = CalibrationTerminal(keyboard, screen), int(sys.argv[1]), []
signal.signal(signal.SIGINT, lambda *_: received.append(1))
for _ in range(200):
    received.clear()
    os.write(typed, b"\\x03")
    terminal._discard_keys()
    give_up_s = time.monotonic() + 2.0
    while not received:
        if time.monotonic() > give_up_s:
            sys.exit(1)
        time.sleep(0.0005)
"""


def test_a_ctrl_c_that_was_just_typed_survives_the_discarding_of_keys() -> None:
    keyboard, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, sys.executable, "-c", CTRL_C_BEFORE_EACH_QUESTION, str(keyboard)],
        stdin=terminal, stdout=terminal, start_new_session=True, pass_fds=(keyboard,),
    )  # fmt: skip
    os.close(terminal)
    assert process.wait(PATIENCE_S) == 0
    os.close(keyboard)


@pytest.mark.slow
def test_ctrl_c_before_the_release_leaves_the_arm_holding(stand: Stand, tmp_path: Path) -> None:
    stand.energise("shoulder_lift")
    operator = Operator(["--port", stand.port.path], {"HF_LEROBOT_CALIBRATION": str(tmp_path)})
    try:
        operator.see("ENTER switches the torque off")
        operator.type(CTRL_C)
        assert operator.leave() == 130
        assert stand.torque_is_on()[1]
        assert "Nothing was written" in operator.screen
    finally:
        operator.close()


@pytest.mark.slow
def test_enter_before_the_ranges_are_complete_continues_the_sweep(stand: Stand, operator: Operator) -> None:
    take_middle(operator)
    operator.see(r"one end to the other[\s\S]*lowest")
    move_all(stand, operator, 200)
    operator.type(ENTER)
    operator.see("shoulder_pan was moved over 200 of about 2503 ticks")
    operator.see("Not yet: move every joint from one end to the other[\\s\\S]*lowest")
    for shift in (REACH, 0, -REACH):
        move_all(stand, operator, shift)
    operator.type(ENTER)
    operator.see("Type 'write'.*: ")
    assert [entry[0] for entry in stand.carried()] == [0] * 6


@pytest.mark.slow
def test_an_encoder_that_wraps_asks_for_the_middle_again(stand: Stand, operator: Operator) -> None:
    stand.move("elbow_flex", 2047 - 1200)  # far from its middle
    take_middle(operator)
    operator.see(r"one end to the other[\s\S]*lowest")
    for at in (0, 800, 1600, 2040, 2060):  # reads 2047 at -1200, so it crosses the end between the last two
        stand.move("elbow_flex", 2047 - 1200 + at)
        operator.see(rf"elbow_flex +{(2047 + at) % 4096} {'.*OVER THE' if at > 2048 else ''}")
    operator.type(ENTER)
    operator.see(r"elbow_flex crossed its encoder's end \(0/4095\)")
    operator.see("take the middle pose again")
    stand.move("elbow_flex", MIDDLE[2])
    take_middle(operator)
    sweep(stand, operator)
    operator.see("Type 'write'.*: ")
    operator.type("write\n")
    assert operator.leave() == 0
    assert stand.carried() == SWEPT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "keys"), [("middle", CTRL_D), ("middle", CTRL_C), ("sweep", CTRL_C), ("question", CTRL_C)]
)
def test_aborting_leaves_the_old_numbers_and_reports_that(
    stand: Stand, operator: Operator, tmp_path: Path, stage: str, keys: str
) -> None:
    operator.see(r"encoder[\s\S]*gripper +\d")
    if stage != "middle":
        operator.type(ENTER)
        operator.see("lowest")
    if stage == "question":
        for shift in (REACH, 0, -REACH):
            move_all(stand, operator, shift)
        operator.type(ENTER)
        operator.see("Type 'write'.*: ")
    operator.type(keys)
    assert operator.leave() == 130
    assert "Nothing was written: the servos have their old numbers." in operator.screen
    assert "Traceback" not in operator.screen
    assert stand.carried() == FACTORY
    assert not lerobot_file(tmp_path).exists()


@pytest.mark.slow
def test_a_servo_that_falls_silent_ends_the_calibration_and_is_named(stand: Stand, operator: Operator) -> None:
    take_middle(operator)
    operator.see("lowest")
    with stand.port.lock:
        stand.bus.servos[3].connected = False
    operator.see("wrist_flex +silent")
    assert operator.leave() == 3
    assert "error: the servo of wrist_flex does not report its position" in operator.screen
    assert stand.carried() == FACTORY
