"""The reader's end of a camera's frame ring, used by the policy, the recorder and the video process."""

from __future__ import annotations

import numpy as np

from sefa_edge.edge.ipc.transport import Channel, ChannelClosed, FrameDescriptor, FrameRing
from sefa_edge.profiles.strict import StrictModel


class RingInput(StrictModel):
    """What a reader needs for one camera: its ring, and a separate channel that delivers descriptors."""

    name: str
    """Of the camera."""
    height: int
    width: int
    ring_fd: int
    channel_fd: int


class RingReader:
    """Reads one camera's frames. Once the camera process has ended, `is_open` is False."""

    def __init__(self, source: RingInput) -> None:
        self.name = source.name
        self.channel = Channel.from_fd(source.channel_fd)
        self.is_open = True
        self._ring = FrameRing(source.ring_fd, source.height, source.width)

    def descriptors(self) -> list[FrameDescriptor]:
        """The descriptors of all frames published since the last call, oldest first."""
        found: list[FrameDescriptor] = []
        try:
            for record in self.channel.drain():
                found.append(FrameDescriptor.unpack(record))
        except ChannelClosed:
            self.is_open = False
        return found

    def image(self, descriptor: FrameDescriptor) -> np.ndarray | None:
        """A copy uint8 [H, W, 3] of the frame; None when its slot has been overwritten. Raises RecordError."""
        return self._ring.read(descriptor)
