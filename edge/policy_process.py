"""The policy process: newest frames and joints in, a chunk out every `execute_steps` policy steps.

    python -m sefa_edge.edge.policy_process --config FD

It ends when its supervisor or the control process is gone. A camera that dies is the supervisor's to notice;
here it only means that there is no fresh picture, and without one nothing is sent.
"""

from __future__ import annotations

import gc
import select
import time
from contextlib import suppress
from pathlib import Path

from sefa_edge.edge.cameras.camera import Frame
from sefa_edge.edge.engines.engine import Engine, EngineOptions, open_engine
from sefa_edge.edge.policy import FrameHistory, JointHistory, Policy
from sefa_edge.edge.policy_records import Happening, Order, PolicyCommand, PolicyReport
from sefa_edge.edge.process import child_main
from sefa_edge.edge.recorder.control_tap import PatientSink
from sefa_edge.edge.recorder.policy_tap import PolicyTap, TappedEngine
from sefa_edge.edge.records import JointSample
from sefa_edge.edge.transport import Channel, ChannelClosed, FrameDescriptor, FrameRing
from sefa_edge.profiles.strict import StrictModel
from sefa_edge.profiles.units import NS_PER_MS, ms_to_ns, period_ns

IDLE_WAIT_MS = 1000
RETRY_NS = ms_to_ns(10)


class CameraInput(StrictModel):
    """One camera's ring and descriptor socket."""

    name: str
    height: int
    width: int
    ring_fd: int
    channel_fd: int


class PolicyConfig(StrictModel):
    """What the policy process is told."""

    engine: str
    cameras: list[CameraInput]
    supervisor_fd: int
    control_fd: int
    max_age_ms: float
    """A picture or joint sample older than this is not acted upon."""
    threads: int = 1
    recorder_fd: int | None = None
    """End of a channel to the recorder, which gets an Inference each time; None: nobody records."""


class CameraEnd:
    """The reading end of one camera: the newest frame that has not been taken yet."""

    def __init__(self, camera: CameraInput) -> None:
        self.name = camera.name
        self.channel = Channel.from_fd(camera.channel_fd)
        self._ring = FrameRing(camera.ring_fd, camera.height, camera.width)
        self._newest: FrameDescriptor | None = None
        self.is_open = True

    def drain(self) -> None:
        try:
            for record in self.channel.drain():
                self._newest = FrameDescriptor.unpack(record)
        except ChannelClosed:
            self.is_open = False

    def take(self) -> Frame | None:
        """The newest frame, once."""
        newest, self._newest = self._newest, None
        image = self._ring.read(newest) if newest else None
        if newest is None or image is None:
            return None
        return Frame(self.name, newest.sequence, newest.capture_ns, newest.received_ns, image)


