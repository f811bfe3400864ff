"""The status line, the summary, the choice of moments for the contact sheet: what a person sees."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import NONE_NS, TickReport
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.edge.pictures import read_picture
from sefa_edge.edge.run.status import RateMeter, Status, StatusLine
from sefa_edge.edge.run.summary import EpisodeResult, RunSummary
from sefa_edge.edge.viewing.samples import MAX_SAMPLES, Sample, SampleBuffer
from sefa_edge.edge.viewing.video import chosen_moments, write_video
from sefa_edge.profiles.units import ms_to_ns, s_to_ns

STATUS = Status("episode 2/5", "running", 99.97, ms_to_ns(21), ms_to_ns(14), "success 1/1")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tick(number: int, chunk_id: int = NONE_NS, skipped: int = 0) -> TickReport:
    return TickReport(
        tick=number,
        start_ns=s_to_ns(1) + number * ms_to_ns(10),
        lateness_ns=1000,
        stage_ns=(1000, 1000, 1000, 1000, 1000),
        skipped_ticks=skipped,
        dropped_records=0,
        frame_age_ns=ms_to_ns(20),
        chunk_age_ns=0,
        chunk_id=chunk_id,
        mode=Mode.RUNNING,
        settled=False,
        fault=Fault.NONE,
        fault_joints=0,
        clipped_bits=0,
        joint_deg=np.zeros(6, np.float32),
        goal_deg=np.zeros(6, np.float32),
    )


def test_one_line_per_second_where_it_cannot_be_rewritten() -> None:
    stream = io.StringIO()
    line = StatusLine(stream)
    for tenth in range(25):
        line.update(STATUS, s_to_ns(100) + ms_to_ns(100) * tenth)
    line.finish()
    assert stream.getvalue().count("\n") == 3
    assert "\x1b" not in stream.getvalue()
    assert (
        "episode 2/5    running     100.0 Hz  inference  21.0 ms  picture  14.0 ms old  success 1/1"
        in stream.getvalue()
    )


def test_a_terminal_line_is_rewritten_and_messages_stand_apart() -> None:
    stream = Terminal()
    line = StatusLine(stream)
    line.update(STATUS, s_to_ns(100))
    line.update(STATUS, s_to_ns(101))
    line.say("Ctrl-C: stopping")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\r\x1b[2KCtrl-C: stopping\n")


def test_unknown_values_are_dashes() -> None:
    assert "-- Hz" in Status("", "starting", None, None, None, "").line().replace("   ", " ")


def test_the_rate_leaves_skipped_ticks_out() -> None:
    meter = RateMeter()
    for number in range(1, 250):
        meter.add(number, s_to_ns(5) + number * ms_to_ns(10))
    assert meter.rate_hz == 100.0


def test_the_rate_of_another_control_process_is_counted_anew() -> None:
    """It counts its ticks from 1, and its grid need not begin after the other's last tick."""
    meter = RateMeter()
    rates_hz = []
    stamps_ns = [s_to_ns(5) + number * ms_to_ns(10) for number in range(900)]
    for number, stamp_ns in enumerate([*stamps_ns[:450], *(stamp - ms_to_ns(30) for stamp in stamps_ns[450:])]):
        meter.add(1 + number % 450, stamp_ns)
        rates_hz.append(meter.rate_hz)
    assert {rate_hz for rate_hz in rates_hz if rate_hz is not None} == {100.0}


def test_the_loop_rate_of_a_run_with_a_rescue_leaves_out_the_time_between() -> None:
    summary = RunSummary("reach", "so101_sim", 100.0)
    for number in range(1, 401):
        summary.count(tick(number))
    summary.begin_control()
    for number in range(1, 11):
        summary.count(replace(tick(number), start_ns=tick(400).start_ns + s_to_ns(2) + number * ms_to_ns(10)))
    assert summary.loop_rate_hz == pytest.approx(100.0)
    assert (summary.ticks, summary.lost_reports) == (410, 0)


def test_summary_counts_losses_and_first_uses_of_chunks() -> None:
    summary = RunSummary("reach", "so101_sim", 100.0)
    for report in (tick(1), tick(2, 1), tick(3, 1), tick(6, 2), tick(9, 2, skipped=2)):
        summary.count(report)
    summary.episodes += [EpisodeResult(1, 0, "success", 3.0, 4), EpisodeResult(2, 1, "timeout", 8.0, 9)]
    found = json.loads(summary.as_json())
    assert found["loop"]["lost_reports"] == 2
    assert found["loop"]["skipped_ticks"] == 2
    assert found["loop"]["rate_hz"] == 75.0
    assert found["camera_to_command_ms"]["p50"] == 20.006
    assert (found["successes"], found["judged_episodes"]) == (1, 2)
    assert "success            1 of 2 episodes" in summary.text()


def test_a_run_that_never_moved_has_a_summary_too() -> None:
    summary = RunSummary("reach", "so101_sim", 100.0)
    assert json.loads(summary.as_json())["inference_ms"] is None
    assert summary.text() == ""


def test_the_sample_buffer_is_bounded_and_even() -> None:
    buffer: SampleBuffer[int] = SampleBuffer()
    for step in range(10 * MAX_SAMPLES):
        stamp_ns = step * ms_to_ns(100)
        if buffer.is_due(stamp_ns):
            buffer.add(Sample(stamp_ns, 1, "", step))
    stamps = np.array([sample.stamp_ns for sample in buffer.samples])
    assert MAX_SAMPLES / 2 <= len(stamps) <= MAX_SAMPLES
    assert len(set(np.diff(stamps))) == 1


def test_the_contact_sheet_shows_starts_and_ends(tmp_path: Path) -> None:
    buffer: SampleBuffer[int] = SampleBuffer()
    for episode in range(1, 9):
        for step in range(40):
            buffer.add(Sample(step, episode, f"episode {episode}", step))
        buffer.extend_last_caption("success")
    rows = chosen_moments(buffer.samples)
    assert [row[0].episode for row in rows] == [1, 2, 4, 5, 7, 8]
    assert [(row[0].content, row[-1].content) for row in rows] == [(0, 39)] * 6
    assert rows[0][-1].caption == "episode 1  success"
    write_video(tmp_path / "sheet.png", buffer, lambda step: np.full((60, 80, 3), step, np.uint8))
    assert read_picture(tmp_path / "sheet.png").shape == (6 * 244 - 4, 5 * 324 - 4, 3)
