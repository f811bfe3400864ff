"""A closed or blocked terminal or pipe does not disturb the run that writes to it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.run_rig import PATIENCE_S, RunRig

REPORT = "report.json"
pytestmark = pytest.mark.sim


class Watched:
    """A run whose output goes to a descriptor that this program reads until it stops."""

    def __init__(self, folder: Path, reading: int, writing: int) -> None:
        self.rig = RunRig(folder)
        self.reading = reading
        self.rig.has_own_world = True  # servos in a separate process, which replies even on a busy machine
        self.rig.arguments = ["--video", "none", "--json", REPORT]
        path = f"/proc/{os.getpid()}/fd/{writing}"
        self.rig.wrapper = ["sh", "-c", f'exec "$@" >{path} 2>&1', "sh"]
        self.rig.start()
        self.seen = b""
        self.read_until(b"running")
        os.close(writing)
        self.rig.pids = self.rig.children()

    def read_until(self, text: bytes) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            assert time.monotonic() < give_up, self.seen[-500:]
            assert self.rig.exit_code is None, self.seen[-500:]
            if select.select((self.reading,), (), (), 0.1)[0]:
                self.seen += os.read(self.reading, 4096)

    def stop_reading(self) -> None:
        """The reader dies, or the terminal is closed."""
        os.close(self.reading)
        self.reading = -1

    def assert_ended(self, exit_code: int, ending: str) -> None:
        assert self.rig.end() == exit_code
        self.rig.assert_no_process_is_left()
        report = json.loads((self.rig.folder / REPORT).read_text())
        assert (report["exit_code"], ending in report["ending"]) == (exit_code, True), report["ending"]

    def close(self) -> None:
        if self.reading >= 0:
            os.close(self.reading)
        self.rig.close()


@pytest.fixture
def on_terminal(tmp_path: Path) -> Iterator[Watched]:
    master, slave = pty.openpty()
    watched = Watched(tmp_path, master, slave)
    yield watched
    watched.close()


@pytest.fixture
def on_pipe(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path, *os.pipe())
    yield watched
    watched.close()


def test_a_terminal_that_is_closed_parks_the_arm(on_terminal: Watched) -> None:
    on_terminal.stop_reading()
    on_terminal.assert_ended(129, "stopped by the terminal's end: arm parked and released")


def test_a_closed_terminal_and_a_killed_control_process_park_the_arm(on_terminal: Watched) -> None:
    on_terminal.stop_reading()
    on_terminal.rig.signal("control_process", signal.SIGKILL)
    assert on_terminal.rig.end() in (3, 129)
    report = json.loads((on_terminal.rig.folder / REPORT).read_text())
    assert "arm parked and released" in report["ending"]


@pytest.mark.once
@pytest.mark.parametrize("blocked", ["not read", "Ctrl-S"])
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_blocked_terminal_delays_no_process(on_terminal: Watched, blocked: str, number: int, exit_code: int) -> None:
    if blocked == "Ctrl-S":
        os.write(on_terminal.reading, b"\x13")
    time.sleep(0.5)
    on_terminal.rig.signal_all(signal.Signals(number))
    on_terminal.assert_ended(exit_code, "arm parked and released")


def test_a_run_continues_when_the_reader_of_its_pipe_dies(on_pipe: Watched) -> None:
    on_pipe.stop_reading()
    time.sleep(1.0)
    assert on_pipe.rig.exit_code is None
    on_pipe.rig.signal_all(signal.SIGTERM)
    on_pipe.assert_ended(143, "stopped by SIGTERM: arm parked and released")


def test_ctrl_c_that_also_kills_tee_parks_the_arm(on_pipe: Watched) -> None:
    on_pipe.stop_reading()
    on_pipe.rig.signal_all(signal.SIGINT)
    on_pipe.assert_ended(130, "stopped by Ctrl-C: arm parked and released")


def test_an_emergency_stop_that_also_kills_tee_is_completed(on_pipe: Watched) -> None:
    on_pipe.stop_reading()
    on_pipe.rig.signal_all(signal.SIGQUIT)
    on_pipe.assert_ended(3, "emergency stop")
