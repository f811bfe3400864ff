"""The summary of a run: episodes, the loop's rate and lateness, latencies. As text and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from sefa_edge.edge.ipc.policy_records import PolicyReport
from sefa_edge.edge.ipc.records import TickReport
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.profiles.percentiles import BUCKETS, bucket_of, middle_ns, nearest_rank
from sefa_edge.profiles.units import NS_PER_S, ns_to_ms

BATCH = 256
QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


class Durations:
    """Percentiles of a stream in 40 kB, however long it runs, within 0.28 %: a list would grow by 7 MB an hour.

    Samples are counted in batches because that is cheap.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(BUCKETS, np.int64)
        self._min_ns: int | None = None
        self._max_ns = 0
        self._waiting: list[int] = []

    def add(self, duration_ns: int) -> None:
        self._waiting.append(duration_ns)
        if len(self._waiting) >= BATCH:
            self._flush()

    def as_ms(self) -> dict[str, float] | None:
        """p50, p99, p999 and max in milliseconds; None when there was nothing."""
        self._flush()
        count, ranks = int(self._counts.sum()), np.cumsum(self._counts)
        if not count:
            return None
        found = {
            name: self._bounded(middle_ns(int(np.searchsorted(ranks, nearest_rank(quantile, count) + 1))))
            for name, quantile in QUANTILES.items()
        }
        return {name: round(ns_to_ms(value_ns), 4) for name, value_ns in (found | {"max": self._max_ns}).items()}

    def _bounded(self, value_ns: int) -> int:
        return min(max(value_ns, self._min_ns or 0), self._max_ns)

    def _flush(self) -> None:
        if self._waiting:
            samples_ns = np.array(self._waiting, np.int64)
            self._counts += np.bincount(bucket_of(samples_ns), minlength=BUCKETS)
            shortest_ns = int(samples_ns.min())
            self._min_ns = shortest_ns if self._min_ns is None else min(self._min_ns, shortest_ns)
            self._max_ns = max(self._max_ns, int(samples_ns.max()))
            self._waiting.clear()


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One episode. `outcome`: success, lost, timeout, ended (success is not known), stopped."""

    episode: int
    seed: int
    outcome: str
    duration_s: float
    chunks: int


@dataclass(slots=True)
class CameraCount:
    """Frames of one camera, how often it was reopened, and how many of its images were damaged and discarded."""

    pictures: int = 0
    reconnections: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class _EarlierLoops:
    """Totals of control processes that have ended; the time between two of them does not count."""

    count: int = 0
    duration_ns: int = 0
    ticks: int = 0
    """Ticks, reported or lost."""
    skipped_ticks: int = 0
    dropped_records: int = 0


@dataclass(slots=True)
class RunSummary:
    """Filled while the run lasts; `as_json` and `text` return it at the end."""

    engine: str
    arm: str
    control_rate_hz: float
    started_ns: int = 0
    """When the supervisor's process was started."""
    episodes: list[EpisodeResult] = field(default_factory=list)
    lateness: Durations = field(default_factory=Durations)
    work: Durations = field(default_factory=Durations)
    inference: Durations = field(default_factory=Durations)
    frame_age: Durations = field(default_factory=Durations)
    camera_to_command: Durations = field(default_factory=Durations)
    cameras: dict[str, CameraCount] = field(default_factory=dict)
    ticks: int = 0
    skipped_ticks: int = 0
    lost_reports: int = 0
    dropped_records: int = 0
    """Records that control could not send because the receiver was behind."""
    clipped_ticks: int = 0
    skipped_steps: int = 0
    overlong_inferences: int = 0
    late_steps: int = 0
    _newest_chunk_id: int = 0
    _before: _EarlierLoops = _EarlierLoops()
    first_command_ns: int = 0
    """When the first goal had been written to the port; torque goes on in the same tick."""
    first_tick_ns: int = 0
    last_tick_ns: int = 0
    ending: str = ""
    fault: str = ""
    exit_code: int = 0

    def begin_control(self) -> None:
        """Another control process takes over, and numbers its ticks from 1."""
        spans = (self._before.count, self._before.duration_ns)
        if self.first_tick_ns:
            spans = (spans[0] + 1, spans[1] + self.last_tick_ns - self.first_tick_ns)
        ticks = self.ticks + self.lost_reports
        self._before = _EarlierLoops(*spans, ticks, self.skipped_ticks, self.dropped_records)
        self.first_tick_ns = 0

    def count(self, report: TickReport) -> None:
        """Add one tick of the control loop."""
        before = self._before
        self.first_tick_ns = self.first_tick_ns or report.start_ns
        missing = report.tick - report.skipped_ticks - (self.ticks + self.lost_reports - before.ticks) - 1
        self.lost_reports += max(0, missing)
        self.ticks += 1
        self.last_tick_ns = report.start_ns
        self.skipped_ticks = before.skipped_ticks + report.skipped_ticks
        self.dropped_records = before.dropped_records + report.dropped_records
        self.clipped_ticks += bool(report.clipped_bits)
        work_ns = sum(report.stage_ns)
        if not self.first_command_ns and not np.isnan(report.goal_deg).all():
            self.first_command_ns = report.start_ns + work_ns
        self.lateness.add(report.lateness_ns)
        self.work.add(work_ns)
        if report.chunk_id > self._newest_chunk_id:
            self._newest_chunk_id = report.chunk_id
            # The age is that at the grid point; the command leaves after the lateness and the tick's work.
            self.camera_to_command.add(report.frame_age_ns + report.lateness_ns + work_ns)

    def count_frame(self, camera: str, descriptor: FrameDescriptor) -> None:
        """Add one frame."""
        count = self.cameras.setdefault(camera, CameraCount())
        count.pictures += 1
        count.reconnections = descriptor.reconnections
        count.damaged = descriptor.damaged

    def count_inference(self, report: PolicyReport) -> None:
        """Add one chunk of the policy."""
        self.inference.add(report.inference_ns)
        self.frame_age.add(report.frame_age_ns)
        self.skipped_steps = report.skipped_steps
        self.overlong_inferences = report.overlong
        self.late_steps = report.late_steps

    @property
    def judged(self) -> list[EpisodeResult]:
        return [episode for episode in self.episodes if episode.outcome in ("success", "lost", "timeout")]

    @property
    def successes(self) -> int:
        return sum(episode.outcome == "success" for episode in self.episodes)

    @property
    def start_to_first_command_s(self) -> float | None:
        """From the start of the process `sefa-edge run`, before its imports, to the first goal."""
        if not self.first_command_ns or not self.started_ns:
            return None
        return round((self.first_command_ns - self.started_ns) / NS_PER_S, 3)

    @property
    def loop_rate_hz(self) -> float | None:
        """Ticks per second, skipped ones not counted."""
        loops, duration_ns = self._before.count, self._before.duration_ns
        if self.first_tick_ns:
            loops, duration_ns = loops + 1, duration_ns + self.last_tick_ns - self.first_tick_ns
        periods = self.ticks + self.lost_reports - loops
        return periods * NS_PER_S / duration_ns if duration_ns > 0 else None

    def as_json(self) -> str:
        rate_hz = self.loop_rate_hz
        content = {
            "schema_version": 1,
            "engine": self.engine,
            "arm": self.arm,
            "successes": self.successes,
            "judged_episodes": len(self.judged),
            "start_to_first_command_s": self.start_to_first_command_s,
            "episodes": [asdict(episode) for episode in self.episodes],
            "loop": {
                "asked_rate_hz": self.control_rate_hz,
                "rate_hz": None if rate_hz is None else round(rate_hz, 3),
                "ticks": self.ticks,
                "skipped_ticks": self.skipped_ticks,
                "clipped_ticks": self.clipped_ticks,
                "lost_reports": self.lost_reports,
                "dropped_records": self.dropped_records,
                "lateness_ms": self.lateness.as_ms(),
                "work_ms": self.work.as_ms(),
            },
            "cameras": {name: asdict(count) for name, count in self.cameras.items()},
            "policy": {
                "skipped_steps": self.skipped_steps,
                "overlong_inferences": self.overlong_inferences,
                "late_steps": self.late_steps,
            },
            "inference_ms": self.inference.as_ms(),
            "frame_age_ms": self.frame_age.as_ms(),
            "camera_to_command_ms": self.camera_to_command.as_ms(),
            "ending": self.ending,
            "fault": self.fault or None,
            "exit_code": self.exit_code,
        }
        return json.dumps(content, indent=2) + "\n"

    def text(self) -> str:
        """A few lines to print."""
        lines = []
        if self.judged:
            lines.append(f"success            {self.successes} of {len(self.judged)} episodes")
        elif self.episodes:
            lines.append(f"episodes           {len(self.episodes)} (success is not known on a real arm)")
        rate_hz = self.loop_rate_hz
        if rate_hz is not None:
            asked = f"{self.control_rate_hz:g}"
            lines.append(f"control loop       {rate_hz:.2f} Hz of {asked}, {self.skipped_ticks} ticks skipped")
        for name, durations in (
            ("loop lateness", self.lateness),
            ("inference", self.inference),
            ("camera to command", self.camera_to_command),
        ):
            if (found := durations.as_ms()) is not None:
                lines.append(f"{name:<19}p50 {found['p50']:.3g}  p99 {found['p99']:.3g}  p99.9 {found['p999']:.3g} ms")
        lines += [
            f"camera {name:<12}was reopened {count.reconnections} times"
            for name, count in self.cameras.items()
            if count.reconnections
        ]
        lines += [
            f"camera {name:<12}sent {count.damaged} damaged frames, which were discarded"
            for name, count in self.cameras.items()
            if count.damaged
        ]
        return "\n".join(lines)
