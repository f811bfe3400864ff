"""The reading end of a camera's ring: what it still delivers when the camera has ended, or has overwritten a slot."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from sefa_edge.edge.ipc.ring_reader import RingInput, RingReader
from sefa_edge.edge.ipc.transport import RING_SLOTS, FrameDescriptor, FrameRing, channel_pair


class Camera:
    """The writing end of a ring of small images, each filled with its sequence number."""

    def __init__(self) -> None:
        self.ring = FrameRing.create(4, 6)
        self.channel, far = channel_pair()
        ring_fd, channel_fd = os.dup(self.ring.fd), os.dup(far.fileno())
        far.close()
        self.reader = RingReader(RingInput(name="front", height=4, width=6, ring_fd=ring_fd, channel_fd=channel_fd))
        self.ring_fd = ring_fd

    def publish(self, sequence: int) -> None:
        slot = self.ring.write(sequence, np.full((4, 6, 3), sequence, np.uint8))
        self.channel.send(FrameDescriptor(slot, sequence, sequence, sequence, sequence).pack())


@pytest.fixture
def camera() -> Iterator[Camera]:
    made = Camera()
    yield made
    made.channel.close()
    made.reader.channel.close()
    os.close(made.ring_fd)
    made.ring.close()


def test_frames_come_once_and_in_order(camera: Camera) -> None:
    camera.publish(1)
    camera.publish(2)
    found = camera.reader.descriptors()
    assert [frame.sequence for frame in found] == [1, 2]
    images = [camera.reader.image(frame) for frame in found]
    assert [None if image is None else int(image.max()) for image in images] == [1, 2]
    assert camera.reader.descriptors() == []
    assert camera.reader.is_open


def test_a_camera_that_has_ended_still_delivers_its_last_frames(camera: Camera) -> None:
    camera.publish(1)
    camera.channel.close()
    assert [frame.sequence for frame in camera.reader.descriptors()] == [1]
    assert not camera.reader.is_open
    assert camera.reader.descriptors() == []


def test_an_overwritten_frame_has_no_image(camera: Camera) -> None:
    camera.publish(1)
    camera.publish(1 + RING_SLOTS)
    overwritten, newest = camera.reader.descriptors()
    assert camera.reader.image(overwritten) is None
    assert camera.reader.image(newest) is not None
