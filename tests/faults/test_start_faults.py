"""Any process may be killed while `sefa-edge run` starts: no process or file remains. Two runs never share an arm."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.cli import main
from sefa_edge.edge.pictures import write_picture
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import Instruction, PacketDecoder
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from tests.rigs.simulated_arm import JudgedArm

PATIENCE_S = 120.0  # only ever waited for when something is broken
ARM = "so101_sim"
SERVO_PRIORITY = 40
MARK = "SEFA_EDGE_TEST_RUN"
CAMERA, POLICY, CONTROL = "camera_process", "policy_process", "control_process"
RECORDER, VIDEO = "recorder_process", "video_process"
STOPPED_S = 2.0
"""Longer than the heartbeat timeout."""


class Unit(JudgedArm[KinematicPlant]):
    """A simulated arm, a folder of camera images, and the runs that were started on them."""

    def __init__(self, folder: Path, engine: Path) -> None:
        profile = load_arm_profile(ARM)
        super().__init__(profile, folder / "arm", KinematicPlant.of_arm(profile))
        self.folder, self.engine = folder, engine
        self.runs: list[subprocess.Popen[str]] = []

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for run in self.runs:
            if run.poll() is None:
                run.terminate()
            run.communicate(timeout=PATIENCE_S)
        super().__exit__(kind, *rest)

    def start_run(self, *more: str) -> subprocess.Popen[str]:
        arguments = ["--arm", ARM, "--port", self.port.path, "--camera", f"images:{self.folder / 'pictures'}"]
        command = [
            sys.executable,
            "-m",
            "sefa_edge",
            "run",
            "--engine",
            str(self.engine),
            "--video",
            "none",
            *arguments,
        ]
        self.runs.append(
            subprocess.Popen(
                [*command, "--seconds", "100", *more],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env=os.environ | {MARK: str(self.folder), "TMPDIR": str(self.folder)},
            )
        )
        return self.runs[-1]

    def processes(self) -> dict[int, str]:
        """Process ids and module names of all processes of these runs, orphans included."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError):
                if f"{MARK}={self.folder}\0".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_text().split("\0")[2].rpartition(".")[2]
        return found

    def pid_of(self, module: str) -> int | None:
        return next((pid for pid, name in self.processes().items() if name == module), None)

    def assert_nothing_is_left(self) -> None:
        until(lambda: not self.processes(), "the end of all processes")
        assert sorted(path.name for path in self.folder.iterdir()) == ["arm", "pictures"]


@pytest.fixture
def unit(tmp_path: Path, reach_engine: Path) -> Iterator[Unit]:
    (tmp_path / "pictures").mkdir()
    write_picture(tmp_path / "pictures/0.jpg", np.full((480, 640, 3), 90, np.uint8))
    with Unit(tmp_path, reach_engine) as made:
        yield made


def until(condition: Callable[[], bool], what: str) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, f"timed out waiting for {what}"
        time.sleep(0.02)  # the servos reply from a thread of this process


def is_running(unit: Unit, module: str) -> Callable[[], bool]:
    return lambda: unit.pid_of(module) is not None


def assert_parked_by_second_control(unit: Unit, run: subprocess.Popen[str]) -> None:
    """A second control process has parked and released the arm. Raises AssertionError."""
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 3, errors
    assert "error: the control process ended: killed by SIGKILL: arm parked and released" in errors
    assert not any(unit.torque_is_on())
    unit.assert_nothing_is_left()


@pytest.mark.once
@pytest.mark.parametrize("delay_s", [0.0, 0.1])
@pytest.mark.parametrize("module", [CAMERA, POLICY, CONTROL])
def test_a_run_ends_cleanly_when_a_starting_process_is_killed(unit: Unit, module: str, delay_s: float) -> None:
    run = unit.start_run()
    until(is_running(unit, module), module)
    time.sleep(delay_s)
    pid = unit.pid_of(module)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _, errors = run.communicate(timeout=PATIENCE_S)
    name = module.removesuffix("_process")
    assert run.returncode == 3, errors
    assert f"error: the {name} process ended: killed by SIGKILL" in errors
    unit.assert_untouched()
    unit.assert_nothing_is_left()


@pytest.mark.once
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3])
def test_nothing_is_left_of_a_supervisor_killed_at_start(unit: Unit, delay_s: float) -> None:
    run = unit.start_run()
    until(is_running(unit, CONTROL), CONTROL)
    time.sleep(delay_s)
    run.kill()
    run.wait(PATIENCE_S)
    unit.assert_nothing_is_left()
    assert not any(unit.torque_is_on())


@pytest.mark.once
def test_the_arm_is_not_touched_before_the_cameras_work(unit: Unit) -> None:
    (unit.folder / "pictures/0.jpg").write_bytes(b"no picture")
    run = unit.start_run()
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 2
    assert "0.jpg is not a picture" in errors
    unit.assert_untouched()
    unit.assert_nothing_is_left()


