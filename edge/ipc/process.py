"""Child processes: started with the file descriptors they need, reported if they fail, never left running."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.profiles import console
from sefa_edge.profiles.errors import MissingError, SefaError
from sefa_edge.profiles.exit_codes import ERRORS, ExitCode
from sefa_edge.profiles.parent import die_with_parent
from sefa_edge.profiles.units import NS_PER_S

STDERR_TAIL_BYTES = 16384
STAT_STATE, STAT_PARENT, STAT_START, STAT_TIMES = 3, 4, 22, (14, 15)
"""Fields of /proc/PID/stat: the state, the parent, the start time, and the processor time used (user and system)."""
KILL_PATIENCE_S = 5.0
"""From SIGKILL to the end of a process that is not stuck in the kernel, on a busy machine."""
PARENT_PID = "SEFA_EDGE_PARENT_PID"
"""Environment variable of a child: the process that started it."""
LEAN = {
    # Otherwise every process that imports numpy keeps a thread pool for matrix products that are never computed.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Otherwise pydantic searches the metadata of every installed package for plugins.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
    "ORT_DISABLE_TELEMETRY": "1",  # as in the command `sefa-edge`; saves a thread
}
"""Environment of a process of the runtime: it starts faster and needs less memory."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start: `python -m module [arguments] [--config FD]`, where FD holds the JSON `config`."""

    name: str
    module: str
    config: str | WithheldConfig | None
    inherited_fds: tuple[int, ...]
    arguments: tuple[str, ...] = ()
    stderr_fd: int | None = None
    """Destination of its standard error; None: kept in memory, for the error message if the process fails."""


class WithheldConfig:
    """A configuration that is sent later: meanwhile the child loads its modules and waits.

    After `close` without `send`, or at the end of this process, the child's `read_config` returns b"" and it exits.
    """

    def __init__(self, config: str) -> None:
        self._config = config.encode()
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC)

    def take_read_fd(self) -> int:
        """The child's end, which the caller closes; call this once."""
        return self._read_fd

    def send(self) -> None:
        """Send the configuration: the child begins."""
        with contextlib.suppress(BrokenPipeError):  # the child has died; that is detected elsewhere
            os.write(self._write_fd, self._config)
        self.close()

    def close(self) -> None:
        """Close the descriptor; without an earlier `send` the child never gets a configuration."""
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1


class Child:
    """A running child process."""

    def __init__(self, spec: ChildSpec) -> None:
        self.name = spec.name
        self._stderr_fd = os.memfd_create(f"sefa-{spec.name}-stderr", os.MFD_CLOEXEC)
        config_fd = _config_fd(spec.config)
        try:
            self._process = self._start(spec, config_fd)
        finally:
            if config_fd is not None:
                os.close(config_fd)
        self.exit_fd = os.pidfd_open(self._process.pid)
        """Readable once the process has ended."""

    def _start(self, spec: ChildSpec, config_fd: int | None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", spec.module, *spec.arguments]
        fds = spec.inherited_fds
        if config_fd is not None:
            command += ["--config", str(config_fd)]
            fds += (config_fd,)
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._stderr_fd,
                stderr=self._stderr_fd if spec.stderr_fd is None else spec.stderr_fd,
                pass_fds=fds,
                start_new_session=True,
                env=os.environ | LEAN | {PARENT_PID: str(os.getpid())},
            )
        except OSError as error:
            message = f"the {spec.name} process cannot be started: {error.strerror}"
            raise MissingError(message, "is there memory left, and room for another process?") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def pin(self, cpus: frozenset[int]) -> None:
        """Pin all its threads to these cores; empty: do nothing."""
        with contextlib.suppress(OSError):  # it has ended, or pinning is not permitted: it runs anywhere
            for thread in os.listdir(f"/proc/{self.pid}/task") if cpus else ():
                os.sched_setaffinity(int(thread), cpus)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end and return the exit code; None if it still runs after `timeout_s`."""
        poller = select.poll()
        poller.register(self.exit_fd, select.POLLIN)
        poller.poll(max(0.0, timeout_s) * 1000)
        return self.exit_code

    def stop(self, patience_s: float) -> None:
        """End it: SIGTERM, then SIGKILL after `patience_s`. A process that is stuck in the kernel may outlive this."""
        if self.exit_code is None:
            self.send_signal(signal.SIGTERM)
            self.wait(patience_s)
        self.kill(KILL_PATIENCE_S)

    def send_signal(self, number: signal.Signals) -> None:
        """Never blocks, and does nothing once the process has ended: a signal handler may call it."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self.exit_fd, number)

    def kill(self, patience_s: float) -> None:
        """Send SIGKILL, and wait at most `patience_s` for the end."""
        if self.exit_code is None:
            self.send_signal(signal.SIGKILL)
            self.wait(patience_s)

    def processor_ticks(self) -> int:
        """Processor time used so far, in kernel clock ticks; a process that is stuck uses none.

        Source: proc(5), fields 14 and 15 of /proc/PID/stat.
        """
        fields = stat_fields(self.pid)
        return sum(int(fields[number - STAT_STATE]) for number in STAT_TIMES) if fields else 0

    def wants_processor(self) -> bool:
        """Whether it runs, or waits for a processor that other processes use. Source: proc(5), field 3."""
        return stat_fields(self.pid)[:1] == ["R"]

    def stderr_tail(self) -> str:
        """The end of what it wrote to standard output and standard error."""
        size = os.fstat(self._stderr_fd).st_size
        return os.pread(self._stderr_fd, STDERR_TAIL_BYTES, max(0, size - STDERR_TAIL_BYTES)).decode(errors="replace")

    def failure(self) -> SefaError:
        """Why it ended: the error that it printed or, after a crash, the last line of its output."""
        return _failure(self.name, self.exit_code, self.stderr_tail())

    def close(self) -> None:
        """Free the descriptors of a process that has ended."""
        descriptors, self.exit_fd = (self.exit_fd, self._stderr_fd), -1
        for descriptor in descriptors:
            os.close(descriptor)


