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
from collections.abc import Callable
from dataclasses import dataclass

from sefa_edge.profiles.errors import SefaError

PR_SET_PDEATHSIG = 1
LAST_WORDS_BYTES = 16384
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Otherwise every process that imports numpy keeps a pool of threads for matrices that nobody multiplies."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start: `python -m module [arguments] [--config FD]`, where FD holds the JSON `config`."""

    name: str
    module: str
    config: str | None
    inherited_fds: tuple[int, ...]
    arguments: tuple[str, ...] = ()
    cpus: frozenset[int] = frozenset()
    """Cores that it may use; empty: any."""
    stderr_fd: int | None = None
    """Where its standard error goes; None: kept in memory, so that the supervisor can tell its last words."""


class Child:
    """A running child process."""

    def __init__(self, spec: ChildSpec) -> None:
        self.name = spec.name
        self._words_fd = os.memfd_create(f"sefa-{spec.name}-stderr", os.MFD_CLOEXEC)
        config_fd = None if spec.config is None else _memory_file(spec.config)
        try:
            self._process = self._start(spec, config_fd)
        finally:
            if config_fd is not None:
                os.close(config_fd)
        self.exit_fd = os.pidfd_open(self._process.pid)
        """Readable once the process has ended."""
        if spec.cpus:
            with contextlib.suppress(OSError):  # not permitted: it runs anywhere
                os.sched_setaffinity(self._process.pid, spec.cpus)

    def _start(self, spec: ChildSpec, config_fd: int | None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", spec.module, *spec.arguments]
        fds = spec.inherited_fds
        if config_fd is not None:
            command += ["--config", str(config_fd)]
            fds += (config_fd,)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._words_fd,
            stderr=self._words_fd if spec.stderr_fd is None else spec.stderr_fd,
            pass_fds=fds,
            start_new_session=True,
            env=os.environ | SINGLE_THREADED,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

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
        """End it: SIGTERM, then SIGKILL after `patience_s`."""
        for send, patience in ((self._process.terminate, patience_s), (self._process.kill, 5.0)):
            if self.exit_code is None:
                send()
                self.wait(patience)

    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        size = os.fstat(self._words_fd).st_size
        return os.pread(self._words_fd, LAST_WORDS_BYTES, max(0, size - LAST_WORDS_BYTES)).decode(errors="replace")

    def failure(self) -> SefaError:
        """Why it ended, as the error it printed or, for a crash, as its last line."""
        return _failure(self.name, self.exit_code, self.last_words())

    def close(self) -> None:
        """Forget a process that has ended."""
        os.close(self.exit_fd)
        os.close(self._words_fd)


def child_main(work: Callable[[bytes], int]) -> int:
    """Body of a child's `__main__`: reads `--config FD`, dies with its parent, prints failures plainly."""
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


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies; also when it died just now."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


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
        told = exit_code if exit_code in (2, 3, 4) else 3
        return SefaError(errors[-1], hints[-1] if hints else "", told)
    return SefaError(f"the {name} process ended: {_ending(exit_code)}", lines[-1] if lines else "", 3)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