def test_a_second_run_on_the_same_arm_is_refused(unit: Unit) -> None:
    first = unit.start_run()
    until(lambda: all(unit.torque_is_on()), "torque")
    control = unit.pid_of(CONTROL)
    second = unit.start_run()
    _, errors = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 4
    assert f"error: {unit.port.path} is in use by another program (process {control}, " in errors
    assert first.poll() is None
    first.terminate()
    _, errors = first.communicate(timeout=PATIENCE_S)
    assert "stopped by SIGTERM: arm parked and released" in errors
    assert not any(unit.torque_is_on())
    unit.assert_nothing_is_left()


WRITES = (Instruction.WRITE, Instruction.SYNC_WRITE)


def kill_control_at_write(unit: Unit, address: int, nth: int) -> None:
    """Kill the control process at its nth write to this register, as the servos receive it."""
    decoder = PacketDecoder()
    seen: list[int] = []

    def on_request(data: bytes) -> bytes:
        for packet in decoder.feed(data):
            if packet.code in WRITES and packet.parameters[0] == address:
                seen.append(address)
                pid = unit.pid_of(CONTROL) if len(seen) == nth else None
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
        return data

    unit.bus.disturb_request = on_request


@pytest.mark.once
@pytest.mark.parametrize(
    ("address", "nth"),
    [
        (reg.ACCELERATION.address, 1),  # the goal, which energises, before the torque packet
        (reg.TORQUE_ENABLE.address, 1),
        (reg.ACCELERATION.address, 2),  # the first goal of the loop
    ],
)
def test_an_arm_is_parked_when_control_is_killed_while_arming(unit: Unit, address: int, nth: int) -> None:
    kill_control_at_write(unit, address, nth)
    run = unit.start_run()
    assert_parked_by_second_control(unit, run)


@pytest.mark.once
def test_a_limp_arm_is_not_touched_when_control_is_killed_before_its_first_goal(unit: Unit) -> None:
    """Control had reported that the arm may hold; the second control process finds it limp and sends nothing."""
    decoder = PacketDecoder()
    killed = threading.Event()

    def on_request(data: bytes) -> bytes:
        for packet in decoder.feed(data):
            if packet.code in WRITES and packet.parameters[0] == reg.ACCELERATION.address and not killed.is_set():
                killed.set()
                pid = unit.pid_of(CONTROL)
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                return b""  # the goal never arrives
        return data

    unit.bus.disturb_request = on_request
    run = unit.start_run()
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert killed.is_set()
    assert run.returncode == 3, errors
    assert "error: the control process ended: killed by SIGKILL: arm not touched" in errors
    assert not any(unit.torque_is_on())
    with unit.port.lock:
        seen = unit.judge.summary()
    assert (seen.goal_packets, seen.torque_packets) == (1, 0)  # the goal that never arrived
    unit.assert_nothing_is_left()


