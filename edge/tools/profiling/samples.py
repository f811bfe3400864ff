"""Computes the duration of each stage of a run, chunk by chunk.

No record has all time stamps from frame to command, so they are combined here. A frame is identified by its capture
time, a chunk by its id, and a chunk's observation time is the capture time of the frame that it was planned from.

    FrameDescriptor   captured, received, published; and the time of arrival in this process
    PolicyReport      the frame's age when the inference began, and its duration
    TickReport        the frame's age when the tick was due, lateness, and the stages of the tick
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sefa_edge.edge.ipc.policy_records import PolicyReport
from sefa_edge.edge.ipc.records import TickReport
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.edge.tools.run_records import Received, RunRecords
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.latency.report import StageReport, summarise


@dataclass(frozen=True, slots=True)
class Row:
    """A stage: title, process, and the time span that it covers."""

    title: str
    process: str
    meaning: str


STAGES = {
    "capture_ns": Row(
        "Capture", "camera", "From the exposure (simulated: the rendered state) to the picture in memory."
    ),
    "resize_ns": Row("Resize", "camera", "Resize for the policy, and write to the ring in shared memory."),
    "frame_hand_over_ns": Row(
        "Frame hand-over", "camera → others", "Until another process has received the frame's descriptor."
    ),
    "wait_ns": Row("Wait for the step", "policy", "Until the policy's next step is due."),
    "inference_ns": Row("Inference", "policy", "Images, joints and noise in, chunk out."),
    "chunk_hand_over_ns": Row(
        "Chunk hand-over",
        "policy → control",
        "Until the control loop receives it: in its next tick, after reading the servos.",
    ),
    "interpolate_ns": Row(
        "Interpolate", "control", "Accept the chunk, find its current steps, interpolate the setpoint."
    ),
    "limit_ns": Row("Limiter", "control", "Position, velocity and acceleration limits; permission to move."),
    "bus_write_ns": Row("Bus write", "control", "The goals of all joints, encoded and written to the port."),
}
"""From frame to command, in order. The keys are fields of FrameDurations and ChunkDurations."""

OTHERS = {
    "frame_to_command_ns": Row(
        "Frame to command",
        "all",
        "From the exposure to the first command that results from it, written to the port.",
    ),
    "tick_ns": Row("Control tick", "control", "All work of a tick: read, choose, shape, check, send."),
    "servo_reply_ns": Row(
        "Servo reply",
        "control",
        "Read the state of all servos; most of it is transfer time.",
    ),
    "lateness_ns": Row("Loop lateness", "control", "How late a tick begins after its due time."),
}


@dataclass(frozen=True, slots=True)
class FrameDurations:
    """Durations of one frame until another process can read it."""

    capture_ns: int
    resize_ns: int
    frame_hand_over_ns: int


@dataclass(frozen=True, slots=True)
class ChunkDurations:
    """Durations of one chunk, from the arrival of its frame to the first command that results from it."""

    wait_ns: int
    inference_ns: int
    chunk_hand_over_ns: int
    interpolate_ns: int
    limit_ns: int
    bus_write_ns: int
    frame_to_command_ns: int


@dataclass(frozen=True, slots=True)
class TickDurations:
    """Durations of one tick of the control loop."""

    tick_ns: int
    servo_reply_ns: int
    lateness_ns: int


class PipelineSamples:
    """The durations of `wanted` chunks, all stages of which are known, and of the frames and ticks meanwhile."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.frames: list[FrameDurations] = []
        self.chunks: list[ChunkDurations] = []
        self.ticks: list[TickDurations] = []

    def begin_run(self) -> RunRecords:
        """An observer for another run, in which chunk ids start from one again; earlier measurements are kept."""
        self._arrived_ns: dict[int, int] = {}
        self._planned: dict[int, PolicyReport] = {}
        self._first_ticks: dict[int, TickReport] = {}
        self._newest_chunk_id = 0
        return RunRecords(Mode.RUNNING, 0, self._add_records)

    @property
    def satisfied(self) -> bool:
        return min(len(self.chunks), len(self.frames), len(self.ticks)) >= self.wanted

    def _add_records(self, records: RunRecords) -> bool:
        """Combine the records since the last call; returns whether there are enough."""
        while records.frames:
            self._take_frame(records.frames.popleft())
        while records.chunks:
            report = records.chunks.popleft().record
            self._planned[report.chunk_id] = report
            self._join(report.chunk_id)
        while records.ticks:
            self._take_tick(records.ticks.popleft())
        return self.satisfied

    def _take_frame(self, frame: Received[FrameDescriptor]) -> None:
        stamps, arrived_ns = frame.record, frame.received_ns
        self._arrived_ns[stamps.capture_ns] = arrived_ns
        if frame.measured:  # while the arm only waits, there is no load
            capture_ns, resize_ns = stamps.received_ns - stamps.capture_ns, stamps.published_ns - stamps.received_ns
            self.frames.append(FrameDurations(capture_ns, resize_ns, arrived_ns - stamps.published_ns))

    def _take_tick(self, report: TickReport) -> None:
        self.ticks.append(TickDurations(sum(report.stage_ns), report.stage_ns[0], report.lateness_ns))
        if report.chunk_id > self._newest_chunk_id:
            self._newest_chunk_id = report.chunk_id
            self._first_ticks[report.chunk_id] = report
            self._join(report.chunk_id)

    def _join(self, chunk_id: int) -> None:
        """Records of policy and control arrive in either order; the second one completes the chunk."""
        planned, tick = self._planned.get(chunk_id), self._first_ticks.get(chunk_id)
        if planned is None or tick is None:
            return
        del self._planned[chunk_id], self._first_ticks[chunk_id]
        observed_ns = tick.start_ns - tick.lateness_ns - tick.frame_age_ns
        arrived_ns = self._arrived_ns.get(observed_ns)
        if arrived_ns is not None:
            self.chunks.append(_durations_of_chunk(observed_ns, arrived_ns, planned, tick))


