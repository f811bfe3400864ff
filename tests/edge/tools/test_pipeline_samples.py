"""Time stamps of frames, chunks and ticks are combined into the durations of stages."""

from __future__ import annotations

import numpy as np
import pytest

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import PolicyEvent, PolicyReport
from sefa_edge.edge.ipc.records import NONE_NS, TickReport
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.edge.tools.profiling.samples import OTHERS, STAGES, PipelineSamples, stage_reports
from sefa_edge.profiles.errors import InputError

MS = 1_000_000
CAPTURE_NS = 1_000 * MS
FRAME = FrameDescriptor(0, 1, CAPTURE_NS, CAPTURE_NS + 4 * MS, CAPTURE_NS + 5 * MS)
ARRIVED_NS = CAPTURE_NS + 6 * MS
PLANNED = PolicyReport(PolicyEvent.CHUNK, 1, chunk_id=7, inference_ns=20 * MS, frame_age_ns=16 * MS)
STAGE_NS = (2 * MS, 100_000, 20_000, 80_000, 50_000)


def tick(number: int, *, mode: Mode = Mode.RUNNING, chunk_id: int = NONE_NS, frame_age_ns: int = NONE_NS) -> TickReport:
    """A tick of a loop with a period of 10 ms, 1 ms late."""
    pose = np.zeros(6, np.float32)
    return TickReport(
        tick=number,
        start_ns=CAPTURE_NS + number * 10 * MS + MS,
        lateness_ns=MS,
        stage_ns=STAGE_NS,
        skipped_ticks=0,
        dropped_records=0,
        frame_age_ns=frame_age_ns,
        chunk_age_ns=0,
        chunk_id=chunk_id,
        mode=mode,
        settled=False,
        fault=Fault.NONE,
        fault_joints=0,
        clipped_bits=0,
        joint_deg=pose,
        goal_deg=pose,
    )


@pytest.mark.parametrize("policy_first", [True, False])
def test_the_stages_of_a_chunk(policy_first: bool) -> None:
    samples = PipelineSamples(wanted=1)
    records = samples.begin_run()
    records.on_tick(tick(0))
    records.on_frame(FRAME, ARRIVED_NS)
    first = tick(4, chunk_id=7, frame_age_ns=40 * MS)
    hear = [lambda: records.on_policy_report(PLANNED), lambda: records.on_tick(first)]
    for step in hear if policy_first else reversed(hear):
        assert not records.satisfied
        step()
    records.on_tick(tick(5, chunk_id=7, frame_age_ns=50 * MS))

    assert records.satisfied
    (chunk,), (frame,) = samples.chunks, samples.frames
    assert (frame.capture_ns, frame.resize_ns, frame.frame_hand_over_ns) == (4 * MS, MS, MS)
    assert chunk.wait_ns == 10 * MS
    assert chunk.inference_ns == 20 * MS
    assert chunk.chunk_hand_over_ns == 41 * MS + STAGE_NS[0] - 36 * MS
    assert (chunk.interpolate_ns, chunk.limit_ns, chunk.bus_write_ns) == (120_000, 80_000, 50_000)
    assert chunk.frame_to_command_ns == 41 * MS + sum(STAGE_NS)


def test_the_stages_of_a_chunk_add_up_to_its_total() -> None:
    samples = PipelineSamples(wanted=1)
    records = samples.begin_run()
    records.on_tick(tick(0))
    records.on_frame(FRAME, ARRIVED_NS)
    records.on_policy_report(PLANNED)
    records.on_tick(tick(4, chunk_id=7, frame_age_ns=40 * MS))
    stages, others = stage_reports(samples, {"tick_ns": 10 * MS})
    assert sum(stage.max_ns for stage in stages) == others[0].max_ns
    assert [stage.key + "_ns" for stage in stages] == list(STAGES)
    assert [stage.key + "_ns" for stage in others] == list(OTHERS)
    assert [stage.budget_ns for stage in others] == [None, 10 * MS, None, None]


def test_chunk_ids_of_a_second_run_start_from_one_again() -> None:
    samples = PipelineSamples(wanted=2)
    for _ in range(2):
        records = samples.begin_run()
        records.on_tick(tick(0))
        records.on_frame(FRAME, ARRIVED_NS)
        records.on_policy_report(PLANNED)
        records.on_tick(tick(4, chunk_id=7, frame_age_ns=40 * MS))
    assert samples.satisfied


def test_ticks_before_running_are_not_measured() -> None:
    samples = PipelineSamples(wanted=1)
    records = samples.begin_run()
    records.on_tick(tick(0, mode=Mode.ARMED))
    records.on_frame(FRAME, ARRIVED_NS)
    assert (samples.ticks, samples.frames) == ([], [])
    with pytest.raises(InputError, match="nothing to measure"):
        stage_reports(samples, {})


def test_a_chunk_whose_frame_did_not_arrive_does_not_count() -> None:
    samples = PipelineSamples(wanted=1)
    records = samples.begin_run()
    records.on_policy_report(PLANNED)
    records.on_tick(tick(4, chunk_id=7, frame_age_ns=40 * MS))
    assert not samples.satisfied