@pytest.mark.once
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.4])
def test_an_arm_is_released_when_the_supervisor_dies_during_recovery(unit: Unit, delay_s: float) -> None:
    run = unit.start_run()
    until(lambda: all(unit.torque_is_on()), "torque")
    first = unit.pid_of(CONTROL)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: unit.pid_of(CONTROL) not in (None, first), "another control process")
    time.sleep(delay_s)
    run.kill()
    _, errors = run.communicate(timeout=PATIENCE_S)
    until(lambda: not any(unit.torque_is_on()), "the arm to be released")
    until(lambda: not unit.processes(), "the end of all processes")
    assert "arm not touched" not in errors


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("module", [CAMERA, POLICY, RECORDER, VIDEO])
def test_a_stopped_process_does_not_delay_the_end(
    unit: Unit, module: str, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    run = unit.start_run("--record", str(unit.folder / "recordings"), "--video", str(unit.folder / "video.png"))
    assert run.stderr is not None
    while "  running" not in run.stderr.readline():
        assert run.poll() is None
    pid = unit.pid_of(module)
    assert pid is not None
    if number is signal.SIGQUIT:
        unit.ask_for_release()
    os.kill(run.pid, number)
    os.kill(pid, signal.SIGSTOP)
    _, errors = run.communicate(timeout=PATIENCE_S)
    if number is signal.SIGINT:
        assert run.returncode == 130, errors
        assert "stopped by Ctrl-C: arm parked and released" in errors
    else:
        assert run.returncode == 3, errors
        assert "error: emergency stop: arm released where it stood" in errors
    if module == RECORDER:
        assert "the recording is not complete: the recorder did not end in time and was killed" in errors
        assert_readable(unit, capsys)
    if module == VIDEO:
        assert "no pictures: the process that draws them was killed" in errors
    assert not any(unit.torque_is_on())
    until(lambda: not unit.processes(), "the end of all processes")


def assert_readable(unit: Unit, capsys: pytest.CaptureFixture[str]) -> None:
    """Our tools read a recording whose recorder was killed and report that it is incomplete. Raises AssertionError."""
    (partial,) = (unit.folder / "recordings").iterdir()
    assert partial.name.endswith(".mcap.partial")
    assert main(["replay", str(partial), "--part", "commands"]) == 0
    assert "note: the recording is not complete: it ends in the middle" in capsys.readouterr().out
    assert main(["dataset", "from-runs", str(partial), "-o", str(unit.folder / "dataset")]) in (0, 2)
    assert "it ends in the middle" in capsys.readouterr().err


@pytest.mark.once
def test_a_supervisor_may_be_delayed_while_control_starts(unit: Unit) -> None:
    """Heartbeats are expected only after Ready: a delay before it on a busy machine is not a fault."""
    stopped = threading.Event()
    run: list[subprocess.Popen[str]] = []

    def on_request(data: bytes) -> bytes:
        if not stopped.is_set():
            os.kill(run[0].pid, signal.SIGSTOP)
            stopped.set()
        return data

    unit.bus.disturb_request = on_request
    with unit.port.lock:
        run.append(unit.start_run())
    assert stopped.wait(PATIENCE_S)
    time.sleep(STOPPED_S)
    run[0].send_signal(signal.SIGCONT)
    until(lambda: all(unit.torque_is_on()) or run[0].poll() is not None, "torque")
    run[0].send_signal(signal.SIGINT)
    _, errors = run[0].communicate(timeout=PATIENCE_S)
    assert "stopped by Ctrl-C: arm parked and released" in errors


def leave_holding(unit: Unit) -> None:
    """Leave the torque on, as an earlier program may have done."""
    with unit.port.lock:
        for servo in unit.bus.servos:
            servo.write(reg.TORQUE_ENABLE.address, bytes((reg.TORQUE_ON,)))


ALREADY_ON = "arm not touched; its torque was already on in all joints"


@pytest.mark.once
@pytest.mark.parametrize("module", [CAMERA, CONTROL])
def test_ctrl_c_before_the_arm_is_touched_reports_that_it_holds(unit: Unit, module: str) -> None:
    leave_holding(unit)
    run = unit.start_run()
    until(is_running(unit, module), module)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130, errors
    assert f"stopped by Ctrl-C: {ALREADY_ON}" in errors
    assert all(unit.torque_is_on())
    unit.assert_untouched()


@pytest.mark.once
def test_a_holding_arm_is_reported_when_control_is_killed_at_start(unit: Unit) -> None:
    leave_holding(unit)
    run = unit.start_run()
    until(is_running(unit, CONTROL), CONTROL)
    pid = unit.pid_of(CONTROL)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 3, errors
    assert "error: the control process ended: killed by SIGKILL" in errors
    assert ALREADY_ON in errors
    unit.assert_untouched()


@pytest.mark.once
def test_the_emergency_stop_releases_an_arm_that_held_before_the_run(unit: Unit) -> None:
    leave_holding(unit)
    run = unit.start_run()
    until(is_running(unit, CAMERA), CAMERA)
    unit.ask_for_release()
    run.send_signal(signal.SIGQUIT)
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 3, errors
    assert "error: emergency stop: arm released where it stood" in errors
    assert not any(unit.torque_is_on())


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_second_attempt_parks_the_arm(unit: Unit, number: signal.Signals) -> None:
    """The control process that should park the arm is killed or stopped at its start; another one takes over."""
    run = unit.start_run()
    until(lambda: all(unit.torque_is_on()), "torque")
    first = unit.pid_of(CONTROL)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: unit.pid_of(CONTROL) not in (None, first), "another control process")
    second = unit.pid_of(CONTROL)
    assert second is not None
    os.kill(second, number)
    assert_parked_by_second_control(unit, run)


@pytest.mark.once
def test_ctrl_c_does_not_wait_for_a_stopped_control_process(unit: Unit) -> None:
    """It cannot receive the command to stop and has not touched the arm, so the run does not wait for it."""
    stopped = threading.Event()

    def on_request(data: bytes) -> bytes:
        pid = None if stopped.is_set() else unit.pid_of(CONTROL)
        if pid is not None:
            os.kill(pid, signal.SIGSTOP)
            stopped.set()
        return data

    unit.bus.disturb_request = on_request
    run = unit.start_run()
    assert stopped.wait(PATIENCE_S)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130, errors
    assert "stopped by Ctrl-C: arm not touched" in errors
    unit.assert_untouched()
    unit.assert_nothing_is_left()
