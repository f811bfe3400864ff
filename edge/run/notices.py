"""What a person is notified of while a run lasts: the status line, and notes above it, each of them once."""

from __future__ import annotations

import time

from sefa_edge.edge.control.realtime import refusal_lines, user_name
from sefa_edge.edge.ipc.process import Child
from sefa_edge.edge.ipc.records import Ready, names_of
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.edge.run.monitor import RunMonitor
from sefa_edge.edge.run.process_row import ProcessRow
from sefa_edge.edge.run.run_plan import RunPlan
from sefa_edge.edge.run.status import RateMeter, Status, StatusLine
from sefa_edge.edge.run.summary import RunSummary

STATE_NAMES = {
    Mode.IDLE: "starting",
    Mode.ARMED: "to start",
    Mode.RUNNING: "running",
    Mode.HOLD: "holding",
    Mode.PARK: "parking",
    Mode.RELEASED: "released",
    Mode.FAULT: "fault",
    Mode.EMERGENCY: "EMERGENCY",
    Mode.PARKED: "parked",
}


class Notices:
    """Writes to the status line what the monitor has received."""

    def __init__(self, plan: RunPlan, monitor: RunMonitor, line: StatusLine) -> None:
        self.episode = ""
        """The first column of the status line."""
        self._plan, self._monitor, self._line = plan, monitor, line
        self._rate = RateMeter()
        self._warm_joints = 0
        self._ended: set[str] = set()

    def update(self, summary: RunSummary) -> None:
        """Write the status line, if it is due."""
        tick, report = self._monitor.tick, self._monitor.policy_report
        if tick is not None:
            self._rate.add(tick.tick - tick.skipped_ticks, tick.start_ns)
            self._warn_of_warm_joints(tick.warm_bits)
        judged = len(summary.judged)
        status = Status(
            self.episode,
            STATE_NAMES[self._monitor.mode],
            self._rate.rate_hz,
            report.inference_ns if report else None,
            report.frame_age_ns if report else None,
            f"success {summary.successes}/{judged}" if judged else "",
        )
        self._line.update(status, time.monotonic_ns())

    def ready(self, ready: Ready) -> None:
        """What the operating system refused, which servo settings were written, and the arm's calibrated range."""
        notes = [*refusal_lines(ready.refused, self._plan.realtime.priority, user_name()), *settings_notes(ready)]
        if ready.range_note and self._plan.calibration is None:  # one in a file was checked when the run was planned
            notes.append(f"note: {ready.range_note}")
        for note in notes:
            self._line.say(note)

    def process_ended(self, row: ProcessRow, child: Child) -> None:
        """The run continues without this process; said once."""
        if row.name not in self._ended:
            self._ended.add(row.name)
            failure = child.failure()
            self._line.say(str(failure) if row.finish is None else f"{row.finish.failed}: {failure}")

    def _warn_of_warm_joints(self, warm_bits: int) -> None:
        """Once for each joint of the run."""
        fresh, self._warm_joints = warm_bits & ~self._warm_joints, warm_bits | self._warm_joints
        for name in names_of(fresh, self._plan.profile.joint_names):
            self._line.say(f"note: the servo of {name} gets warm")


def settings_notes(ready: Ready) -> list[str]:
    """What was written into the servos, and what was left although it differs."""
    preparation = ready.preparation
    return [note for note in (preparation.written, preparation.left) if note]
