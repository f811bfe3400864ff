"""Child processes: started with the descriptors they need, heard when they fail, never left behind."""

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
from sefa_edge.profiles.units import NS_PER_S

PR_SET_PDEATHSIG = 1
LAST_WORDS_BYTES = 16384
STAT_STATE, STAT_START, STAT_TIMES = 3, 22, (14, 15)
"""Fields of /proc/PID/stat: the first one after the name, when the process was started, and what it has used."""
KILL_PATIENCE_S = 5.0
"""From SIGKILL to the end of a process that is not stuck in the kernel, on a busy machine."""
LEAN = {
    # Otherwise every process that imports numpy keeps a pool of threads for matrices that nobody multiplies.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Otherwise pydantic reads the metadata of every installed package, in search of plugins.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
    "ORT_DISABLE_TELEMETRY": "1",  # as in the command `sefa-edge`; a thread less
}
"""Environment of a process of the runtime, for a quick start and a small memory."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start: `python -m module [arguments] [--config FD]`, where FD holds the JSON `config`."""

    name: str
    module: str
    config: str | Briefing | None
    inherited_fds: tuple[int, ...]
    arguments: tuple[str, ...] = ()
    stderr_fd: int | None = None
    """Where its standard error goes; None: kept in memory, so that the supervisor can tell its last words."""


class Briefing:
    """A configuration that is told later: the child loads its modules meanwhile, and waits.

    `close` without `give`, and the end of this process, tell it nothing: `read_config` is empty, and it ends.
    """

    def __init__(self, config: str) -> None:
        self._config = config.encode()
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC)

    def hand_over(self) -> int:
        """The child's end, once; whoever takes it closes it."""
        return self._read_fd

    def give(self) -> None:
        """Let the child begin."""
        with contextlib.suppress(BrokenPipeError):  # it has died; that is noticed elsewhere
            os.write(self._write_fd, self._config)
        self.close()

    def close(self) -> None:
        """Forget a child that is not needed, or has begun."""
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1


class Child:
    """A running child process."""

    def __init__(self, spec: ChildSpec) -> None:
        self.name = spec.name
        self._words_fd = os.memfd_create(f"sefa-{spec.name}-stderr", os.MFD_CLOEXEC)
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
                stdout=self._words_fd,
                stderr=self._words_fd if spec.stderr_fd is None else spec.stderr_fd,
                pass_fds=fds,
                start_new_session=True,
                env=os.environ | LEAN,
            )
        except OSError as error:
            message = f"the {spec.name} process cannot be started: {error.strerror}"
            raise MissingError(message, "is there memory left, and room for another process?") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def pin(self, cpus: frozenset[int]) -> None:
        """Keep all its threads on these cores; empty: on any."""
        with contextlib.suppress(OSError):  # it has ended, or it is not permitted: it runs anywhere
            for thread in os.listdir(f"/proc/{self.pid}/task") if cpus else ():
                os.sched_setaffinity(int(thread), cpus)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; None when it still runs after `timeout_s`."""
        poller = select.poll()
        poller.register(self.exit_fd, select.POLLIN)
        poller.poll(max(0.0, timeout_s) * 1000)
        return self.exit_code

    def stop(self, patience_s: float) -> None:
        """End it: SIGTERM, then SIGKILL after `patience_s`; a process that is stuck in the kernel may outlive this."""
        if self.exit_code is None:
            self.send_signal(signal.SIGTERM)
            self.wait(patience_s)
        self.kill(KILL_PATIENCE_S)

    def send_signal(self, number: signal.Signals) -> None:
        """Never blocks, and does nothing once the process has ended: safe to call from a signal handler."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self.exit_fd, number)

    def kill(self, patience_s: float) -> None:
        """SIGKILL, and wait for at most `patience_s` until it took effect."""
        if self.exit_code is None:
            self.send_signal(signal.SIGKILL)
            self.wait(patience_s)

    def processor_ticks(self) -> int:
        """Processor time that it has used so far, in ticks of the kernel; a process that is stuck uses none.

        Source: proc(5), fields 14 and 15 of /proc/PID/stat.
        """
        fields = self._stat()
        return sum(int(fields[number - STAT_STATE]) for number in STAT_TIMES) if fields else 0

    def wants_processor(self) -> bool:
        """Whether it is running, or waits for a processor that others use. Source: proc(5), field 3."""
        return self._stat()[:1] == ["R"]

    def _stat(self) -> list[str]:
        """/proc/PID/stat from field 3 on; empty for a process that is gone."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return []

    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        size = os.fstat(self._words_fd).st_size
        return os.pread(self._words_fd, LAST_WORDS_BYTES, max(0, size - LAST_WORDS_BYTES)).decode(errors="replace")

    def failure(self) -> SefaError:
        """Why it ended, as the error it printed or, for a crash, as its last line."""
        return _failure(self.name, self.exit_code, self.last_words())

    def close(self) -> None:
        """Forget a process that has ended."""
        descriptors, self.exit_fd = (self.exit_fd, self._words_fd), -1
        for descriptor in descriptors:
            os.close(descriptor)


def be_lean() -> None:
    """For this very process what a child is given anyway; before numpy and pydantic are imported."""
    os.environ.update(LEAN)


def child_main(work: Callable[[bytes], int]) -> int:
    """Body of a child's `__main__`: reads `--config FD`, dies with its parent, prints failures plainly."""
    console.install()
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=int, required=True)
    config_fd = parser.parse_args().config
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGQUIT):  # Ctrl-C is the supervisor's to handle, Ctrl-\ control's as well
        signal.signal(number, signal.SIG_IGN)
    try:
        return work(read_config(config_fd))
    except SefaError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code


def read_config(fd: int) -> bytes:
    """Content of the inherited configuration descriptor, which is closed."""
    with os.fdopen(fd, "rb") as file:
        return file.read()


def give_memory_back() -> None:
    """To the operating system, after the start: what was read, unpacked and thrown away meanwhile."""
    with contextlib.suppress(AttributeError):  # only glibc has the call
        ctypes.CDLL(None).malloc_trim(0)


def started_ns() -> int:
    """When this process was started (CLOCK_MONOTONIC), before it loaded anything; up to 10 ms early.

    Source: proc(5), field 22 of /proc/PID/stat, in clock ticks since the boot.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    boot_s = int(fields[STAT_START - STAT_STATE]) / os.sysconf("SC_CLK_TCK")
    age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - round(boot_s * NS_PER_S)
    return time.monotonic_ns() - age_ns


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies; also when it died just now."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _config_fd(config: str | Briefing | None) -> int | None:
    if isinstance(config, Briefing):
        return config.hand_over()
    return None if config is None else _memory_file(config)


def _memory_file(content: str) -> int:
    fd = os.memfd_create("sefa-config", os.MFD_CLOEXEC)
    os.write(fd, content.encode())
    os.lseek(fd, 0, os.SEEK_SET)  # the child shares the position
    return fd


def _failure(name: str, exit_code: int | None, words: str) -> SefaError:
    lines = [line for line in words.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    if errors:
        told = exit_code if exit_code in ERRORS else ExitCode.FAULT
        return SefaError(errors[-1], hints[-1] if hints else "", told)
    return SefaError(f"the {name} process ended: {_ending(exit_code)}", lines[-1] if lines else "", ExitCode.FAULT)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
