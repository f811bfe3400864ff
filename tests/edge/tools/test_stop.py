"""`sefa-edge stop`, on real processes that hold a real lock on a port."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sefa_edge.edge.tools.stop.arm_user import arm_user
from sefa_edge.firmware_bridge.host.port_lock import locked_ports
from sefa_edge.profiles.errors import MissingError
from sefa_edge.profiles.exit_codes import ExitCode, of_signal
from tests.faults.run_rig import RunRig

HOLD = (
    "import fcntl, os, sys; port = os.open(sys.argv[-1], os.O_RDWR | os.O_NOCTTY); "
    "fcntl.flock(port, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
)


@pytest.fixture
def port() -> Iterator[Path]:
    master, slave = os.openpty()
    yield Path(os.ttyname(slave))
    os.close(master)
    os.close(slave)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[RunRig]:
    made = RunRig(tmp_path)
    yield made
    made.close()


def stop(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sefa_edge", "stop", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("option", [(), ("--emergency",)], ids=["stop", "emergency"])
def test_a_run_ends_as_by_its_own_keyboard(rig: RunRig, option: tuple[str, ...]) -> None:
    rig.start()
    rig.wait_until_moving()
    if option:
        rig.ask_for_release()
    done = stop("--port", str(rig.port_path), *option)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"{rig.port_path}: stopped\n")
    assert str(rig.pid_of("supervisor")) in done.stdout
    assert rig.end() == (ExitCode.FAULT if option else of_signal(signal.SIGINT))
    assert ("arm parked and released" in rig.log()) == (not option)
    assert not any(rig.unit.torque_is_on())
    rig.assert_no_process_is_left()
    rig.assert_clean()


@pytest.mark.slow
def test_the_torque_goes_off_while_the_supervisor_hangs(rig: RunRig) -> None:
    rig.start()
    rig.wait_until_moving()
    rig.signal("supervisor", signal.SIGSTOP)
    rig.ask_for_release()
    done = stop("--port", str(rig.port_path), "--emergency")
    assert not any(rig.unit.torque_is_on())
    assert done.returncode == ExitCode.FAULT
    assert f"has not ended, but does not use the arm on {rig.port_path} any more" in done.stderr
    rig.signal("supervisor", signal.SIGCONT)
    assert rig.end() == ExitCode.FAULT
    rig.assert_clean()


def test_a_port_that_nobody_uses(port: Path, tmp_path: Path) -> None:
    for free in (port, tmp_path / "missing"):
        done = stop("--port", str(free))
        assert done.returncode == 4
        assert done.stderr.startswith(f"error: no arm is in use on {free}\nhint: ")


def test_another_program_is_named_and_not_stopped(port: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        assert port in locked_ports()
        done = stop("--port", str(port), "--emergency")
        assert done.returncode == 4
        assert f"{port} is in use by another program (process {other.pid}, " in done.stderr
        assert other.poll() is None
        other.stdin.close()
        assert other.wait(60) == 0
    assert port not in locked_ports()


def test_this_test_is_another_program(port: Path) -> None:
    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(MissingError, match="in use by another program"):
        arm_user(port)
    os.close(descriptor)
    assert arm_user(port) is None
