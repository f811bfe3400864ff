"""The video process: samples the run at 10 Hz, and writes the video or contact sheet once the arm is at rest.

    python -m sefa_edge.edge.viewing.video_process --config FD

With the simulated world it keeps states and renders them at the end, in a larger size; with a real camera it keeps the
policy's own small frames. It does not slow down the run: it reads memory that is shared anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic

import numpy as np

from sefa_edge.edge.ipc.process import child_main
from sefa_edge.edge.ipc.ring_reader import RingInput, RingReader
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed
from sefa_edge.edge.ipc.video_command import VideoAction, VideoCommand
from sefa_edge.edge.viewing.samples import SAMPLE_RATE_HZ, ContentT, Sample, SampleBuffer
from sefa_edge.firmware_bridge.simulation.state_file import PublishedState, StateReader
from sefa_edge.profiles.strict import StrictModel
from sefa_edge.profiles.units import NS_PER_S

VIEW, VIEW_HEIGHT, VIEW_WIDTH = "overview", 240, 320


class VideoConfig(StrictModel):
    """Which file to write, and one of the two sources: the state file of the simulated world, or a camera."""

    path: str
    supervisor_fd: int
    state_path: str | None = None
    ring: RingInput | None = None


class Sampler(Generic[ContentT]):
    """Takes samples of its source between START and STOP."""

    def __init__(self, read: Callable[[], ContentT | None]) -> None:
        self.buffer: SampleBuffer[ContentT] = SampleBuffer()
        self._read = read
        self._start: VideoCommand | None = None
        self._start_ns = 0

    def handle(self, command: VideoCommand) -> None:
        if command.action is VideoAction.START:
            self._start, self._start_ns = command, time.monotonic_ns()
        elif self._start is not None:
            self.buffer.extend_last_caption(command.caption)
            self._start = None

    def sample(self) -> None:
        """Read the source, and keep what it returned if a sample is due."""
        content = self._read()
        now_ns = time.monotonic_ns()
        if self._start is None or content is None or not self.buffer.is_due(now_ns):
            return
        caption = f"{self._start.caption}  {(now_ns - self._start_ns) / NS_PER_S:.1f} s"
        self.buffer.add(Sample(now_ns, self._start.episode, caption, content))


def main(content: bytes) -> int:
    """Sample until FINISH; nothing is written without that command."""
    config = VideoConfig.model_validate_json(content)
    commands = Channel.from_fd(config.supervisor_fd)
    if config.ring is not None:
        frames = Sampler(_newest_image(config.ring))
        if _sample_until_finish(frames, commands):
            _write_frames(Path(config.path), frames.buffer)
    elif config.state_path is not None:
        states = Sampler(StateReader(Path(config.state_path)).read)
        if _sample_until_finish(states, commands):
            _write_states(Path(config.path), states.buffer)
    return 0


def _sample_until_finish(sampler: Sampler[ContentT], commands: Channel) -> bool:
    """Whether FINISH was received; False: the supervisor is gone."""
    try:
        while True:
            commands.wait(1.0 / SAMPLE_RATE_HZ / 2)
            for record in commands.drain():
                command = VideoCommand.unpack(record)
                if command.action is VideoAction.FINISH:
                    return True
                sampler.handle(command)
            sampler.sample()
    except ChannelClosed:
        return False


def _newest_image(source: RingInput) -> Callable[[], np.ndarray | None]:
    camera = RingReader(source)

    def read() -> np.ndarray | None:
        found = camera.descriptors()
        return camera.image(found[-1]) if found else None

    return read


def _write_frames(path: Path, buffer: SampleBuffer[np.ndarray]) -> None:
    from sefa_edge.edge.viewing.video import write_video

    write_video(path, buffer, lambda image: image)


def _write_states(path: Path, buffer: SampleBuffer[PublishedState]) -> None:
    from sefa_edge.edge.viewing.video import write_video
    from sefa_edge.firmware_bridge.simulation.scene import Renderer

    with Renderer(VIEW_HEIGHT, VIEW_WIDTH, VIEW) as renderer:
        write_video(path, buffer, lambda state: renderer.render(state.qpos, state.goal_position_m))


if __name__ == "__main__":
    raise SystemExit(child_main(main))
