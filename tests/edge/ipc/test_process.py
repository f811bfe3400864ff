"""Children that wait for their configuration, and the start time of a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sefa_edge.edge.ipc.process import LEAN, Child, ChildSpec, WithheldConfig, started_ns, trim_heap
from sefa_edge.profiles.units import ms_to_ns

PATIENCE_S = 60.0
ECHO = """
import os, sys
from sefa_edge.edge.ipc.process import read_config
print("waiting", flush=True)
sys.stderr.write(repr((read_config(int(sys.argv[2])), sorted(os.environ.keys() & set(sys.argv[3:])))))
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Child, WithheldConfig]]:
    """A child that prints its configuration."""
    (tmp_path / "echo_config.py").write_text(ECHO.replace("sys.argv[2]", "sys.argv[-1]").replace("[3:]", "[1:-2]"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    withheld = WithheldConfig('{"a": 1}')
    child = Child(ChildSpec("echo", "echo_config", withheld, (), arguments=tuple(LEAN)))
    yield child, withheld
    withheld.close()
    child.stop(0.0)
    child.close()


def until_it_waits(child: Child) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while "waiting" not in child.stderr_tail():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_a_child_waits_for_its_configuration(echo: tuple[Child, WithheldConfig]) -> None:
    child, withheld = echo
    until_it_waits(child)
    assert child.exit_code is None
    withheld.send()
    assert child.wait(PATIENCE_S) == 0
    assert child.stderr_tail().endswith(repr((b'{"a": 1}', sorted(LEAN))))


def test_without_a_configuration_nothing_is_printed(echo: tuple[Child, WithheldConfig]) -> None:
    child, withheld = echo
    withheld.close()
    assert child.wait(PATIENCE_S) == 0
    assert "(b''," in child.stderr_tail()


def test_sending_a_configuration_to_a_dead_child_does_not_fail(echo: tuple[Child, WithheldConfig]) -> None:
    child, withheld = echo
    child.stop(0.0)
    withheld.send()
    child.pin(frozenset({0}))


def test_a_child_is_pinned_with_all_its_threads(echo: tuple[Child, WithheldConfig]) -> None:
    child, _ = echo
    core = min(os.sched_getaffinity(0))
    child.pin(frozenset({core}))
    child.pin(frozenset())
    assert os.sched_getaffinity(child.pid) == {core}


PARENT = """
import os, signal, sys
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.tools.bench_loop.servos import ServosConfig
config = ServosConfig(arm="so101_sim", port=sys.argv[1]).model_dump_json()
child = Child(ChildSpec("simulated servos", "sefa_edge.edge.tools.bench_loop.servos", config, ()))
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_whose_parent_dies_while_it_starts_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "arm")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    child = Path("/proc", done.stdout.strip(), "cmdline")
    give_up_s = time.monotonic() + PATIENCE_S
    while child.exists() and b"bench_loop.servos" in child.read_bytes():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    withheld = WithheldConfig("{}")
    child = Child(ChildSpec("python", "platform", withheld, ()))
    assert child.wait(PATIENCE_S) is not None
    withheld.send()
    child.close()
    assert os.listdir("/proc/self/fd") == before


LOSES_ITS_PYTHON = """
import os, sys
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.profiles.errors import MissingError
os.unlink(sys.executable)
try:
    Child(ChildSpec("echo", "echo", None, ()))
except MissingError as error:
    print(error)
"""


def test_a_program_that_cannot_be_started_is_reported(tmp_path: Path) -> None:
    # A copy of this environment made of links: its interpreter can be removed while it runs.
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.symlink_to(sys.executable)
    (tmp_path / "lib").symlink_to(Path(sys.prefix) / "lib")
    (tmp_path / "pyvenv.cfg").symlink_to(Path(sys.prefix) / "pyvenv.cfg")
    done = subprocess.run(
        [python, "-c", LOSES_ITS_PYTHON], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert "the echo process cannot be started: No such file" in done.stdout


def test_a_process_knows_when_it_was_started() -> None:
    before_ns = time.monotonic_ns()
    program = "from sefa_edge.edge.ipc.process import started_ns; print(started_ns())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert before_ns - ms_to_ns(20) <= int(done.stdout) <= time.monotonic_ns()
    assert started_ns() < before_ns


def test_memory_is_given_back_without_complaint() -> None:
    trim_heap()
