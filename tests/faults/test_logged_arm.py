"""The log of a simulated world in another process, and its judge."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.firmware_bridge.host.feetech.feetech_arm import FeetechArm, open_feetech_arm
from sefa_edge.firmware_bridge.host.messages import JointGoal
from sefa_edge.firmware_bridge.simulation.wire_log import WIRE_LOG_VARIABLE, WireLog
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError
from tests.faults.logged_arm import FROM_SERVOS, JOINTS, TO_SERVOS, LoggedArm, read_log
from tests.faults.wire_limits import wire_limits
from tests.faults.wire_rules import Rule

PATIENCE_S = 60.0
PROFILE = load_arm_profile("so101_sim")
SERVER = "sefa_edge.firmware_bridge.simulation.server"


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@contextmanager
def logged_world(port: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A world that writes a log, until it ends or is terminated here."""
    port.parent.mkdir()
    command = [sys.executable, "-m", SERVER, "--task", "lift", "--seed", "0", "--port", str(port)]
    environment = os.environ | {WIRE_LOG_VARIABLE: str(log)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    try:
        until(lambda: port.exists() or process.poll() is not None)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


@contextmanager
def opened(port: Path) -> Iterator[FeetechArm]:
    with contextlib.closing(open_feetech_arm(PROFILE, str(port), None)) as arm:
        yield arm


def judged(log: Path, release_requested_ns: int | None = None) -> LoggedArm:
    arm = LoggedArm(wire_limits(PROFILE))
    arm.play(log, release_requested_ns)
    return arm


@pytest.mark.sim
def test_the_log_of_a_killed_world_is_judged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with logged_world(tmp_path / "world/arm", log) as process, opened(tmp_path / "world/arm") as arm:
        arm.enable_torque()
        arm.read_state()
        arm.release_torque()  # it is at its park pose
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    kinds = {record.kind for record in read_log(log)}
    assert kinds == {TO_SERVOS, FROM_SERVOS, JOINTS}
    found = judged(log)
    found.assert_clean()
    assert found.summary().goal_packets == 1
    assert found.summary().torque_packets == 2


@pytest.mark.sim
def test_violations_in_the_log_of_a_world_are_found(tmp_path: Path) -> None:
    """Torque on at the park pose, a jump, torque off without a request."""
    log = tmp_path / "log"
    with logged_world(tmp_path / "world/arm", log), opened(tmp_path / "world/arm") as arm:
        arm.enable_torque()
        arm.send(JointGoal(1, 0, 0, np.array(PROFILE.start_pose_deg)))
        arm.release_torque()
        requested_ns = time.monotonic_ns()
    rules = {violation.rule for violation in judged(log).wire.violations}
    assert rules == {Rule.VELOCITY, Rule.ACCELERATION, Rule.RELEASE}
    assert Rule.RELEASE in {violation.rule for violation in judged(log, requested_ns).wire.violations}
    assert Rule.RELEASE not in {violation.rule for violation in judged(log, 0).wire.violations}


def test_a_log_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        WireLog(tmp_path / "nowhere/log")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_ends_only_the_log() -> None:
    log = WireLog(Path("/dev/full"))
    log.to_servos(b"\xff\xff", 1)
    log.joints([2048.0], [True], 2)
    log.close()
    assert log.trouble == "No space left on device"


def test_an_incomplete_record_is_dropped(tmp_path: Path) -> None:
    log = WireLog(tmp_path / "log")
    log.to_servos(b"abc", 1)
    log.from_servos(b"defg", 2)
    log.close()
    whole = (tmp_path / "log").read_bytes()
    for cut in range(len(whole)):
        (tmp_path / "log").write_bytes(whole[:cut])
        assert [record.content for record in read_log(tmp_path / "log")] == [b"abc"][: cut >= 14]