def use_lean_environment() -> None:
    """Set the environment of this process as for its children. Call before numpy and pydantic are imported."""
    os.environ.update(LEAN)


def child_main(work: Callable[[bytes], int]) -> int:
    """Body of a child's `__main__`: reads `--config FD`, dies with its parent, prints a failure as error and hint."""
    console.install()
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=int, required=True)
    config_fd = parser.parse_args().config
    die_with_parent(int(os.environ.get(PARENT_PID, os.getppid())))
    for number in (signal.SIGINT, signal.SIGQUIT):  # the supervisor handles Ctrl-C, and control Ctrl-\ as well
        signal.signal(number, signal.SIG_IGN)
    try:
        return work(read_config(config_fd))
    except SefaError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code


def read_config(fd: int) -> bytes:
    """Read an inherited descriptor to its end, and close it."""
    with os.fdopen(fd, "rb") as file:
        return file.read()


def trim_heap() -> None:
    """Return heap memory that was only needed during the start to the operating system."""
    with contextlib.suppress(AttributeError):  # only glibc has this function
        ctypes.CDLL(None).malloc_trim(0)


def started_ns() -> int:
    """When this process was started (CLOCK_MONOTONIC), before it imported anything; up to 10 ms too early.

    Source: proc(5), field 22 of /proc/PID/stat, in clock ticks since the boot.
    """
    fields = stat_fields(os.getpid())
    boot_s = int(fields[STAT_START - STAT_STATE]) / os.sysconf("SC_CLK_TCK")
    age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - round(boot_s * NS_PER_S)
    return time.monotonic_ns() - age_ns


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from field 3 on (STAT_STATE), which follows the name; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _config_fd(config: str | WithheldConfig | None) -> int | None:
    if isinstance(config, WithheldConfig):
        return config.take_read_fd()
    return None if config is None else _memory_file(config)


def _memory_file(content: str) -> int:
    fd = os.memfd_create("sefa-config", os.MFD_CLOEXEC)
    os.write(fd, content.encode())
    os.lseek(fd, 0, os.SEEK_SET)  # the child shares the position
    return fd


def _failure(name: str, exit_code: int | None, output: str) -> SefaError:
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    if errors:
        code = exit_code if exit_code in ERRORS else ExitCode.FAULT
        return SefaError(errors[-1], hints[-1] if hints else "", code)
    return SefaError(f"the {name} process ended: {_ending(exit_code)}", lines[-1] if lines else "", ExitCode.FAULT)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