def _durations_of_chunk(observed_ns: int, arrived_ns: int, planned: PolicyReport, tick: TickReport) -> ChunkDurations:
    begun_ns = observed_ns + planned.frame_age_ns
    read_ns, choose_ns, shape_ns, check_ns, send_ns = tick.stage_ns
    return ChunkDurations(
        wait_ns=max(begun_ns - arrived_ns, 0),  # the policy may receive a frame before this process does
        inference_ns=planned.inference_ns,
        chunk_hand_over_ns=tick.start_ns + read_ns - begun_ns - planned.inference_ns,
        interpolate_ns=choose_ns + shape_ns,
        limit_ns=check_ns,
        bus_write_ns=send_ns,
        frame_to_command_ns=tick.start_ns + sum(tick.stage_ns) - observed_ns,
    )


def stage_reports(samples: PipelineSamples, budgets_ns: dict[str, int]) -> tuple[list[StageReport], list[StageReport]]:
    """The stages from frame to command, and other durations.

    Raises:
        InputError: nothing was measured.
    """
    columns: dict[str, np.ndarray] = {}
    for kind, measured in (
        (FrameDurations, samples.frames),
        (ChunkDurations, samples.chunks),
        (TickDurations, samples.ticks),
    ):
        if not measured:
            raise InputError("the run produced nothing to measure", "does `sefa-edge run` work with the same options?")
        for field in fields(kind):
            columns[field.name] = np.array([getattr(one, field.name) for one in measured], np.int64)

    def report(key: str, row: Row) -> StageReport:
        return summarise(
            columns[key],
            key=key.removesuffix("_ns"),
            title=row.title,
            process=row.process,
            meaning=row.meaning,
            budget_ns=budgets_ns.get(key),
        )

    return [report(*item) for item in STAGES.items()], [report(*item) for item in OTHERS.items()]
