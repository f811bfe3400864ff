"""The contents of a recording, reading it when it is truncated anywhere, and its size limits."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sefa_edge.edge.engines.cache import processor_name
from sefa_edge.edge.ipc.record_header import RecordError
from sefa_edge.edge.ipc.record_json import from_json, schema_of, to_json
from sefa_edge.edge.ipc.records import JointSample
from sefa_edge.edge.ipc.tick_trace import Operation, TickTrace
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.edge.recording.mcap_file import McapWriter, StoredMessage, StoredMetadata, Truncated, read_mcap
from sefa_edge.edge.recording.names import PARTIAL, free_path
from sefa_edge.edge.recording.recorded_run import open_run
from sefa_edge.edge.recording.recording import Recording, RecordingFull, RunFacts
from sefa_edge.edge.recording.topics import CHUNK, INFERENCE, TICK, TOPICS, Picture, picture_topic
from sefa_edge.profiles.errors import InputError

if TYPE_CHECKING:
    from tests.replay.conftest import LockStep

CLASSES: dict[str, type] = {topic.name: topic.record for topic in TOPICS} | {picture_topic("front"): Picture}
EMPTY_FACTS = RunFacts(("front",), 16, 6, {}, {})


def stored_messages(path: Path) -> list[StoredMessage]:
    return [stored for stored in read_mcap(path) if isinstance(stored, StoredMessage)]


def test_every_message_matches_its_schema(recorded: Path) -> None:
    seen = set()
    for stored in stored_messages(recorded):
        from_json(stored.content, CLASSES[stored.topic], stored.topic)
        schema = schema_of(CLASSES[stored.topic])
        assert set(json.loads(stored.content)) == set(schema["properties"])  # pyright: ignore[reportArgumentType]
        seen.add(stored.topic)
    assert seen == set(CLASSES)


def test_schemas_contain_only_types_that_foxglove_plots() -> None:
    def check(schema: dict) -> None:
        assert schema["type"] in ("object", "array", "integer", "number", "boolean", "string")
        for part in schema.get("properties", {}).values():
            check(part)
        if schema["type"] == "array":
            assert schema["items"]["type"] != "array"
            check(schema["items"])

    for cls in CLASSES.values():
        check(schema_of(cls))


def test_the_run_is_described(recorded: Path, reach_engine: Path) -> None:
    run = open_run(recorded)
    assert run.metadata["engine"] == str(reach_engine)
    assert run.metadata["numpy"] == np.__version__
    assert run.metadata["processor"] == processor_name()
    assert run.card.name == "reach"
    assert run.arm.joint_names == run.card.joint_names
    assert run.truncation() == ""
    assert open_run(recorded.parent).path == recorded


def test_frames_have_their_capture_time(recorded: Path) -> None:
    offset_ns = next(
        int(stored.entries["realtime_offset_ns"])
        for stored in read_mcap(recorded)
        if isinstance(stored, StoredMetadata)
    )
    for stored in stored_messages(recorded):
        if stored.topic == picture_topic("front"):
            picture = from_json(stored.content, Picture, stored.topic)
            stamp_ns = picture.timestamp.sec * 10**9 + picture.timestamp.nsec
            assert stamp_ns == picture.capture_ns + offset_ns


def test_numbers_that_are_not_finite_are_read_back() -> None:
    sample = JointSample(1, np.array([0.1, np.nan, np.inf, -np.inf, -0.0], np.float32))
    content = to_json(sample)
    json.loads(content, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    back = from_json(content, JointSample, "/sample", n=5).joint_deg
    assert back.tobytes() == sample.joint_deg.tobytes()


def test_a_file_truncated_anywhere_yields_its_complete_chunks(recorded: Path, tmp_path: Path) -> None:
    content = recorded.read_bytes()
    whole = stored_messages(recorded)
    rng = np.random.default_rng(1)
    places = [8, 9, 20, len(content) - 1, len(content) - 9, *rng.integers(8, len(content), 40).tolist()]
    read = []
    for place in sorted(places):
        path = tmp_path / ("cut.mcap" + PARTIAL)
        path.write_bytes(content[:place])
        parts = list(read_mcap(path))
        found = [part for part in parts if isinstance(part, StoredMessage)]
        assert found == whole[: len(found)]
        assert any(isinstance(part, Truncated) for part in parts)
        read.append(len(found))
    assert read == sorted(read)
    assert read[-1] == len(whole)  # the index at the end is not needed
    assert len(set(read)) > 3


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_never_crash_a_reader(recorded: Path, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(recorded.read_bytes())
    for place in rng.integers(8, len(content), 1 + seed % 5).tolist():
        content[place] = rng.integers(256)
    path = tmp_path / "damaged.mcap"
    path.write_bytes(content)
    with suppress(InputError):  # the only thing that may be raised
        run = open_run(path)
        assert len(stored_messages(run.path)) <= len(stored_messages(recorded))


def test_a_file_that_is_not_a_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mcap").write_text("something else")
    for path, message in (
        (tmp_path / "text.mcap", "is not a recording"),
        (tmp_path / "absent.mcap", "does not exist"),
        (tmp_path, "is not a recording"),
    ):
        with pytest.raises(InputError, match=message):
            open_run(path)
    (tmp_path / "text.mcap").unlink()
    with pytest.raises(InputError, match="contains no recordings"):
        open_run(tmp_path)


def test_a_recording_of_another_format_is_refused_with_its_version(tmp_path: Path) -> None:
    writer = McapWriter(tmp_path / "run.mcap")
    writer.describe("run", {"engine": "model.onnx", "sefa_edge_version": "0.0.9"})
    writer.close()
    with pytest.raises(InputError, match="is a recording of format 1, this version reads format 2") as caught:
        open_run(tmp_path / "run.mcap")
    assert caught.value.hint == "read it with the version that recorded it, or record the run again"


def test_a_recording_appears_under_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = free_path(tmp_path)
    recording = Recording(path, 1 << 20, EMPTY_FACTS)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name + PARTIAL]
    assert free_path(tmp_path) != path
    recording.close()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_full_recording_stops_and_stays_readable(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "run.mcap", 1 << 20, EMPTY_FACTS)
    rng = np.random.default_rng(0)
    sequence = 0
    while recording.size_bytes < 1 << 20:
        recording.check_room()
        sequence += 1
        frame = FrameDescriptor(0, sequence, sequence, sequence, sequence)
        recording.add_picture("front", frame, rng.bytes(20_000))
    with closing(recording), pytest.raises(RecordingFull, match="limit of 1 MB"):
        recording.check_room()
    assert recording.size_bytes < (1 << 20) + (1 << 19)
    assert len(stored_messages(tmp_path / "run.mcap")) == sequence


def test_a_removed_file_is_noticed(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "run.mcap", 1 << 20, EMPTY_FACTS)
    recording.check_room()
    (tmp_path / ("run.mcap" + PARTIAL)).unlink()
    with pytest.raises(FileNotFoundError):
        recording.check_room()
    with pytest.raises(FileNotFoundError):
        recording.close()


def test_unknown_records_are_not_recorded(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "run.mcap", 1 << 20, EMPTY_FACTS)
    for record in (b"", b"\x01", bytes(64)):
        with pytest.raises(RecordError):
            recording.add_record(record)
    recording.close()


def test_every_tick_and_every_chunk_is_recorded(lock_step: LockStep) -> None:
    run = lock_step
    run.play(1, 60)
    run.park()
    run.close()
    stored = stored_messages(run.recording.path)
    traces = [from_json(m.content, TickTrace, TICK) for m in stored if m.topic == TICK]
    assert [trace.report.tick for trace in traces] == [report.tick for report in run.reports]
    for trace, report in zip(traces, run.reports, strict=True):
        assert trace.report.pack() == report.pack()
    assert traces[0].calls[0].operation is Operation.OPEN
    assert Command.RUN in traces[0].events
    assert {trace.report.mode for trace in traces} >= {Mode.ARMED, Mode.RUNNING, Mode.PARK}
    assert len([m for m in stored if m.topic == CHUNK]) == len([m for m in stored if m.topic == INFERENCE]) > 0
