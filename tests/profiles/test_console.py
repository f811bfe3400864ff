"""The writer behind standard output and standard error: pipes, terminals, full disks, control characters."""

from __future__ import annotations

import contextlib
import os
import pty
import resource
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sefa_edge.profiles.console import ConsoleStream, Output, one_line, printable

FOREVER_S = 1e6


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Master and slave of a pseudo-terminal in raw mode."""
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    settings[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    yield master, slave
    for fd in (master, slave):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def fill(output: Output) -> None:
    while output.write(b"x" * 1000):
        pass


def test_written_text_arrives(pipe: tuple[int, int]) -> None:
    stream = ConsoleStream(Output(pipe[1]), 0.1)
    print("one", "two", file=stream)
    stream.write("three")
    assert os.read(pipe[0], 100) == b"one two\n"
    stream.flush()
    assert os.read(pipe[0], 100) == b"three"


def test_output_is_dropped_when_the_reader_of_a_pipe_is_gone(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    os.close(pipe[0])
    assert not output.write(b"lost")
    assert not output.write(b"lost")
    assert not output.hung_up


def test_output_waits_only_once_for_a_reader_that_does_not_read(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    assert not output.write(b"x" * 100_000)
    for _ in range(3):
        assert not output.write(b"a message\n", FOREVER_S)
    os.read(pipe[0], 65536)
    assert output.write(b"back\n")
    assert os.read(pipe[0], 65536) == b"\nback\n", "a newline first ends the line that was cut off"


def test_a_shared_descriptor_stays_blocking(pipe: tuple[int, int]) -> None:
    Output(pipe[1]).write(b"x")
    assert os.get_blocking(pipe[1])


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["not read", "Ctrl-S"])
def test_output_waits_only_once_for_a_frozen_terminal(terminal: tuple[int, int], frozen: str) -> None:
    output = Output(terminal[1])
    if frozen == "Ctrl-S":
        termios.tcflow(terminal[1], termios.TCOOFF)
        assert not output.write(b"x")
    else:
        fill(output)
    for _ in range(3):
        assert not output.write(b"a message\n", FOREVER_S)
    assert not output.hung_up
    if frozen == "Ctrl-S":
        termios.tcflow(terminal[1], termios.TCOON)
        assert output.write(b"back")


def test_a_terminal_that_hung_up_raises_sighup_once(terminal: tuple[int, int]) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: received.append(number))
    try:
        output = Output(terminal[1])
        os.close(terminal[0])
        for _ in range(3):
            assert not output.write(b"lost")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert output.hung_up
    assert received == [signal.SIGHUP]


def test_a_full_disk_is_recorded_as_the_failure() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    output = Output(fd)
    assert not output.write(b"lost")
    assert output.failure is not None
    assert "No space" in str(output.failure)
    os.close(fd)


def test_output_to_an_invalid_descriptor_is_dropped() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    assert not Output(fd).write(b"lost")
    os.close(fd)
    assert not Output(fd).write(b"lost")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 30 °C …\n\tü", "plain, 30 °C …\n\tü"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb\x08\x7f\x9b31m", "a\\x0db\\x08\\x7f\\x9b31m"),
        ("windows\r\nline", "windows\nline"),
        ("abc\u202edcba\u2066\u200f", "abc\\u202edcba\\u2066\\u200f"),
        ("half \udcff", "half \\udcff"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str, pipe: tuple[int, int]) -> None:
    assert printable(text) == shown
    ConsoleStream(Output(pipe[1]), 0.1).write(text + "\n")
    assert os.read(pipe[0], 1000).decode() == shown + "\n"


def test_an_error_is_one_line() -> None:
    assert one_line("a\nb\x1b") == "a b\\x1b"


# -- the program -------------------------------------------------------------------------------------------------------


def sefa_edge(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sefa_edge", *arguments]


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", "1>&- 2>&-"])
@pytest.mark.parametrize(
    "arguments", [("--help",), ("inspect", "absent.onnx"), ("arm", "status", "--port", "/dev/null")]
)
def test_closed_descriptors_change_no_exit_code(redirection: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    usual = subprocess.run(sefa_edge(*arguments), capture_output=True, cwd=tmp_path)
    script = f'"$@" {redirection}'
    done = subprocess.run(["sh", "-c", script, "sh", *sefa_edge(*arguments)], capture_output=True, cwd=tmp_path)
    assert done.returncode == usual.returncode
    if "2>&-" not in redirection:
        assert done.stderr == usual.stderr
    assert b"Traceback" not in done.stderr + done.stdout
    assert b"Exception" not in done.stderr + done.stdout


@pytest.mark.slow
def test_files_are_not_opened_as_standard_error(reach_engine: Path, tmp_path: Path) -> None:
    """With descriptor 2 closed, the first file opened would get its number and receive every message."""
    script = '"$@" 2>&- >out'
    arguments = sefa_edge("inspect", str(reach_engine), "--json", "card.json")
    subprocess.run(["sh", "-c", script, "sh", *arguments], check=True, cwd=tmp_path)
    assert (tmp_path / "card.json").read_text().startswith("{")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("inspect",)])
def test_a_closed_reader_changes_no_exit_code(arguments: tuple[str, ...], reach_engine: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    more = (str(reach_engine),) if arguments == ("inspect",) else ()
    done = subprocess.run(sefa_edge(*arguments, *more), stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_a_result_waits_for_a_slow_reader(reach_engine: Path) -> None:
    """More than a pipe holds, to a reader that does not read at once, such as a pager."""
    code = "from sefa_edge.profiles import console; console.install(); print('x' * 300000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        time.sleep(0.5)
        assert len(process.stdout.read()) == 300001
    assert process.returncode == 0


@pytest.mark.slow
def test_standard_output_on_a_full_disk_is_reported(reach_engine: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(sefa_edge("inspect", str(reach_engine)), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard output cannot be written: No space left on device\nhint: ")


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_reported(reach_engine: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    arguments = sefa_edge("inspect", str(reach_engine), "--json", "card.json")
    done = subprocess.run(arguments, preexec_fn=limit, capture_output=True, cwd=tmp_path)
    assert done.returncode == 2
    assert b"error: card.json cannot be written: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []
