"""The child process of `sefa-edge build`: if TensorRT crashes or exhausts the memory, only the build is lost.

`python -m sefa_edge.export.plan.build_process FD PARENT`: one request as JSON on standard input, events as lines of
JSON on the descriptor FD; ends with the process PARENT. Standard output and error are the log.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from sefa_edge.export.plan.build_messages import (
    MAX_LINE_BYTES,
    REQUEST,
    BuildRequest,
    BuiltEvent,
    DescribeRequest,
    FailedEvent,
    LibraryEvent,
    ProgressEvent,
)
from sefa_edge.export.plan.build_progress import BuildWatcher
from sefa_edge.export.plan.tensorrt_builder import build_plan, describe_library, load_library
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.files import write_atomic
from sefa_edge.profiles.parent import die_with_parent
from sefa_edge.profiles.strict import StrictModel


def main() -> int:
    die_with_parent(int(sys.argv[2]))  # otherwise an abandoned build would occupy the GPU for minutes
    with os.fdopen(int(sys.argv[1]), "wb", buffering=0) as events:
        request = REQUEST.validate_json(sys.stdin.buffer.read(MAX_LINE_BYTES))
        try:
            _send(events, _answer(request, events))
        except SefaError as error:
            _send(events, FailedEvent(message=str(error), hint=error.hint, exit_code=error.exit_code))
            return error.exit_code
    return 0


def _answer(request: DescribeRequest | BuildRequest, events: BinaryIO) -> LibraryEvent | BuiltEvent:
    trt = load_library(request.backend)
    if isinstance(request, DescribeRequest):
        return describe_library(trt)

    def report(event: ProgressEvent) -> None:
        _send(events, event)

    start_s = time.monotonic()
    plan = build_plan(trt, request, BuildWatcher(report))
    write_atomic(Path(request.plan), plan)
    return BuiltEvent(seconds=round(time.monotonic() - start_s, 3))


def _send(events: BinaryIO, event: StrictModel) -> None:
    events.write(event.model_dump_json().encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
