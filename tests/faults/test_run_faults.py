"""`sefa-edge run` with real processes that are stopped, killed and unplugged: outcome, exit code, words, no orphans."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.simulation.client import WorldClient
from sefa_edge.profiles.errors import MissingError

pytestmark = pytest.mark.sim

PATIENCE_S = 120.0  # only ever waited for when something is broken
PARKED = "arm parked and released"


@dataclass
class Run:
    """A `sefa-edge run` in a process group of its own, as from a shell."""

    process: subprocess.Popen[bytes]
    log: Path

    def words(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        until(lambda: words in self.words() or self.process.poll() is not None, f"'{words}'")
        assert words in self.words(), self.words()

    def wait_until_moving(self) -> None:
        self.wait_for("  running")

    def children(self) -> dict[int, str]:
        """Process ids and module names of those it started."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    found[int(entry.name)] = (entry / "cmdline").read_text().split("\0")[2].rpartition(".")[2]
        return found

    def pid_of(self, module: str) -> int:
        return next(pid for pid, name in self.children().items() if name == module)

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)


StartRun = Callable[..., Run]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A simulated world of its own; the path is the arm's serial port."""
    port = tmp_path_factory.mktemp("world") / "arm"
    command = [sys.executable, "-m", "sefa_edge", "sim", "--link", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: port.with_name("arm.ctl").exists(), "the simulated world")
    yield port
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    assert list(port.parent.iterdir()) == []


@pytest.fixture
def start(tmp_path: Path, reach_engine: Path) -> Iterator[StartRun]:
    runs: list[Run] = []

    def start_run(*words: str) -> Run:
        log = tmp_path / "log"
        command = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(reach_engine), "--video", "none"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--seconds", "100", "--episode-seconds", "50", *words],
                stdout=output,
                stderr=output,
                cwd=tmp_path,
                start_new_session=True,
                env=os.environ | {"TMPDIR": str(tmp_path)},
            )
        runs.append(Run(process, log))
        return runs[-1]

    yield start_run
    for run in runs:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGTERM)
            run.process.wait(PATIENCE_S)
    assert list(tmp_path.glob("sefa-edge-*")) == [], "a folder was left behind"


def until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_all_gone(pids: dict[int, str]) -> None:
    until(lambda: not any(is_running(pid) for pid in pids), f"the end of {pids}")


def torque_of(port: Path) -> set[bool]:
    with contextlib.closing(WorldClient(port)) as client:
        return set(client.status().torque)


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_person_stops_it(start: StartRun, world: Path, number: signal.Signals, code: int, name: str) -> None:
    run = start("--port", str(world))
    run.wait_until_moving()
    children = run.children()
    assert set(children.values()) == {"camera_process", "policy_process", "control_process"}
    assert torque_of(world) == {True}
    os.killpg(run.process.pid, number)
    assert run.end() == code
    assert f"stopped by {name}: {PARKED}" in run.words()
    assert torque_of(world) == {False}
    assert_all_gone(children)


def test_a_second_ctrl_c_does_not_abandon_the_arm(start: StartRun, world: Path) -> None:
    run = start("--port", str(world))
    run.wait_until_moving()
    os.killpg(run.process.pid, signal.SIGINT)
    run.wait_for("Ctrl-C: stopping")
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.end() == 130
    assert "it will end by itself in a few seconds" in run.words()
    assert torque_of(world) == {False}


def test_ctrl_c_before_anything_moved(start: StartRun) -> None:
    run = start()
    run.wait_for("starting")
    children = run.children()
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.end() == 130
    assert "stopped by Ctrl-C: arm not touched" in run.words()
    assert_all_gone(children)


@pytest.mark.parametrize("module", ["policy_process", "camera_process"])
def test_a_worker_is_killed(start: StartRun, world: Path, module: str) -> None:
    run = start("--port", str(world), "--json", "run.json")
    run.wait_until_moving()
    children = run.children()
    os.kill(run.pid_of(module), signal.SIGKILL)
    assert run.end() == 3
    assert json.loads((run.log.parent / "run.json").read_text())["fault"].endswith(PARKED)
    name = module.removesuffix("_process")
    assert f"error: the {name} process ended: killed by SIGKILL: {PARKED}" in run.words()
    assert torque_of(world) == {False}
    assert_all_gone(children)


def test_the_camera_hangs(start: StartRun, world: Path) -> None:
    run = start("--port", str(world))
    run.wait_until_moving()
    children = run.children()
    os.kill(run.pid_of("camera_process"), signal.SIGSTOP)
    assert run.end() == 3
    assert "error: a camera gives no fresh picture (front, " in run.words()
    assert f" s old): {PARKED}" in run.words()
    assert torque_of(world) == {False}
    assert_all_gone(children)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_control_process_dies_or_hangs(start: StartRun, world: Path, number: signal.Signals) -> None:
    run = start("--port", str(world))
    run.wait_until_moving()
    children = run.children()
    os.kill(run.pid_of("control_process"), number)
    assert run.end() == 3
    what = "ended: killed by SIGKILL" if number is signal.SIGKILL else "fell silent"
    assert "another one parks the arm" in run.words()
    assert f"error: the control process {what}: {PARKED}" in run.words()
    assert torque_of(world) == {False}
    assert_all_gone(children)


def test_the_supervisor_is_killed(start: StartRun, world: Path) -> None:
    run = start("--port", str(world))
    run.wait_until_moving()
    children = run.children()
    run.process.kill()
    run.process.wait()
    assert_all_gone(children)
    # On a busy machine the policy, which dies of it, may be missed first.
    assert f"process is gone: {PARKED}" in run.words()
    assert torque_of(world) == {False}


def test_the_supervisor_is_killed_with_a_world_of_its_own(start: StartRun) -> None:
    run = start()
    run.wait_until_moving()
    children = run.children()
    assert "server" in children.values()
    run.process.kill()
    run.process.wait()
    assert_all_gone(children)
    assert f"process is gone: {PARKED}" in run.words()


def test_the_simulated_world_is_killed(start: StartRun) -> None:
    run = start()
    run.wait_until_moving()
    children = run.children()
    os.kill(run.pid_of("server"), signal.SIGKILL)
    assert run.end() == 3
    assert "error: the simulated world process ended: killed by SIGKILL: arm left holding" in run.words()
    assert_all_gone(children)


def test_the_cable_is_pulled_and_put_back(start: StartRun, world: Path) -> None:
    run = start("--port", str(world))
    run.wait_until_moving()
    children = run.children()
    with contextlib.closing(WorldClient(world)) as client:
        client.unplug()
        run.wait_for("  holding")
        assert set(client.status().torque) == {True}
        client.replug()
    assert run.end() == 3
    assert f"error: the arm's port disappeared: {PARKED}" in run.words()
    assert torque_of(world) == {False}
    assert_all_gone(children)


def test_nothing_starts_without_a_world(start: StartRun, tmp_path: Path) -> None:
    run = start("--port", str(tmp_path / "nobody"))
    assert run.end() == 4
    assert "error: no simulated world at" in run.words()
    with pytest.raises(MissingError):
        WorldClient(tmp_path / "nobody")
