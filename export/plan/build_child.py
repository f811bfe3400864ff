"""Starts the child process that builds, shows its progress, and reports its result in one line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from pydantic import ValidationError

from sefa_edge.export.plan.build_messages import (
    EVENT,
    MAX_LINE_BYTES,
    BuildRequest,
    BuiltEvent,
    DescribeRequest,
    FailedEvent,
    LibraryEvent,
    ProgressEvent,
)
from sefa_edge.export.plan.tensorrt_builder import BuildError
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.progress import Progress

LOG_TAIL_BYTES = 64_000
MAX_REASON_LETTERS = 400
STOP_SECONDS = 10


def describe(request: DescribeRequest, log: Path) -> LibraryEvent:
    """What the installed library can do. Raises the child's SefaError, or BuildError if it crashes."""
    answer = _last_event(request, log, _show_nothing)
    if not isinstance(answer, LibraryEvent):
        raise _broken(log)
    return answer


def build(request: BuildRequest, log: Path, label: str) -> BuiltEvent:
    """Build one plan and show the progress. Raises the child's SefaError, or BuildError if it crashes."""
    with Progress(label, 1000, sys.stderr) as progress:

        def show(event: ProgressEvent) -> None:
            progress.update(event.permille, event.phase)

        answer = _last_event(request, log, show)
        if not isinstance(answer, BuiltEvent):
            raise _broken(log)
        progress.update(1000, "done")
    return answer


def last_error(log: Path) -> str:
    """The last error line of a log, or else its last line; empty without one."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR]" in line] or lines
    return errors[-1][:MAX_REASON_LETTERS] if errors else ""


def _show_nothing(event: ProgressEvent) -> None:
    """A description has no progress."""


def _last_event(
    request: DescribeRequest | BuildRequest, log: Path, show: Callable[[ProgressEvent], None]
) -> LibraryEvent | BuiltEvent | None:
    answer: LibraryEvent | BuiltEvent | FailedEvent | None = None
    with _child(request, log) as (process, events):
        while line := events.readline(MAX_LINE_BYTES):
            event = _parse(line, log)
            if isinstance(event, ProgressEvent):
                show(event)
            else:
                answer = event
        code = process.wait()
    if isinstance(answer, FailedEvent):
        raise SefaError(_shortened(answer.message), _with_log(answer.hint, log), answer.exit_code)
    if code < 0:
        raise _killed(-code, log)
    return answer if code == 0 else None


@contextlib.contextmanager
def _child(request: DescribeRequest | BuildRequest, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """The running child and its events. The child always ends with this process, even after SIGKILL."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as events, log.open("wb") as log_file:
        process = _start(writing, log_file)
        try:
            with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as stdin:
                stdin.write(request.model_dump_json().encode())  # the child may already be dead
            yield process, events
        finally:
            process.kill()
            process.wait(STOP_SECONDS)


def _start(events: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the child with the descriptor for its events, which this process then closes."""
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "sefa_edge.export.plan.build_process", str(events), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[events],
            start_new_session=True,  # Ctrl-C is for this process, which then ends the child
        )
    finally:
        os.close(events)


def _parse(line: bytes, log: Path) -> LibraryEvent | ProgressEvent | BuiltEvent | FailedEvent:
    try:
        return EVENT.validate_json(line)
    except ValidationError:
        raise _broken(log) from None


def _killed(number: int, log: Path) -> BuildError:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = "was the memory full? lower --workspace-mib" if number == signal.SIGKILL else last_error(log)
    return BuildError(f"the build process was ended by {name}; its log is {log}", hint)


def _broken(log: Path) -> BuildError:
    return BuildError(f"the build process failed; its log is {log}", last_error(log))


def _shortened(message: str) -> str:
    return message if len(message) <= MAX_REASON_LETTERS else message[:MAX_REASON_LETTERS] + "…"


def _with_log(hint: str, log: Path) -> str:
    return f"{hint} ({log})" if "log" in hint else hint
