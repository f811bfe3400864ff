"""Records come back from packing unchanged; anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.ipc.faults import ArmLeft, Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.record_header import RecordError, kind_of
from sefa_edge.edge.ipc.records import (
    ControlCommand,
    Final,
    JointSample,
    Privilege,
    Ready,
    TickReport,
    Torque,
    unpack_for_supervisor,
)
from sefa_edge.edge.ipc.vocabulary import Command, Mode

int64 = st.integers(-(2**63), 2**63 - 1)
count = st.integers(0, 2**63 - 1)
nanoseconds = st.integers(0, 2**32 - 1)
floats = st.floats(width=32, allow_nan=True)


def rows(n: int) -> st.SearchStrategy[np.ndarray]:
    return st.lists(floats, min_size=n, max_size=n).map(lambda row: np.array(row, np.float32))


shapes = st.tuples(st.integers(1, 20), st.integers(1, 8))
chunks = shapes.flatmap(
    lambda shape: st.builds(
        ActionChunk,
        int64,
        int64,
        int64,
        int64,
        rows(shape[0] * shape[1]).map(lambda flat: flat.reshape(shape)),
        int64,
    )
)
reports = st.integers(1, 8).flatmap(
    lambda n: st.builds(
        TickReport, count, int64, int64, st.tuples(*[nanoseconds] * 5), count, count, int64, int64, int64,
        st.sampled_from(Mode), st.booleans(), st.sampled_from(Fault), nanoseconds, nanoseconds,
        rows(n), rows(n),
    )
)  # fmt: skip
texts = st.text(max_size=40).filter(lambda text: not text.endswith("\0"))
finals = st.builds(
    Final, st.sampled_from(Mode), st.sampled_from(Fault), nanoseconds, st.sampled_from(Torque),
    st.sampled_from(ArmLeft), st.integers(0, 255), count, count, texts, texts,
)  # fmt: skip


def assert_same(left: object, right: object) -> None:
    for field in left.__dataclass_fields__:  # type: ignore[attr-defined]
        np.testing.assert_array_equal(getattr(left, field), getattr(right, field))


@given(chunks)
def test_chunk_round_trip(chunk: ActionChunk) -> None:
    assert_same(ActionChunk.unpack(chunk.pack(), **dict(zip("Tn", chunk.joint_deg.shape, strict=True))), chunk)


@given(reports)
def test_report_round_trip(report: TickReport) -> None:
    unpacked = unpack_for_supervisor(report.pack(), len(report.joint_deg))
    assert isinstance(unpacked, TickReport)
    assert_same(unpacked, report)


@given(finals)
def test_final_round_trip(final: Final) -> None:
    assert unpack_for_supervisor(final.pack(), 6) == final


@given(int64, st.integers(0, 15), st.integers(0, 15), rows(6))
def test_ready_and_sample_round_trip(number: int, asked: int, granted: int, joint_deg: np.ndarray) -> None:
    ready = Ready(number, Privilege(asked), Privilege(granted), joint_deg)
    assert_same(unpack_for_supervisor(ready.pack(), 6), ready)
    sample = JointSample(number, joint_deg)
    assert_same(JointSample.unpack(sample.pack(), n=6), sample)


@pytest.mark.parametrize("command", Command)
def test_command_round_trip(command: Command) -> None:
    assert ControlCommand.unpack(ControlCommand(command).pack()).command is command


@given(st.binary(max_size=700), st.integers(1, 8))
def test_bytes_of_no_known_kind_are_refused(record: bytes, joints: int) -> None:
    try:
        kind_of(record)
    except RecordError:
        with pytest.raises(RecordError):
            unpack_for_supervisor(record, joints)


@given(reports, st.data())
def test_a_damaged_record_is_refused_or_still_a_report(report: TickReport, data: st.DataObject) -> None:
    record = bytearray(report.pack())
    record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(record[: data.draw(st.integers(0, len(record)))])
    for candidate in (bytes(record), cut):
        try:
            unpacked = unpack_for_supervisor(candidate, len(report.joint_deg))
        except RecordError:
            continue
        assert isinstance(unpacked, TickReport)
