"""Recorded runs in lock-step: loop, policy, taps and recorder of `sefa-edge run`, in one process, not in real time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.cameras.camera import Frame
from sefa_edge.edge.control.clock import ManualClock, Pacer
from sefa_edge.edge.control.control_process import ControlConfig, Surroundings, build_loop, control_period_ns
from sefa_edge.edge.control.links import DirectLinks
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.ipc.records import JointSample, TickReport
from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.edge.pictures import encode_png
from sefa_edge.edge.policy.policy import FrameHistory, JointHistory, Policy
from sefa_edge.edge.policy.policy_tap import PolicyTap, TappedEngine
from sefa_edge.edge.recording.mcap_file import McapWriter, StoredAttachment, StoredMessage, StoredMetadata, read_mcap
from sefa_edge.edge.recording.recording import Recording, RunFacts
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmTimeout
from sefa_edge.firmware_bridge.host.messages import JointGoal, JointState
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.plant_arm import PlantArm
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.units import NS_PER_S, period_ns

Change = Callable[[StoredMessage], Iterator[bytes]]
Rewrite = Callable[..., Path]
LIMIT_BYTES = 100 << 20
FRAME_TICKS = 3
NEARBY = {"park_pose_deg": [0.0, -20.0, 20.0, 10.0, 0.0, 10.0], "move_velocity_deg_s": 120.0}
"""With these, parking takes half a second."""


class UnreliableArm(PlantArm):
    """Does not answer some reads, and loses its port at one goal."""

    silent = frozenset({40, 41, 120})
    unplugged = 150
    sent = 0

    def read_state(self) -> JointState:
        state = super().read_state()
        if state.sequence in self.silent:
            raise ArmTimeout("silent")
        return state

    def send(self, goal: JointGoal) -> None:
        self.sent += 1
        if self.sent == self.unplugged:
            raise ArmDisconnected("unplugged")
        super().send(goal)


@dataclass(frozen=True)
class DirectSink:
    """A sink that passes records directly to the recording."""

    recording: Recording

    def put(self, record: bytes) -> None:
        self.recording.add_record(record)


class LockStep:
    """A run of two episodes that writes `path`."""

    def __init__(self, engine: Path, path: Path, arm_type: type[PlantArm] = PlantArm) -> None:
        self.engine = TappedEngine(open_engine(engine))
        self.card = self.engine.card
        self.profile = load_arm_profile("so101_sim").model_copy(update=NEARBY)
        config = ControlConfig(
            arm="so101_sim", port="", calibration=None, horizon=self.card.timing.horizon, supervisor_fd=0, policy_fd=0
        )
        self.recording = Recording(path, LIMIT_BYTES, self._facts(engine, config))
        self.sink = DirectSink(self.recording)
        self.clock, self.links = ManualClock(5 * NS_PER_S), DirectLinks()
        plant = KinematicPlant.of_arm(self.profile, self.clock.now_ns)
        arm: Arm = arm_type(self.profile, plant, self.clock.now_ns)
        surroundings = Surroundings(self.clock, self.links, lambda: arm)
        self.loop = build_loop(config, self.profile, surroundings, self.sink)
        self.pacer = Pacer(self.clock, control_period_ns(config, self.profile))
        self.policy, self.tap = Policy(self.engine), PolicyTap(self.engine, self.sink)
        self.frames, self.joints = FrameHistory(["front"], 1, period_ns(10.0)), JointHistory()
        self.reports: list[TickReport] = []
        self.rng = np.random.default_rng(7)

    def _facts(self, engine: Path, config: ControlConfig) -> RunFacts:
        attachments = {
            "card.json": self.card.model_dump_json(),
            "arm.json": self.profile.model_dump_json(),
            "control.json": config.model_dump_json(),
        }
        metadata = {"engine": str(engine), "command_line": "sefa-edge run"}
        return RunFacts(("front",), self.card.timing.horizon, len(self.profile.joints), metadata, attachments)

    def tick(self) -> TickReport:
        self.reports.append(self.loop.tick(self.pacer.wait()))
        if len(self.reports) % FRAME_TICKS == 0:
            self._add_frame()
        assert self.links.state is not None
        self.joints.add(JointSample(self.links.state.stamp_ns, self.links.state.joint_deg.astype(np.float32)))
        return self.reports[-1]

    def _add_frame(self) -> None:
        now_ns, sequence = self.clock.now_ns(), len(self.reports) // FRAME_TICKS
        image = np.kron(self.rng.integers(0, 255, (12, 12, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        self.frames.add(Frame("front", sequence, now_ns, now_ns, image))
        self.recording.add_picture("front", FrameDescriptor(0, sequence, now_ns, now_ns, now_ns), encode_png(image))

    def until(self, condition: Callable[[TickReport], bool]) -> None:
        for _ in range(2000):
            if condition(self.tick()) or self.loop.state.finished:
                return
        raise AssertionError(f"still {self.reports[-1]}")

    def play(self, episode: int, ticks: int) -> None:
        """One episode: to the start pose, then chunks."""
        self.links.waiting_events.extend((Command.ARM, Command.RUN))
        self.until(lambda report: report.mode is Mode.RUNNING)
        self._note(RunStage.EPISODE_BEGIN, episode)
        self.policy.start_episode(episode)
        chunk_ticks = self.card.timing.execute_steps * self._step_ticks()
        for tick in range(ticks):
            if tick % chunk_ticks == FRAME_TICKS:
                observation = self.frames.observe(self.joints)
                chunk = self.policy.plan(observation)
                self.tap.record(observation, chunk)
                self.links.waiting_chunks.append(chunk)
            self.tick()
        self._note(RunStage.EPISODE_END, episode, "success")

    def park(self) -> None:
        self.links.waiting_events.append(Command.STOP)
        self.until(lambda _: self.loop.state.finished)
        self._note(RunStage.END, 0)

    def close(self) -> None:
        self.engine.close()
        self.recording.close()

    def _step_ticks(self) -> int:
        return period_ns(self.card.timing.policy_rate_hz) // period_ns(self.profile.control_rate_hz)

    def _note(self, stage: RunStage, episode: int, text: str = "") -> None:
        self.recording.add_record(RunEvent(stage, self.clock.now_ns(), episode, episode, text).pack())


def record_run(run: LockStep) -> Path:
    """Two episodes, then park."""
    run.play(1, 130)
    run.play(2, 100)
    run.park()
    path = run.recording.path
    run.close()
    return path


@pytest.fixture(scope="session")
def recorded(reach_engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete recording."""
    return record_run(LockStep(reach_engine, tmp_path_factory.mktemp("recorded") / "run.mcap"))


