"""Progress of a build and the reason of a failure, from TensorRT's callbacks and log."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sefa_edge.export.plan.build_messages import ProgressEvent

KEPT_MESSAGES = 200
ERRORS = ("ERROR", "INTERNAL_ERROR")
LOG_PHASES = (
    ("input and", 50, "reading the graph"),
    ("Graph optimization time", 150, "optimising the graph"),
    ("timing cache in use", 200, "timing kernels"),
    ("Detected", 850, "choosing kernels"),
    ("Total Host Persistent Memory", 900, "planning memory"),
    ("Engine generation completed", 980, "writing the plan"),
)
"""Log messages of TensorRT 8.6, which has no progress monitor, and the progress that they mean, in permille."""


def one_line(message: str) -> str:
    return " ".join(message.split())


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildWatcher:
    """Turns the library's callbacks into a log, progress events, and the reason of a failure."""

    def __init__(self, report: Callable[[ProgressEvent], None]) -> None:
        self._report = report
        self._phases: dict[str, _Phase] = {}
        self._permille = 0
        self._messages: deque[tuple[str, str]] = deque(maxlen=KEPT_MESSAGES)

    def log(self, severity: str, message: str) -> None:
        """Keep a message and write it to the log, which is this process's standard error."""
        self._messages.append((severity, message))
        print(f"[{severity}] {message}", file=sys.stderr, flush=True)
        if self._phases:
            return
        for text, permille, phase in LOG_PHASES:
            if text in message:
                self._advance(permille, phase)

    def reason(self) -> str:
        """The last error as one line."""
        errors = [message for severity, message in self._messages if severity in ERRORS]
        return one_line(errors[-1]) if errors else "it reports no reason"

    def find(self, texts: Sequence[str]) -> str:
        """The first kept message that contains one of the texts; empty if there is none."""
        return next((message for _, message in self._messages if any(text in message for text in texts)), "")

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        self._phases[name] = _Phase(parent, max(steps, 1))
        self._advance(self._overall_permille(), name)

    def step_complete(self, name: str, step: int) -> None:
        if name in self._phases:
            self._phases[name].done = step + 1
            self._advance(self._overall_permille(), name)

    def phase_finish(self, name: str) -> None:
        self._phases.pop(name, None)

    def _overall_permille(self) -> int:
        roots = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
        return round(1000 * max((self._done_share(name) for name in roots), default=0.0))

    def _done_share(self, name: str) -> float:
        """Completed share of a phase: its own steps, and within the present step that of its children."""
        phase = self._phases[name]
        inside = max(
            (self._done_share(child) for child, each in self._phases.items() if each.parent == name), default=0
        )
        return min((phase.done + inside) / phase.steps, 1.0)

    def _advance(self, permille: int, phase: str) -> None:
        if permille > self._permille:  # never backwards: phases overlap
            self._permille = min(permille, 1000)
            self._report(ProgressEvent(permille=self._permille, phase=phase))
