"""The camera process: reads frames from one source, resizes them for the policy, publishes their descriptors.

A lost camera is reopened until it delivers frames again or has delivered none for `GIVE_UP_NS`. This process does not
judge the age of a frame: that is the policy process's task.
"""

from __future__ import annotations

import json
import os
import select
import time
from dataclasses import asdict, dataclass

import numpy as np

from sefa_edge.edge.cameras.appearance import Appearance, AppearanceMeter
from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, CameraSource, Frame, parse_address
from sefa_edge.edge.cameras.opening import make_source
from sefa_edge.edge.ipc.process import child_main
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed, FrameDescriptor, FrameRing
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.resize import resize_to_policy
from sefa_edge.profiles.units import ms_to_ns, ns_to_ms, s_to_ns

MAX_SILENT_READS = 3
REOPEN_PERIOD_NS = ms_to_ns(250)
GIVE_UP_NS = s_to_ns(10.0)
"""A camera that has delivered nothing for this long, over all attempts to reopen it, is given up."""


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """Configuration of a camera process, written by its parent. Without pydantic, which takes a fifth of its memory.

    `reader_fds`: one channel per reader of the ring.
    """

    name: str
    address: str
    rate_hz: float
    height: int
    width: int
    ring_fd: int
    reader_fds: list[int]

    @classmethod
    def from_json(cls, content: bytes) -> CameraConfig:
        return cls(**json.loads(content))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def request(self) -> CameraRequest:
        return CameraRequest(self.name, parse_address(self.address), self.rate_hz, self.height, self.width)


def main(content: bytes) -> int:
    """Publish frames until the last reader closes. Raises CameraLost, MissingError, InputError with the reason."""
    config = CameraConfig.from_json(content)
    ring = FrameRing(config.ring_fd, config.height, config.width)
    publisher = FramePublisher(ring, [Channel.from_fd(fd) for fd in config.reader_fds])
    camera = ReconnectingCamera(config.name, make_source(config.request))
    camera.open()
    try:
        while publisher.has_readers:
            if (frame := camera.read()) is not None:
                publisher.publish(frame, camera.losses)
            elif camera.is_lost:
                publisher.wait(REOPEN_PERIOD_NS)
    finally:
        camera.close()
    return 0


@dataclass(frozen=True, slots=True)
class CameraLosses:
    """Losses of a camera since the start of the run: connections lost and restored, and damaged images."""

    reconnections: int = 0
    damaged: int = 0


