"""Records between supervisor, policy and video process come back from packing; anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import (
    REPORTED_BY_POLICY,
    InferenceBegun,
    Order,
    PolicyCommand,
    PolicyEvent,
    PolicyReport,
    Trouble,
)
from sefa_edge.edge.ipc.record_header import RecordError
from sefa_edge.edge.ipc.video_command import CAPTION_BYTES, VideoAction, VideoCommand

int64 = st.integers(-(2**63), 2**63 - 1)
commands = st.builds(PolicyCommand, st.sampled_from(Order), int64, int64, int64)
reports = st.builds(PolicyReport, st.sampled_from(PolicyEvent), *[int64] * 7)
captions = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=CAPTION_BYTES)
orders = st.builds(VideoCommand, st.sampled_from(VideoAction), int64, captions)


@given(commands, reports, orders)
def test_records_come_back_from_packing(command: PolicyCommand, report: PolicyReport, video: VideoCommand) -> None:
    assert PolicyCommand.unpack(command.pack()) == command
    assert PolicyReport.unpack(report.pack()) == report
    assert VideoCommand.unpack(video.pack()) == video
    assert InferenceBegun.unpack(InferenceBegun(command.after_ns).pack()).begun_ns == command.after_ns


@given(commands, reports)
def test_a_record_is_not_accepted_as_another_kind(command: PolicyCommand, report: PolicyReport) -> None:
    with pytest.raises(RecordError):
        PolicyReport.unpack(command.pack())
    with pytest.raises(RecordError):
        PolicyCommand.unpack(report.pack())


@given(st.sampled_from(sorted(REPORTED_BY_POLICY)), st.text(max_size=80))
def test_trouble_keeps_as_much_of_its_text_as_fits(fault: Fault, about: str) -> None:
    trouble = Trouble.unpack(Trouble(fault, about).pack())
    assert trouble.fault is fault
    assert about.rstrip("\0").startswith(trouble.about)
    assert len(about.encode()) > 60 or trouble.about == about.rstrip("\0")


def test_a_policy_may_not_report_a_fault_of_another_process() -> None:
    with pytest.raises(RecordError):
        Trouble.unpack(Trouble(Fault.TORQUE_REFUSED).pack())


@given(st.binary(max_size=120))
def test_noise_is_refused(record: bytes) -> None:
    for record_type in (PolicyCommand, PolicyReport, VideoCommand, InferenceBegun, Trouble):
        with pytest.raises(RecordError):
            record_type.unpack(record)