class PolicyProcess:
    """Waits for the next policy step while taking in joints, frames and orders."""

    def __init__(self, config: PolicyConfig, engine: Engine, tap: PolicyTap | None = None) -> None:
        self._tap = tap
        self._timing = engine.card.timing
        self._joint_count = len(engine.card.joints)
        self._policy = Policy(engine)
        self._step_ns = period_ns(self._timing.policy_rate_hz)
        self._max_age_ns = ms_to_ns(config.max_age_ms)
        self._supervisor = Channel.from_fd(config.supervisor_fd)
        self._control = Channel.from_fd(config.control_fd)
        self._cameras = [CameraEnd(camera) for camera in config.cameras]
        self._frames = FrameHistory([camera.name for camera in config.cameras], self._timing.n_obs_steps)
        self._joints = JointHistory()
        self._episode: int | None = None
        self._after_ns = 0
        self._start_ns = 0
        self._step = 0
        self._skipped_steps = 0
        self._poller = select.poll()
        for channel in (self._supervisor, self._control, *(camera.channel for camera in self._cameras)):
            self._poller.register(channel, select.POLLIN)

    def serve(self) -> None:
        """Raises ChannelClosed when the supervisor or the control process is gone."""
        self._report(Happening.READY)
        while True:
            self._poller.poll(self._wait_ms())
            self._take_in()
            if self._episode is not None and time.monotonic_ns() >= self._due_ns():
                self._make_step()

    def _due_ns(self) -> int:
        return self._start_ns + self._step * self._step_ns

    def _wait_ms(self) -> float:
        if self._episode is None:
            return IDLE_WAIT_MS
        return max(0.0, (self._due_ns() - time.monotonic_ns()) / NS_PER_MS)

    def _take_in(self) -> None:
        for record in self._control.drain():
            self._joints.add(JointSample.unpack(record, self._joint_count))
        for camera in self._cameras:
            if camera.is_open:
                camera.drain()
                if not camera.is_open:
                    self._poller.unregister(camera.channel)
        for record in self._supervisor.drain():
            self._obey(PolicyCommand.unpack(record))

    def _obey(self, command: PolicyCommand) -> None:
        if command.order is Order.PAUSE:
            self._report(Happening.PAUSED)
            self._episode = None
            return
        self._episode, self._after_ns = command.episode, command.after_ns
        self._policy.start_episode(command.seed)
        self._frames.clear()
        self._start_ns, self._step, self._skipped_steps = time.monotonic_ns(), 0, 0

    def _make_step(self) -> None:
        self._skip_overrun_steps()
        for camera in self._cameras:
            frame = camera.take()
            if frame is not None and frame.capture_ns >= self._after_ns:
                self._frames.add(frame)
        if self._step % self._timing.execute_steps == 0 and not self._plan():
            self._start_ns += RETRY_NS  # an observation is expected any moment; a whole step would be lost
        else:
            self._step += 1

    def _skip_overrun_steps(self) -> None:
        """Go on at the present step; an inference that fell into the gap is made now."""
        present = (time.monotonic_ns() - self._start_ns) // self._step_ns
        last_inference = present // self._timing.execute_steps * self._timing.execute_steps
        self._skipped_steps += present - self._step
        self._step = last_inference if last_inference >= self._step else present

    def _plan(self) -> bool:
        now_ns = time.monotonic_ns()
        captured_ns, joints_ns = self._frames.oldest_newest_ns, self._joints.newest_ns
        if captured_ns is None or now_ns - captured_ns > self._max_age_ns:
            self._report(Happening.NO_FRAME)
            return False
        if joints_ns is None or now_ns - joints_ns > self._max_age_ns:
            self._report(Happening.NO_JOINTS)
            return False
        observation = self._frames.observe(self._joints)
        chunk = self._policy.plan(observation)
        self._control.send(chunk.pack())
        if self._tap is not None:
            self._tap.tell(observation, chunk)
        self._report(Happening.CHUNK, chunk.chunk_id, chunk.inference_ns, now_ns - chunk.observed_ns)
        return True

    def _report(self, happening: Happening, chunk_id: int = 0, inference_ns: int = 0, frame_age_ns: int = 0) -> None:
        episode = -1 if self._episode is None else self._episode
        report = PolicyReport(happening, episode, chunk_id, inference_ns, frame_age_ns, self._skipped_steps)
        self._supervisor.send(report.pack())


def main(content: bytes) -> int:
    """Open and warm the engine, then serve until the others are gone."""
    config = PolicyConfig.model_validate_json(content)
    engine: Engine = open_engine(Path(config.engine), EngineOptions(threads=config.threads))
    tap = None
    if config.recorder_fd is not None:
        engine = TappedEngine(engine)
        tap = PolicyTap(engine, PatientSink(Channel.from_fd(config.recorder_fd)))
    process = PolicyProcess(config, engine, tap)
    gc.freeze()
    try:
        with suppress(ChannelClosed):
            process.serve()
    finally:
        engine.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(child_main(main))
