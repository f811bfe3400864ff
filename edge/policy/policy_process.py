"""The policy process: receives frames and joints, sends a chunk when one is due (edge/policy/inference_schedule.py).

    python -m sefa_edge.edge.policy.policy_process --config FD

It exits when the supervisor or the control process has exited. Every frame is checked (edge/cameras/watch.py); on a
camera fault the process sends it to control and sends no more chunks in this episode. An engine failure is sent to
control, which parks the arm, and printed to standard error.
"""

from __future__ import annotations

import gc
import select
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from sefa_edge.edge.cameras.camera import Frame
from sefa_edge.edge.cameras.watch import DEFAULT_MAX_SKEW_MS, CameraWatch, Patience, WatchLimits
from sefa_edge.edge.engines.engine import Engine, EngineOptions
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.ipc.faults import FAULTS, Fault
from sefa_edge.edge.ipc.policy_records import (
    ActionChunk,
    InferenceBegun,
    Order,
    PolicyCommand,
    PolicyEvent,
    PolicyReport,
    Trouble,
)
from sefa_edge.edge.ipc.process import child_main, trim_heap
from sefa_edge.edge.ipc.records import JointSample
from sefa_edge.edge.ipc.ring_reader import RingInput, RingReader
from sefa_edge.edge.ipc.sinks import PatientSink
from sefa_edge.edge.ipc.transport import RING_SLOTS, Channel, ChannelClosed, FrameDescriptor
from sefa_edge.edge.policy.inference_schedule import InferenceSchedule
from sefa_edge.edge.policy.noise_modes import NoiseMode
from sefa_edge.edge.policy.policy import FrameHistory, JointHistory, Observation, Policy
from sefa_edge.edge.policy.policy_tap import PolicyTap, TappedEngine
from sefa_edge.profiles.errors import FaultError
from sefa_edge.profiles.strict import StrictModel
from sefa_edge.profiles.units import NS_PER_MS, ms_to_ns, period_ns

IDLE_WAIT_MS = 1000
RETRY_NS = ms_to_ns(10)
MAX_JOINT_GAP_NS = ms_to_ns(50)
"""Joints arrive every control period. A larger gap to a frame is reported; a frame newer by more than this waits."""


class PolicyConfig(StrictModel):
    """Configuration of the policy process."""

    engine: str
    cameras: list[RingInput]
    supervisor_fd: int
    control_fd: int
    max_age_ms: float
    """A frame or joint sample older than this is not used."""
    max_frame_age_ms: float | None = None
    """For frames; null: `max_age_ms`."""
    max_skew_ms: float = DEFAULT_MAX_SKEW_MS
    frozen_ns: dict[str, int] = Field(default_factory=dict)
    """By camera name, how long it may repeat a frame; without an entry there is no limit."""
    dark_ns: dict[str, int] = Field(default_factory=dict)
    """By camera name, how long its frames may be dark; without an entry there is no limit."""
    threads: int = 1
    noise: NoiseMode = "per-chunk"
    recorder_fd: int | None = None
    """End of a channel to the recorder, which gets an Inference for each chunk; None: the run is not recorded."""

    def watch_limits(self) -> WatchLimits:
        age_ms = self.max_age_ms if self.max_frame_age_ms is None else self.max_frame_age_ms
        names = [camera.name for camera in self.cameras]
        patience = {name: Patience(self.frozen_ns.get(name), self.dark_ns.get(name)) for name in names}
        return WatchLimits(ms_to_ns(age_ms), ms_to_ns(self.max_skew_ms), patience)


class CameraFrames:
    """The frames of one camera that have not been taken yet and are still in the ring."""

    def __init__(self, source: RingInput) -> None:
        self.reader = RingReader(source)
        self._pending: deque[FrameDescriptor] = deque(maxlen=RING_SLOTS)

    def drain(self, watch: CameraWatch) -> None:
        for descriptor in self.reader.descriptors():
            self._pending.append(descriptor)
            watch.add(self.reader.name, descriptor)

    def take(self) -> Iterator[Frame]:
        """Each frame once, oldest first."""
        while self._pending:
            found = self._pending.popleft()
            image = self.reader.image(found)
            if image is not None:
                yield Frame(self.reader.name, found.sequence, found.capture_ns, found.received_ns, image)


