"""Listens to a run and puts together, chunk by chunk, how long each stage took.

No record carries all stamps of a frame's way; they are joined here. A frame is known by its capture time, a
chunk by its id, and the chunk's observation time is the capture time of the frame that it was made from.

    FrameDescriptor   capture, received, published; arrived when this process heard of it
    PolicyReport      the frame's age when the inference began, and how long it took
    TickReport        the frame's age at the tick's place on the grid, lateness, and the stages of the tick
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sefa_edge.edge.modes import Mode
from sefa_edge.edge.policy_records import Happening, PolicyReport
from sefa_edge.edge.records import TickReport
from sefa_edge.edge.transport import FrameDescriptor
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.latency.report import StageReport, summarise


@dataclass(frozen=True, slots=True)
class Row:
    """What a stage is called, whose time it is, and from where to where it lasts."""

    title: str
    process: str
    meaning: str


STAGES = {
    "capture_ns": Row(
        "Capture", "camera", "From the light (simulated: the state that is drawn) to the picture in memory."
    ),
    "resize_ns": Row("Resize", "camera", "To the policy's size, and into the ring in shared memory."),
    "frame_hand_over_ns": Row(
        "Frame hand-over", "camera → others", "Until another process has heard that the picture is there."
    ),
    "wait_ns": Row("Wait for the step", "policy", "Until the policy's next step on its own grid of time."),
    "inference_ns": Row("Inference", "policy", "Images, joints and noise in, chunk out."),
    "chunk_hand_over_ns": Row(
        "Chunk hand-over",
        "policy → control",
        "Until the control loop takes it: in its next tick, after its reading.",
    ),
    "interpolate_ns": Row("Interpolate", "control", "Take the chunk over, choose its piece, the setpoint of now."),
    "limit_ns": Row("Limiter", "control", "Position, velocity and acceleration limits; the right to move."),
    "bus_write_ns": Row("Bus write", "control", "The goals of all joints, encoded and written to the port."),
}
"""The way of a frame, in order. The keys are fields of FrameWay and ChunkWay."""

OTHERS = {
    "frame_to_command_ns": Row(
        "Frame to command",
        "all",
        "From the light to the first command that follows from it, written to the port.",
    ),
    "tick_ns": Row("Control tick", "control", "All work of a tick: read, choose, shape, check, send."),
    "servo_reply_ns": Row(
        "Servo reply",
        "control",
        "Ask all servos for their state and have their answers; most of it is wire time.",
    ),
    "lateness_ns": Row("Loop lateness", "control", "How late a tick begins after its place on the grid of time."),
}


@dataclass(frozen=True, slots=True)
class FrameWay:
    """Durations of one picture up to where another process can have it."""

    capture_ns: int
    resize_ns: int
    frame_hand_over_ns: int


@dataclass(frozen=True, slots=True)
class ChunkWay:
    """Durations of one chunk, from the picture being there to the first command that follows from it."""

    wait_ns: int
    inference_ns: int
    chunk_hand_over_ns: int
    interpolate_ns: int
    limit_ns: int
    bus_write_ns: int
    frame_to_command_ns: int


@dataclass(frozen=True, slots=True)
class TickWay:
    """Durations of one tick of the control loop."""

    tick_ns: int
    servo_reply_ns: int
    lateness_ns: int


class PipelineSamples:
    """A supervisor's `Listener` that is satisfied by `wanted` measurements of every stage."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.frames: list[FrameWay] = []
        self.chunks: list[ChunkWay] = []
        self.ticks: list[TickWay] = []
        self.begin_run()

    def begin_run(self) -> None:
        """Another run begins: its processes count their chunks from one again. What was measured stays."""
        self._arrived_ns: dict[int, int] = {}
        self._planned: dict[int, PolicyReport] = {}
        self._first_ticks: dict[int, TickReport] = {}
        self._newest_chunk_id = 0
        self._running = False

    @property
    def satisfied(self) -> bool:
        return min(len(self.chunks), len(self.frames), len(self.ticks)) >= self.wanted

    def hear_frame(self, descriptor: FrameDescriptor, arrived_ns: int) -> None:
        capture_ns, received_ns, published_ns = (
            descriptor.capture_ns,
            descriptor.received_ns,
            descriptor.published_ns,
        )
        self._arrived_ns[capture_ns] = arrived_ns
        if not self._running:  # pictures of an arm that only waits are no load on anybody
            return
        self.frames.append(FrameWay(received_ns - capture_ns, published_ns - received_ns, arrived_ns - published_ns))

    def hear_policy(self, report: PolicyReport) -> None:
        if report.happening is Happening.CHUNK:
            self._planned[report.chunk_id] = report
            self._join(report.chunk_id)

    def hear_tick(self, report: TickReport) -> None:
        self._running = report.mode is Mode.RUNNING
        if not self._running:
            return
        self.ticks.append(TickWay(sum(report.stage_ns), report.stage_ns[0], report.lateness_ns))
        if report.chunk_id > self._newest_chunk_id:
            self._newest_chunk_id = report.chunk_id
            self._first_ticks[report.chunk_id] = report
            self._join(report.chunk_id)

    def _join(self, chunk_id: int) -> None:
        """Policy and control are heard in either order; the second one completes the chunk."""
        planned, tick = self._planned.get(chunk_id), self._first_ticks.get(chunk_id)
        if planned is None or tick is None:
            return
        del self._planned[chunk_id], self._first_ticks[chunk_id]
        observed_ns = tick.start_ns - tick.lateness_ns - tick.frame_age_ns
        arrived_ns = self._arrived_ns.get(observed_ns)
        if arrived_ns is not None:
            self.chunks.append(_way_of_chunk(observed_ns, arrived_ns, planned, tick))


def _way_of_chunk(observed_ns: int, arrived_ns: int, planned: PolicyReport, tick: TickReport) -> ChunkWay:
    begun_ns = observed_ns + planned.frame_age_ns
    read_ns, choose_ns, shape_ns, check_ns, send_ns = tick.stage_ns
    return ChunkWay(
        wait_ns=max(begun_ns - arrived_ns, 0),  # the policy may hear of a frame before this process does
        inference_ns=planned.inference_ns,
        chunk_hand_over_ns=tick.start_ns + read_ns - begun_ns - planned.inference_ns,
        interpolate_ns=choose_ns + shape_ns,
        limit_ns=check_ns,
        bus_write_ns=send_ns,
        frame_to_command_ns=tick.start_ns + sum(tick.stage_ns) - observed_ns,
    )


def stage_reports(samples: PipelineSamples, budgets_ns: dict[str, int]) -> tuple[list[StageReport], list[StageReport]]:
    """The stages on a frame's way, and what lies across or beside it.

    Raises:
        InputError: nothing was measured.
    """
    columns: dict[str, np.ndarray] = {}
    for kind, ways in ((FrameWay, samples.frames), (ChunkWay, samples.chunks), (TickWay, samples.ticks)):
        if not ways:
            raise InputError("the run gave nothing to measure", "does `sefa-edge run` work with the same options?")
        for field in fields(kind):
            columns[field.name] = np.array([getattr(way, field.name) for way in ways], np.int64)

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
