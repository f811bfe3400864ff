"""The recorder as a process: given records by the test, killed, at its size limit, and with its file removed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.ipc.record_json import from_json
from sefa_edge.edge.ipc.ring_reader import RingInput
from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
from sefa_edge.edge.ipc.transport import ChannelClosed, FrameDescriptor, FrameRing, channel_pair
from sefa_edge.edge.pictures import decode_picture
from sefa_edge.edge.recording.mcap_file import StoredMessage, Truncated, read_mcap
from sefa_edge.edge.recording.names import PARTIAL
from sefa_edge.edge.recording.recorder_config import RecorderConfig
from sefa_edge.edge.recording.topics import EVENT, LOSSES, Losses, Picture, picture_topic

PATIENCE_S = 60.0
HEIGHT, WIDTH = 48, 64


class Bench:
    """A recorder with one camera, and all its senders."""

    def __init__(self, path: Path, limit_bytes: int = 100 << 20) -> None:
        self.path = path
        self.ring = FrameRing.create(HEIGHT, WIDTH)
        pairs = [channel_pair() for _ in range(3)]
        self.supervisor, self.control, self.camera = (near for near, _ in pairs)
        ends = [far for _, far in pairs]
        size = {"height": HEIGHT, "width": WIDTH}
        config = RecorderConfig(
            path=str(path),
            limit_bytes=limit_bytes,
            cameras=[RingInput(name="front", ring_fd=self.ring.fd, channel_fd=ends[2].fileno(), **size)],
            supervisor_fd=ends[0].fileno(),
            sender_fds=[ends[1].fileno()],
            horizon=16,
            joints=6,
            words={},
            attachments={"card.json": "{}"},
        )
        fds = (self.ring.fd, *(end.fileno() for end in ends))
        module = "sefa_edge.edge.recording.recorder_process"
        self.child = Child(ChildSpec("recorder", module, config.model_dump_json(), fds))
        for end in ends:
            end.close()
        self.rng = np.random.default_rng(3)
        self.sent: list[np.ndarray] = []

    @property
    def partial(self) -> Path:
        return self.path.with_name(self.path.name + PARTIAL)

    def send_picture(self) -> None:
        """Send a picture that does not compress, and wait until the recorder has received it."""
        sequence = len(self.sent)
        self.sent.append(self.rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        slot = self.ring.write(sequence, self.sent[-1])
        self.camera.send(FrameDescriptor(slot, sequence, sequence, sequence, sequence).pack())
        self.child.wait(0.005)

    def send_event(self, stage: RunStage, text: str = "") -> None:
        self.supervisor.send(RunEvent(stage, 5, 1, 2, text).pack())

    def close(self) -> None:
        self.child.stop(0.0)
        self.child.close()
        self.ring.close()
        for channel in (self.supervisor, self.control, self.camera):
            channel.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "run.mcap")
    yield made
    made.close()


def stored(path: Path, topic: str) -> list[StoredMessage]:
    return [part for part in read_mcap(path) if isinstance(part, StoredMessage) and part.topic == topic]


def wait_for_start(bench: Bench) -> None:
    """The recorder has opened its file."""
    while not bench.partial.exists():
        assert bench.child.wait(0.02) is None, bench.child.stderr_tail()


def test_frames_are_lossless_and_written_before_the_end(bench: Bench) -> None:
    wait_for_start(bench)
    bench.send_event(RunStage.EPISODE_BEGIN)
    for _ in range(5):
        bench.send_picture()
    bench.send_event(RunStage.END, "arm parked")
    assert bench.child.wait(PATIENCE_S) == 0, bench.child.stderr_tail()
    assert "MB, 0 pictures and 0 records lost" in bench.child.stderr_tail()
    pictures = [from_json(part.content, Picture, "picture") for part in stored(bench.path, picture_topic("front"))]
    assert [picture.sequence for picture in pictures] == list(range(5))
    for picture, shown in zip(pictures, bench.sent, strict=True):
        np.testing.assert_array_equal(decode_picture(picture.data), shown)
    events = [from_json(part.content, RunEvent, EVENT) for part in stored(bench.path, EVENT)]
    expected = [(RunStage.EPISODE_BEGIN, ""), (RunStage.END, "arm parked")]
    assert [(event.stage, event.text) for event in events] == expected
    assert not any(isinstance(part, Truncated) for part in read_mcap(bench.path))


def test_invalid_records_and_lost_frames_are_counted(bench: Bench) -> None:
    wait_for_start(bench)
    bench.control.send(b"nonsense")
    bench.control.send(bytes(100))
    bench.camera.send(FrameDescriptor(0, 999, 0, 0, 0).pack())  # overwritten long ago
    bench.send_event(RunStage.END)
    assert bench.child.wait(PATIENCE_S) == 0, bench.child.stderr_tail()
    assert "1 pictures and 2 records lost" in bench.child.stderr_tail()
    last = from_json(stored(bench.path, LOSSES)[-1].content, Losses, LOSSES)
    assert (last.pictures, last.records) == (1, 2)


def test_a_killed_recorder_leaves_what_it_has_written(bench: Bench) -> None:
    wait_for_start(bench)
    while len(bench.sent) < 1000 and (not bench.partial.exists() or bench.partial.stat().st_size < 500_000):
        bench.send_picture()
    os.kill(bench.child.pid, signal.SIGKILL)
    assert bench.child.wait(PATIENCE_S) == -signal.SIGKILL
    assert not bench.path.exists()
    kept = stored(bench.partial, picture_topic("front"))
    assert 20 < len(kept) <= len(bench.sent)
    assert any(isinstance(part, Truncated) for part in read_mcap(bench.partial))


def test_a_full_recording_ends_with_its_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run.mcap", limit_bytes=1 << 20)
    try:
        wait_for_start(bench)
        deadline_s = time.monotonic() + PATIENCE_S
        while bench.child.exit_code is None and time.monotonic() < deadline_s:
            with suppress(ChannelClosed):  # it may exit at any time
                bench.send_picture()
            time.sleep(0.001)  # it drops most frames that arrive faster than it can write
        assert bench.child.exit_code == 1
        assert str(bench.child.failure()) == "it has reached its limit of 1 MB"
        assert len(stored(bench.path, picture_topic("front"))) > 50
    finally:
        bench.close()


def test_a_vanished_file_ends_with_its_reason(bench: Bench) -> None:
    wait_for_start(bench)
    bench.send_picture()
    bench.partial.unlink()
    assert bench.child.wait(PATIENCE_S) == 3
    assert "removed" in str(bench.child.failure())


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "nowhere" / "run.mcap")
    try:
        assert bench.child.wait(PATIENCE_S) == 2
        assert "cannot be written" in str(bench.child.failure())
    finally:
        bench.close()


def test_a_supervisor_that_is_gone_ends_the_recording(bench: Bench) -> None:
    wait_for_start(bench)
    bench.send_picture()
    bench.supervisor.close()
    assert bench.child.wait(PATIENCE_S) == 0
    assert len(stored(bench.path, picture_topic("front"))) == 1
