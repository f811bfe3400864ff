"""Observations in, chunks out: time, noise, history; and the policy process with a real engine and real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.cameras.camera import Frame
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import (
    ActionChunk,
    InferenceBegun,
    Order,
    PolicyCommand,
    PolicyEvent,
    PolicyReport,
    Trouble,
)
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.ipc.records import JointSample
from sefa_edge.edge.ipc.ring_reader import RingInput
from sefa_edge.edge.ipc.transport import Channel, FrameDescriptor, FrameRing, channel_pair
from sefa_edge.edge.policy.policy import FrameHistory, JointHistory, Observation, Policy
from sefa_edge.edge.policy.policy_process import PolicyConfig
from sefa_edge.profiles.card import load_card, save_card
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.units import ms_to_ns

PATIENCE_S = 60.0


def frame(stamp_ns: int, camera: str = "front", value: int = 0) -> Frame:
    return Frame(camera, 1, stamp_ns, stamp_ns, np.full((96, 96, 3), value, np.uint8))


def history(*samples: tuple[int, float]) -> JointHistory:
    joints = JointHistory()
    for stamp_ns, value in samples:
        joints.add(JointSample(stamp_ns, np.full(6, value, np.float32)))
    return joints


def test_joints_are_those_at_the_capture_time() -> None:
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


def test_the_time_before_the_first_frame_is_filled_with_it() -> None:
    frames = FrameHistory(["front"], 3, ms_to_ns(100))
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
    frames = FrameHistory(["front", "side"], 1, ms_to_ns(100))
    frames.add(frame(ms_to_ns(100)))
    assert frames.oldest_newest_ns is None
    frames.add(frame(ms_to_ns(40), "side"))
    assert frames.oldest_newest_ns == ms_to_ns(40)
    assert frames.observe(history((0, 0.0))).observed_ns == ms_to_ns(100)


def test_chunks_have_the_times_of_the_card(reach_engine: Path) -> None:
    engine = open_engine(reach_engine)
    policy = Policy(engine)
    observation = Observation(5_000, {"front": (frame(5_000),)}, np.zeros((1, 6), np.float32))
    first, second = policy.plan(observation), policy.plan(observation)
    engine.close()
    assert first.first_step_ns == 5_000 + ms_to_ns(100)
    assert first.step_period_ns == ms_to_ns(100)
    assert (first.chunk_id, second.chunk_id) == (1, 2)
    assert not np.shares_memory(first.joint_deg, second.joint_deg)


def test_older_frames_are_selected_by_capture_time() -> None:
    """A camera at 30 Hz that pauses, and a policy with frames from 100 ms and 200 ms ago."""
    frames = FrameHistory(["front"], 3, ms_to_ns(100))
    for stamp_ms in (0, 33, 66, 100, 133, 166, 200, 233, 266):
        frames.add(frame(ms_to_ns(stamp_ms), value=stamp_ms % 256))
    joints = history(*((ms_to_ns(10) * i, 10.0 * i) for i in range(60)))
    observation = frames.observe(joints)
    assert [f.capture_ns for f in observation.frames["front"]] == [ms_to_ns(stamp) for stamp in (66, 166, 266)]
    np.testing.assert_allclose(observation.joint_deg[:, 0], [66, 166, 266], rtol=1e-6)
    assert observation.frame_gap_ns == 0
    assert observation.joint_gap_ns == ms_to_ns(4)
    frames.add(frame(ms_to_ns(500)))
    frames.add(frame(ms_to_ns(480)))  # out of order: ignored
    observation = frames.observe(joints)
    assert [f.capture_ns for f in observation.frames["front"]] == [ms_to_ns(stamp) for stamp in (266, 500, 500)]
    assert observation.frame_gap_ns == ms_to_ns(100)


def test_the_time_before_an_episode_is_not_a_gap() -> None:
    frames = FrameHistory(["front"], 2, ms_to_ns(100))
    frames.add(frame(ms_to_ns(1000)))
    assert frames.observe(history((0, 0.0))).frame_gap_ns == 0
    frames.add(frame(ms_to_ns(1030)))
    observation = frames.observe(history((0, 0.0), (ms_to_ns(1010), 1.0)))
    assert [f.capture_ns for f in observation.frames["front"]] == [ms_to_ns(1000), ms_to_ns(1030)]
    assert (observation.frame_gap_ns, observation.joint_gap_ns) == (0, ms_to_ns(20))


@pytest.fixture(scope="session")
def failing_engine(tmp_path_factory: pytest.TempPathFactory, make_reach_engine) -> Path:
    """An engine that works for joints near zero; otherwise it looks up a row that does not exist."""
    import onnx
    from onnx import TensorProto, helper

    path = make_reach_engine(tmp_path_factory.mktemp("failing"))
    card, model = load_card(path), onnx.load(path)
    graph = model.graph
    graph.node[-1].output[0] = "planned"
    graph.node.extend(
        [
            helper.make_node("Cast", ["joints"], ["rows"], to=TensorProto.INT64),
            helper.make_node("Gather", ["noise", "rows"], ["found"], axis=0),
            helper.make_node("ReduceMean", ["found"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing_found"]),
            helper.make_node("Add", ["planned", "nothing_found"], ["chunk"]),
        ]
    )
    onnx.save(model, path)
    save_card(card.model_copy(update={"engine_sha256": sha256_of(path)}), path)
    return path


class Bench:
    """The policy process, with the test as supervisor, control and camera."""

    def __init__(self, engine: Path) -> None:
        self.supervisor, far_supervisor = channel_pair()
        self.control, far_control = channel_pair()
        self.camera, far_camera = channel_pair()
        self.ring = FrameRing.create(96, 96)
        fds = (far_supervisor.fileno(), far_control.fileno(), far_camera.fileno())
        camera = RingInput(name="front", height=96, width=96, ring_fd=self.ring.fd, channel_fd=fds[2])
        config = PolicyConfig(
            engine=str(engine), cameras=[camera], supervisor_fd=fds[0], control_fd=fds[1], max_age_ms=1e4
        )
        spec = ChildSpec(
            "policy", "sefa_edge.edge.policy.policy_process", config.model_dump_json(), (*fds, self.ring.fd)
        )
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

    def report(self, event: PolicyEvent) -> PolicyReport:
        return next(report for report in iter(lambda: self._next_report(), None) if report.event is event)

    def chunk(self) -> ActionChunk:
        """The next chunk, after the record that its inference has begun."""
        InferenceBegun.unpack(_receive(self.control))
        return ActionChunk.unpack(_receive(self.control), T=16, n=6)

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


@pytest.mark.slow
def test_the_process_plans_only_on_fresh_frames(start: StartBench, reach_engine: Path) -> None:
    bench = start(reach_engine)
    bench.report(PolicyEvent.READY)
    bench.feel(1.0)
    bench.see(1)
    bench.supervisor.send(PolicyCommand(Order.RUN, 7, 3, time.monotonic_ns()).pack())
    assert bench.report(PolicyEvent.NO_FRAME).episode == 7
    bench.feel(2.0)
    stamp_ns = bench.see(2)
    bench.feel(2.0)
    chunk, report = bench.chunk(), bench.report(PolicyEvent.CHUNK)
    assert (chunk.chunk_id, chunk.observed_ns, report.chunk_id) == (1, stamp_ns, 1)
    np.testing.assert_allclose(chunk.joint_deg[0, 0], 2 + 0.03 * 18, rtol=1e-5)
    bench.supervisor.send(PolicyCommand(Order.PAUSE).pack())
    bench.report(PolicyEvent.PAUSED)
    bench.hang_up()
    assert bench.child.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_an_engine_failure_is_sent_to_control_and_printed(start: StartBench, failing_engine: Path) -> None:
    bench = start(failing_engine)
    bench.report(PolicyEvent.READY)
    bench.supervisor.send(PolicyCommand(Order.RUN, 1, 0, time.monotonic_ns()).pack())
    bench.feel(1000.0)
    bench.see(1)
    bench.feel(1000.0)
    InferenceBegun.unpack(_receive(bench.control))
    trouble = Trouble.unpack(_receive(bench.control))
    assert trouble.fault is Fault.ENGINE_FAILED
    assert trouble.about
    assert bench.child.wait(PATIENCE_S) == 3
    failure = bench.child.failure()
    assert str(failure).startswith(f"the engine failed while it ran: {trouble.about}")
    assert "Traceback" not in bench.child.stderr_tail()


@pytest.mark.slow
def test_the_process_says_why_it_cannot_start(start: StartBench, tmp_path: Path) -> None:
    bench = start(tmp_path / "absent.onnx")
    assert bench.child.wait(PATIENCE_S) == 2
    failure = bench.child.failure()
    assert "absent.onnx does not exist" in str(failure)
    assert failure.hint
    assert failure.exit_code == 2
