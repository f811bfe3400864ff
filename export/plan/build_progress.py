"""How far a build is, and why it failed, from what TensorRT tells while it builds."""

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
"""What TensorRT 8.6, which has no progress monitor, logs on its way, and how far it then is, in permille."""


def one_line(message: str) -> str:
    return " ".join(message.split())


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildWatcher:
    """Turns the callbacks of the library into a log, into progress events, and into the reason of a failure."""

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
        """The last error, in one line."""
        errors = [message for severity, message in self._messages if severity in ERRORS]
        return one_line(errors[-1]) if errors else "it gives no reason"

    def find(self, texts: Sequence[str]) -> str:
        """The first kept message that holds one of the texts; empty when there is none."""
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
        """A phase is done by its own steps, and inside the step that it is at by its children."""
        phase = self._phases[name]
        inside = max(
            (self._done_share(child) for child, each in self._phases.items() if each.parent == name), default=0
        )
        return min((phase.done + inside) / phase.steps, 1.0)

    def _advance(self, permille: int, phase: str) -> None:
        if permille > self._permille:  # never backwards: phases overlap at their ends
            self._permille = min(permille, 1000)
            self._report(ProgressEvent(permille=self._permille, phase=phase))