class PolicyProcess:
    """Receives joints, frames and commands, and runs the inferences when they are due."""

    def __init__(self, config: PolicyConfig, engine: Engine, tap: PolicyTap | None = None) -> None:
        timing = engine.card.timing
        self._tap = tap
        self._joint_count = len(engine.card.joints)
        self._policy = Policy(engine, config.noise)
        self._max_age_ns = ms_to_ns(config.max_age_ms)
        self._watch = CameraWatch(config.watch_limits())
        self._supervisor = Channel.from_fd(config.supervisor_fd)
        self._control = Channel.from_fd(config.control_fd)
        self._cameras = [CameraFrames(camera) for camera in config.cameras]
        spacing_ns = timing.observation_spacing_steps * period_ns(timing.policy_rate_hz)
        self._max_frame_gap_ns = spacing_ns // 2
        self._frames = FrameHistory([camera.name for camera in config.cameras], timing.n_obs_steps, spacing_ns)
        self._joints = JointHistory()
        self._schedule = InferenceSchedule(timing, timing.execute_steps)
        self._episode: int | None = None
        self._after_ns = 0
        self._late_steps = 0
        self._poller = select.poll()
        for channel in (self._supervisor, self._control, *(camera.reader.channel for camera in self._cameras)):
            self._poller.register(channel, select.POLLIN)

    def serve(self) -> None:
        """Raises ChannelClosed when the supervisor or control has exited, FaultError when the engine fails."""
        self._report(PolicyEvent.READY)
        while True:
            self._poller.poll(self._wait_ms())
            self._receive()
            self._check_cameras()
            if self._episode is not None:
                self._take_frames()
                if time.monotonic_ns() >= self._schedule.due_ns:
                    self._plan()

    def _wait_ms(self) -> float:
        if self._episode is None:
            return IDLE_WAIT_MS
        return max(0.0, (self._schedule.due_ns - time.monotonic_ns()) / NS_PER_MS)

    def _receive(self) -> None:
        for record in self._control.drain():
            self._joints.add(JointSample.unpack(record, n=self._joint_count))
        for camera in self._cameras:
            if camera.reader.is_open:
                camera.drain(self._watch)
                if not camera.reader.is_open:
                    self._poller.unregister(camera.reader.channel)
        for record in self._supervisor.drain():
            self._execute(PolicyCommand.unpack(record))

    def _execute(self, command: PolicyCommand) -> None:
        if command.order is Order.PAUSE:
            self._report(PolicyEvent.PAUSED)
            self._episode = None
            return
        self._episode, self._after_ns = command.episode, command.after_ns
        self._policy.start_episode(command.seed)
        self._frames.clear()
        self._watch.start(command.after_ns)
        self._schedule.start(time.monotonic_ns())

    def _check_cameras(self) -> None:
        if self._episode is None:
            return
        trouble = self._watch.trouble(time.monotonic_ns())
        if trouble is not None and self._control.send(trouble.pack()):
            self._episode = None

    def _take_frames(self) -> None:
        for camera in self._cameras:
            for frame in camera.take():
                if frame.capture_ns >= self._after_ns:
                    self._frames.add(frame)

    def _plan(self) -> None:
        """One inference; without fresh input, try again after RETRY_NS."""
        now_ns = time.monotonic_ns()
        missing = self._missing(now_ns)
        if missing is not None:
            self._report(missing)
            self._schedule.postpone(now_ns, RETRY_NS)
            return
        self._schedule.begin(now_ns)
        self._control.send(InferenceBegun(now_ns).pack())
        observation = self._frames.observe(self._joints)
        if observation.frame_gap_ns > self._max_frame_gap_ns or observation.joint_gap_ns > MAX_JOINT_GAP_NS:
            self._report(PolicyEvent.GAP)
        chunk = self._infer(observation)
        self._control.send(chunk.pack())
        sent_ns = time.monotonic_ns()
        self._late_steps += chunk.late_steps(sent_ns)
        self._schedule.end(sent_ns, chunk.last_step_ns)
        if self._tap is not None:
            self._tap.record(observation, chunk)
        self._report(PolicyEvent.CHUNK, chunk.chunk_id, chunk.inference_ns, now_ns - chunk.observed_ns)

    def _missing(self, now_ns: int) -> PolicyEvent | None:
        captured_ns, joints_ns = self._frames.oldest_newest_ns, self._joints.newest_ns
        max_age_ns = self._watch.limits.max_age_ns
        if captured_ns is None or now_ns - captured_ns > max_age_ns or not self._watch.together:
            return PolicyEvent.NO_FRAME
        if joints_ns is None or now_ns - joints_ns > self._max_age_ns or captured_ns - joints_ns > MAX_JOINT_GAP_NS:
            return PolicyEvent.NO_JOINTS
        return None

    def _infer(self, observation: Observation) -> ActionChunk:
        try:
            return self._policy.plan(observation)
        except Exception as error:  # any error of a library: control must learn that no chunk will follow
            what = next(iter(str(error).splitlines()), "") or type(error).__name__
            self._control.send(Trouble(Fault.ENGINE_FAILED, what).pack())
            row = FAULTS[Fault.ENGINE_FAILED]
            raise FaultError(f"{row.message}: {what}", row.hint) from error

    def _report(self, event: PolicyEvent, chunk_id: int = 0, inference_ns: int = 0, frame_age_ns: int = 0) -> None:
        episode = -1 if self._episode is None else self._episode
        schedule = self._schedule
        report = PolicyReport(
            event, episode, chunk_id, inference_ns, frame_age_ns,
            schedule.skipped_steps, schedule.overlong, self._late_steps,
        )  # fmt: skip
        self._supervisor.send(report.pack())


def main(content: bytes) -> int:
    """Open and warm up the engine, then serve until the supervisor or control exits."""
    config = PolicyConfig.model_validate_json(content)
    engine: Engine = open_engine(Path(config.engine), EngineOptions(threads=config.threads))
    tap = None
    if config.recorder_fd is not None:
        engine = TappedEngine(engine)
        tap = PolicyTap(engine, PatientSink(Channel.from_fd(config.recorder_fd)))
    process = PolicyProcess(config, engine, tap)
    trim_heap()
    gc.freeze()
    try:
        with suppress(ChannelClosed):
            process.serve()
    finally:
        engine.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(child_main(main))