@pytest.fixture
def lock_step(reach_engine: Path, tmp_path: Path) -> LockStep:
    """A run that the test steps itself."""
    return LockStep(reach_engine, tmp_path / "run.mcap")


@pytest.fixture
def recorded_unreliable(reach_engine: Path, tmp_path: Path) -> Path:
    """A complete recording of an arm that stops answering and is unplugged."""
    return record_run(LockStep(reach_engine, tmp_path / "run.mcap", UnreliableArm))


def unchanged(part: StoredAttachment) -> bytes:
    return part.content


def write_changed(
    path: Path, to: Path, change: Change, attach: Callable[[StoredAttachment], bytes] = unchanged
) -> Path:
    """A copy of a recording whose messages pass through `change`, and its attachments through `attach`."""
    writer = McapWriter(to)
    channels: dict[str, int] = {}
    for stored in read_mcap(path):
        if isinstance(stored, StoredMetadata):
            writer.describe(stored.name, stored.entries)
        elif isinstance(stored, StoredAttachment):
            writer.attach(stored.name, attach(stored), 0)
        elif isinstance(stored, StoredMessage):
            if stored.topic not in channels:
                channels[stored.topic] = writer.add_topic(stored.topic, stored.topic, {"type": "object"})
            for content in change(stored):
                writer.write(channels[stored.topic], 0, content)
    writer.close()
    return to


@pytest.fixture(scope="session")
def rewrite() -> Rewrite:
    return write_changed
