"""The camera process: takes frames from one source, makes them the policy's size, hands descriptors on."""

from __future__ import annotations

import os
import time

from sefa_edge.edge.cameras.camera import (
    CameraLost,
    CameraRequest,
    CameraSource,
    Frame,
    make_source,
    parse_address,
)
from sefa_edge.edge.process import child_main
from sefa_edge.edge.transport import Channel, ChannelClosed, FrameDescriptor, FrameRing
from sefa_edge.profiles.resize import resize_to_policy
from sefa_edge.profiles.strict import StrictModel

MAX_SILENT_READS = 3


class CameraConfig(StrictModel):
    """What a camera process is told. `reader_fds`: one socket per reader of the ring."""

    name: str
    address: str
    rate_hz: float
    height: int
    width: int
    ring_fd: int
    reader_fds: list[int]


def main(content: bytes) -> int:
    """Publish frames until nobody reads. Raises CameraLost, MissingError, InputError with the reason."""
    config = CameraConfig.model_validate_json(content)
    ring = FrameRing(config.ring_fd, config.height, config.width)
    readers = [Channel.from_fd(fd) for fd in config.reader_fds]
    source = make_source(
        CameraRequest(config.name, parse_address(config.address), config.rate_hz, config.height, config.width)
    )
    source.open()
    try:
        _publish(source, ring, readers)
    finally:
        source.close()
    return 0


def _publish(source: CameraSource, ring: FrameRing, readers: list[Channel]) -> None:
    silent_reads = 0
    while readers:
        frame = source.read()
        silent_reads = silent_reads + 1 if frame is None else 0
        if silent_reads >= MAX_SILENT_READS:
            raise CameraLost("the camera gives no pictures", "check its cable, or try another USB port")
        if frame is not None:
            _hand_on(frame, ring, readers)


def _hand_on(frame: Frame, ring: FrameRing, readers: list[Channel]) -> None:
    height, width = ring.size
    slot = ring.write(frame.sequence, resize_to_policy(frame.image, height, width))
    stamps = (frame.capture_ns, frame.received_ns, time.monotonic_ns())
    record = FrameDescriptor(slot, frame.sequence, *stamps).pack()
    for reader in list(readers):
        try:
            reader.send(record)
        except ChannelClosed:
            readers.remove(reader)
            reader.close()
    os.sched_yield()  # where the policy shares this core, it comes before the next picture


if __name__ == "__main__":
    raise SystemExit(child_main(main))