class ReconnectingCamera:
    """A source that may disappear for a while and is reopened. All frames must have the size of the first one."""

    def __init__(self, name: str, source: CameraSource, give_up_ns: int = GIVE_UP_NS) -> None:
        self._name = name
        self._give_up_ns = give_up_ns
        self._source = source
        self._size: tuple[int, ...] | None = None
        self._silent_reads = 0
        self._damaged_before = 0
        """Count of damaged images when the newest intact one arrived."""
        self._seen_ns = 0
        self._was_lost = False
        self.is_lost = False
        """Whether the next `read` will try to reopen the source."""
        self.reconnections = 0

    @property
    def losses(self) -> CameraLosses:
        return CameraLosses(self.reconnections, self._source.damage.images)

    def open(self) -> None:
        """Open it for the first time. A camera that is missing at the start is an error: there is no retry."""
        self._source.open()
        self._seen_ns = time.monotonic_ns()

    def read(self) -> Frame | None:
        """The next frame, or None; after a loss, one attempt to reopen the source.

        Raises:
            SefaError: no frame for `give_up_ns`, or none at all, with the reason.
        """
        try:
            frame = self._reopened() if self.is_lost else self._expected()
        except SefaError as error:
            self._lose(error)
            return None
        if frame is not None:
            self._seen_ns = time.monotonic_ns()
            self.reconnections += self._was_lost
            self._was_lost = False
        return frame

    def close(self) -> None:
        if not self.is_lost:
            self._source.close()

    def _lose(self, error: SefaError) -> None:
        self.close()
        self.is_lost, self._was_lost, self._silent_reads = True, True, 0
        if self._size is None or time.monotonic_ns() - self._seen_ns > self._give_up_ns:
            raise error

    def _reopened(self) -> Frame | None:
        self._source.open()
        self.is_lost = False
        return self._expected()

    def _expected(self) -> Frame | None:
        frame = self._source.read()
        if frame is not None and self._fits(frame.image):
            self._silent_reads = 0
            self._damaged_before = self._source.damage.images
            return frame
        self._silent_reads += 1
        if self._silent_reads >= MAX_SILENT_READS:
            raise _no_frames_error(self._name, self._size, frame, self._source.damage.images - self._damaged_before)
        return None

    def _fits(self, image: np.ndarray) -> bool:
        """Whether the image has the size of the first: another size is a view on which the policy was not trained."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            return False
        self._size = self._size or image.shape
        return image.shape == self._size


class FramePublisher:
    """Writes images into the shared ring and sends their descriptors to every reader."""

    def __init__(self, ring: FrameRing, readers: list[Channel]) -> None:
        self._ring = ring
        self._readers = readers
        self._meter = AppearanceMeter()
        self._seen = Appearance(0, 0)
        """Appearance of the previous image: measured after sending, so that it delays no reader."""
        self._sequence = 0

    @property
    def has_readers(self) -> bool:
        return bool(self._readers)

    def publish(self, frame: Frame, losses: CameraLosses) -> None:
        """Publish a frame in the policy's size. Sequence numbers increase by one, even after reopening the source."""
        self._sequence += 1
        slot = self._ring.write(self._sequence, resize_to_policy(frame.image, *self._ring.size))
        seen = self._seen
        stamps = (frame.capture_ns, frame.received_ns, time.monotonic_ns())
        lost = (losses.reconnections, losses.damaged)
        record = FrameDescriptor(slot, self._sequence, *stamps, seen.still_ns, seen.dark_ns, *lost).pack()
        for reader in list(self._readers):
            try:
                reader.send(record)
            except ChannelClosed:
                self._drop(reader)
        self._seen = self._meter.add(frame.image, frame.capture_ns)
        os.sched_yield()  # if the policy shares this core, it runs before the next frame is read

    def wait(self, duration_ns: int) -> None:
        """Wait, but return early when the last reader closes."""
        until_ns = time.monotonic_ns() + duration_ns
        while self._readers and (left_ns := until_ns - time.monotonic_ns()) > 0:
            poller = select.poll()
            for reader in self._readers:
                poller.register(reader, select.POLLHUP)
            gone = {fd for fd, _ in poller.poll(ns_to_ms(left_ns))}
            for reader in [reader for reader in self._readers if reader.fileno() in gone]:
                self._drop(reader)

    def _drop(self, reader: Channel) -> None:
        self._readers.remove(reader)
        reader.close()


def _no_frames_error(name: str, size: tuple[int, ...] | None, frame: Frame | None, damaged: int) -> CameraLost:
    if frame is None and damaged:
        return CameraLost(
            f"camera {name} delivers only damaged pictures ({damaged} since the last intact one)",
            "they are truncated: check its cable, try another USB port, or a smaller picture size",
        )
    if frame is None:
        return CameraLost(f"camera {name} delivers no pictures", "check its cable, or try another USB port")
    if size is None or frame.image.ndim != len(size):
        return CameraLost(f"camera {name} delivers {frame.image.shape}, not RGB pictures", "choose another format")
    (height, width), (was_height, was_width) = frame.image.shape[:2], size[:2]
    return CameraLost(
        f"camera {name} changed its picture size from {was_width} x {was_height} to {width} x {height}",
        "does another program change it? a policy must see the view on which it was trained",
    )


if __name__ == "__main__":
    raise SystemExit(child_main(main))
