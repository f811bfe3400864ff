"""How steady the loop of a run was: lateness, work, skipped ticks, page faults, and what ran beside it."""

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
"""Not counted: until then caches fill, and the first chunks arrive."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the kernel counts of a process."""

    page_faults: int
    involuntary_switches: int
    resident_kb: int

    def since(self, before: Footprint) -> Footprint:
        """What has been added since then."""
        return Footprint(
            self.page_faults - before.page_faults,
            self.involuntary_switches - before.involuntary_switches,
            self.resident_kb - before.resident_kb,
        )


def footprint_of(pid: int) -> Footprint | None:
    """The counters of a process; None once it is gone."""
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
    """What went on beside the loop while it was measured."""

    pictures: int = 0
    chunks: int = 0
    inference_ns: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, records: RunRecords) -> Beside:
        """What was heard of the other processes while the ticks were measured."""
        inference_ns = [chunk.record.inference_ns for chunk in records.chunks if chunk.measured]
        return cls(sum(frame.measured for frame in records.frames), len(inference_ns), inference_ns)


class Companion(Protocol):
    """Measures beside the loop, over the same time."""

    def begin(self) -> None:
        """The first tick that counts has been heard."""
        ...

    def end(self) -> None:
        """The last one has."""
        ...


def elapsed_ns(records: RunRecords) -> int:
    """From the first measured tick to the newest."""
    return records.ticks[-1].start_ns - records.ticks[0].start_ns if records.ticks else 0


def record_ticks(mode: Mode, seconds: float, companion: Companion) -> RunRecords:
    """A supervisor's observer that is satisfied by `seconds` of ticks in `mode`, after a warm-up."""

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
    """The loop over the whole measurement; arrays int64."""

    lateness_ns: np.ndarray
    period_error_ns: np.ndarray
    """How far the time [N - 1] between two wake-ups is from a period: what a loop without a grid can be judged by."""
    work_ns: np.ndarray
    """Time [N] from the wake-up of a tick to its last stamp; most of it is the wait for the servos."""
    stage_ns: dict[str, np.ndarray]
    skipped: int
    lost_reports: int
    """Ticks that happened, but whose report this process was too slow to take."""
    rate_hz: float
    """Ticks that happened, per second."""

    @classmethod
    def of(cls, ticks: Sequence[TickReport], asked_rate_hz: float) -> LoopMeasurement:
        """Raises InputError when there are fewer than two ticks."""
        if len(ticks) < 2:
            raise InputError("the run gave nothing to measure", "measure for longer: --seconds")
        first, last = ticks[0], ticks[-1]
        skipped = last.skipped_ticks - first.skipped_ticks
        happened = last.tick - first.tick - skipped
        # From grid point to grid point: how late the first and the last tick woke up is no error of the rate.
        grid_ns = (last.start_ns - last.lateness_ns) - (first.start_ns - first.lateness_ns)
        starts_ns = np.array([tick.start_ns for tick in ticks], np.int64)
        stages = np.array([tick.stage_ns for tick in ticks], np.int64)
        return cls(
            lateness_ns=np.array([tick.lateness_ns for tick in ticks], np.int64),
            period_error_ns=np.abs(np.diff(starts_ns) - period_ns(asked_rate_hz)),
            work_ns=stages.sum(axis=1),
            stage_ns=dict(zip(STAGES, stages.T, strict=True)),
            skipped=skipped,
            lost_reports=happened + 1 - len(ticks),
            rate_hz=happened * NS_PER_S / grid_ns,
        )
