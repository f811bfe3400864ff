"""Observations in, chunks out: time, noise, history; and the policy process with a real engine and real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.cameras.camera import Frame
from sefa_edge.edge.chunks import ActionChunk
from sefa_edge.edge.engines.engine import open_engine
from sefa_edge.edge.policy import FrameHistory, JointHistory, Observation, Policy
from sefa_edge.edge.policy_process import CameraInput, PolicyConfig
from sefa_edge.edge.policy_records import Happening, Order, PolicyCommand, PolicyReport
from sefa_edge.edge.process import Child, ChildSpec
from sefa_edge.edge.records import JointSample
from sefa_edge.edge.transport import Channel, FrameDescriptor, FrameRing, channel_pair
from sefa_edge.profiles.units import ms_to_ns

PATIENCE_S = 60.0


def frame(stamp_ns: int, camera: str = "front", value: int = 0) -> Frame:
    return Frame(camera, 1, stamp_ns, stamp_ns, np.full((96, 96, 3), value, np.uint8))


def history(*samples: tuple[int, float]) -> JointHistory:
    joints = JointHistory()
    for stamp_ns, value in samples:
        joints.add(JointSample(stamp_ns, np.full(6, value, np.float32)))
    return joints


def test_joints_are_those_of_the_moment_of_the_picture() -> None:
    start_ns = 3_000_000_000_000_000_000  # 95 years of uptime: float32 or naive float64 would lose the milliseconds
    joints = history((start_ns, 0.0), (start_ns + ms_to_ns(10), 10.0), (start_ns + ms_to_ns(20), 20.0))
    wanted = [start_ns - 5, start_ns + ms_to_ns(2.5), start_ns + ms_to_ns(15), start_ns + ms_to_ns(99)]
    np.testing.assert_allclose(joints.at(wanted)[:, 0], [0.0, 2.5, 15.0, 20.0], atol=1e-5)
    assert joints.at(wanted).dtype == np.float32


def test_joint_history_is_bounded_and_in_order() -> None:
    joints = history(*((ms_to_ns(10) * i, float(i)) for i in range(1000)))
    joints.add(JointSample(0, np.full(6, 77, np.float32)))
    assert joints.newest_ns == ms_to_ns(10) * 999
    np.testing.assert_allclose(joints.at([0])[0, 0], 799)
    with pytest.raises(ValueError, match="no joint samples"):
        JointHistory().at([0])


def test_the_past_is_filled_with_the_first_frame() -> None:
    frames = FrameHistory(["front"], 3)
    assert frames.oldest_newest_ns is None
    frames.add(frame(ms_to_ns(100), value=1))
    assert [f.image[0, 0, 0] for f in frames.observe(history((0, 1.0))).frames["front"]] == [1, 1, 1]
    frames.add(frame(ms_to_ns(200), value=2))
    observation = frames.observe(history((0, 0.0), (ms_to_ns(200), 200.0)))
    assert [f.image[0, 0, 0] for f in observation.frames["front"]] == [1, 1, 2]
    np.testing.assert_allclose(observation.joint_deg[:, 0], [100, 100, 200], rtol=1e-6)
    assert observation.observed_ns == ms_to_ns(200)
    frames.clear()
    assert frames.oldest_newest_ns is None


def test_the_camera_that_lags_most_decides_freshness() -> None:
    frames = FrameHistory(["front", "side"], 1)
    frames.add(frame(ms_to_ns(100)))
    assert frames.oldest_newest_ns is None
    frames.add(frame(ms_to_ns(40), "side"))
    assert frames.oldest_newest_ns == ms_to_ns(40)
    assert frames.observe(history((0, 0.0))).observed_ns == ms_to_ns(100)


def test_chunks_lie_in_time_as_the_card_says(reach_engine: Path) -> None:
    engine = open_engine(reach_engine)
    policy = Policy(engine)
    observation = Observation(5_000, {"front": (frame(5_000),)}, np.zeros((1, 6), np.float32))
    first, second = policy.plan(observation), policy.plan(observation)
    engine.close()
    assert first.first_step_ns == 5_000 + ms_to_ns(100)
    assert first.step_period_ns == ms_to_ns(100)
    assert (first.chunk_id, second.chunk_id) == (1, 2)
    assert not np.shares_memory(first.joint_deg, second.joint_deg)


class Bench:
    """The policy process with the test in the place of supervisor, control and camera."""

    def __init__(self, engine: Path) -> None:
        self.supervisor, far_supervisor = channel_pair()
        self.control, far_control = channel_pair()
        self.camera, far_camera = channel_pair()
        self.ring = FrameRing.create(96, 96)
        fds = (far_supervisor.fileno(), far_control.fileno(), far_camera.fileno())
        camera = CameraInput(name="front", height=96, width=96, ring_fd=self.ring.fd, channel_fd=fds[2])
        config = PolicyConfig(
            engine=str(engine), cameras=[camera], supervisor_fd=fds[0], control_fd=fds[1], max_age_ms=1e4
        )
        spec = ChildSpec("policy", "sefa_edge.edge.policy_process", config.model_dump_json(), (*fds, self.ring.fd))
        self.child = Child(spec)
        for channel in (far_supervisor, far_control, far_camera):
            channel.close()

    def see(self, sequence: int) -> int:
        stamp_ns = time.monotonic_ns()
        slot = self.ring.write(sequence, np.full((96, 96, 3), sequence, np.uint8))
        self.camera.send(FrameDescriptor(slot, sequence, stamp_ns, stamp_ns, stamp_ns).pack())
        return stamp_ns

    def feel(self, value: float) -> None:
        self.control.send(JointSample(time.monotonic_ns(), np.full(6, value, np.float32)).pack())

    def report(self, happening: Happening) -> PolicyReport:
        return next(report for report in iter(lambda: self._next_report(), None) if report.happening is happening)

    def chunk(self) -> ActionChunk:
        return ActionChunk.unpack(_receive(self.control), 16, 6)

    def hang_up(self) -> None:
        for channel in (self.supervisor, self.control, self.camera):
            channel.close()

    def close(self) -> None:
        self.hang_up()
        self.child.stop(PATIENCE_S)
        self.child.close()
        self.ring.close()

    def _next_report(self) -> PolicyReport:
        return PolicyReport.unpack(_receive(self.supervisor))


StartBench = Callable[[Path], Bench]


@pytest.fixture
def start() -> Iterator[StartBench]:
    benches: list[Bench] = []

    def start_bench(engine: Path) -> Bench:
        benches.append(Bench(engine))
        return benches[-1]

    yield start_bench
    for bench in benches:
        bench.close()


def _receive(channel: Channel) -> bytes:
    assert channel.wait(PATIENCE_S)
    record = channel.receive()
    assert record is not None
    return record


def test_the_process_plans_on_fresh_pictures_only(start: StartBench, reach_engine: Path) -> None:
    bench = start(reach_engine)
    bench.report(Happening.READY)
    bench.feel(1.0)
    bench.see(1)
    bench.supervisor.send(PolicyCommand(Order.RUN, 7, 3, time.monotonic_ns()).pack())
    assert bench.report(Happening.NO_FRAME).episode == 7
    bench.feel(2.0)
    stamp_ns = bench.see(2)
    chunk, report = bench.chunk(), bench.report(Happening.CHUNK)
    assert (chunk.chunk_id, chunk.observed_ns, report.chunk_id) == (1, stamp_ns, 1)
    np.testing.assert_allclose(chunk.joint_deg[0, 0], 2 + 0.03 * 18, rtol=1e-5)
    bench.supervisor.send(PolicyCommand(Order.PAUSE).pack())
    bench.report(Happening.PAUSED)
    bench.hang_up()
    assert bench.child.wait(PATIENCE_S) == 0


def test_the_process_says_why_it_cannot_start(start: StartBench, tmp_path: Path) -> None:
    bench = start(tmp_path / "absent.onnx")
    assert bench.child.wait(PATIENCE_S) == 2
    failure = bench.child.failure()
    assert "absent.onnx does not exist" in str(failure)
    assert failure.hint
    assert failure.exit_code == 2
