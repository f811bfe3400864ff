"""A process that only tests add to a run: it counts the frames of a camera and writes the count to a file.

python -m tests.rigs.spectator_process --config FD
"""

from __future__ import annotations

import os
import select
from pathlib import Path

from sefa_edge.edge.ipc.process import child_main
from sefa_edge.edge.ipc.ring_reader import RingInput, RingReader
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.strict import StrictModel

POLL_MS = 20


class SpectatorConfig(StrictModel):
    """The file to write, the camera to read, and a file whose existence makes the process fail."""

    path: str
    supervisor_fd: int
    camera: RingInput
    failure_path: str


def main(content: bytes) -> int:
    """Count until the supervisor closes the channel. Raises InputError once `failure_path` exists."""
    config = SpectatorConfig.model_validate_json(content)
    supervisor, camera = Channel.from_fd(config.supervisor_fd), RingReader(config.camera)
    frames = 0
    poller = select.poll()
    poller.register(supervisor, select.POLLIN)
    while True:
        poller.poll(POLL_MS)
        frames += sum(camera.image(found) is not None for found in camera.descriptors())
        if Path(config.failure_path).exists():
            raise InputError("the spectator was asked to fail", "the test asks for it")
        try:
            supervisor.receive()
        except ChannelClosed:
            Path(config.path).write_text(f"{frames} {os.getpid()}")
            return 0


if __name__ == "__main__":
    raise SystemExit(child_main(main))
