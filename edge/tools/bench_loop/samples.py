"""Samples of a run's control loop: lateness, work, skipped ticks, page faults, and the load alongside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from sefa_edge.edge.ipc.records import STAGES, TickReport
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.edge.tools.run_records import RunRecords
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.units import NS_PER_S, period_ns, s_to_ns

WARM_UP_NS = s_to_ns(2.0)
"""Not measured, because caches fill and the first chunks arrive."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Kernel counters of a process."""

    page_faults: int
    involuntary_switches: int
    resident_kb: int

    def since(self, before: Footprint) -> Footprint:
        """The difference to an earlier reading."""
        return Footprint(
            self.page_faults - before.page_faults,
            self.involuntary_switches - before.involuntary_switches,
            self.resident_kb - before.resident_kb,
        )


def footprint_of(pid: int) -> Footprint | None:
    """The counters of a process; None once it has exited."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return None
    minor, major = int(stat[7]), int(stat[9])
    resident_kb = int(status["VmRSS"].split()[0])
    return Footprint(minor + major, int(status["nonvoluntary_ctxt_switches"]), resident_kb)


@dataclass(frozen=True, slots=True)
class Beside:
    """The load alongside the loop while it was measured."""

    pictures: int = 0
    chunks: int = 0
    inference_ns: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, records: RunRecords) -> Beside:
        """Count the frames and inferences that arrived while the ticks were measured."""
        inference_ns = [chunk.record.inference_ns for chunk in records.chunks if chunk.measured]
        return cls(sum(frame.measured for frame in records.frames), len(inference_ns), inference_ns)


class Companion(Protocol):
    """Measures alongside the loop, over the same time."""

    def begin(self) -> None:
        """The first measured tick has arrived."""
        ...

    def end(self) -> None:
        """The last measured tick has arrived."""
        ...


def elapsed_ns(records: RunRecords) -> int:
    """Time from the first measured tick to the newest."""
    return records.ticks[-1].start_ns - records.ticks[0].start_ns if records.ticks else 0


def record_ticks(mode: Mode, seconds: float, companion: Companion) -> RunRecords:
    """An observer for the supervisor that measures `seconds` of ticks in `mode` after a warm-up."""

    begun = False

    def enough(records: RunRecords) -> bool:
        nonlocal begun
        if records.ticks and not begun:
            begun = True
            companion.begin()
        if elapsed_ns(records) < s_to_ns(seconds):
            return False
        companion.end()
        return True

    return RunRecords(mode, WARM_UP_NS, enough)


@dataclass(frozen=True, slots=True, eq=False)
class LoopMeasurement:
    """The samples of a whole measurement; arrays int64."""

    lateness_ns: np.ndarray
    period_error_ns: np.ndarray
    """Deviation [N - 1] of the time between two wake-ups from a period; comparable with loops without a fixed grid."""
    work_ns: np.ndarray
    """Time [N] from the wake-up of a tick to its end; most of it is waiting for the servos."""
    stage_ns: dict[str, np.ndarray]
    skipped: int
    lost_reports: int
    """Ticks whose report this process was too slow to receive."""
    rate_hz: float
    """Executed ticks per second."""

    @classmethod
    def of(cls, ticks: Sequence[TickReport], asked_rate_hz: float) -> LoopMeasurement:
        """Raises InputError when there are fewer than two ticks."""
        if len(ticks) < 2:
            raise InputError("the run produced nothing to measure", "measure for longer: --seconds")
        first, last = ticks[0], ticks[-1]
        skipped = last.skipped_ticks - first.skipped_ticks
        executed = last.tick - first.tick - skipped
        # Between due times: the lateness of the first and the last tick is not an error of the rate.
        grid_ns = (last.start_ns - last.lateness_ns) - (first.start_ns - first.lateness_ns)
        starts_ns = np.array([tick.start_ns for tick in ticks], np.int64)
        stages = np.array([tick.stage_ns for tick in ticks], np.int64)
        return cls(
            lateness_ns=np.array([tick.lateness_ns for tick in ticks], np.int64),
            period_error_ns=np.abs(np.diff(starts_ns) - period_ns(asked_rate_hz)),
            work_ns=stages.sum(axis=1),
            stage_ns=dict(zip(STAGES, stages.T, strict=True)),
            skipped=skipped,
            lost_reports=executed + 1 - len(ticks),
            rate_hz=executed * NS_PER_S / grid_ns,
        )
