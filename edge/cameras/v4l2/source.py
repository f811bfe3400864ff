"""A V4L2 camera as a source of frames: only the newest, stamped by the kernel; unplugging is detected immediately."""

from __future__ import annotations

import time

from sefa_edge.edge.cameras.camera import CameraRequest, DamageCount, Frame
from sefa_edge.edge.cameras.v4l2.controls import lock_controls
from sefa_edge.edge.cameras.v4l2.device import Filled
from sefa_edge.edge.cameras.v4l2.opening import negotiate
from sefa_edge.edge.cameras.v4l2.stamps import StampRule
from sefa_edge.edge.pictures import PictureLayout, rgb_of
from sefa_edge.profiles.units import period_ns, s_to_ns

BUFFERS = 4
WAIT_S = 0.25
READ_TIMEOUT_NS = s_to_ns(1.0)


class V4l2Camera:
    """Frames of one device. Older images in the queue are returned to the driver without being decoded."""

    def __init__(self, request: CameraRequest) -> None:
        self._request = request
        self._sequence = 0
        self.damage = DamageCount()

    def open(self) -> None:
        negotiated = negotiate(self._request)
        self._device, self._mode = negotiated.device, negotiated.mode
        try:
            buffers = self._device.start(BUFFERS)
            if negotiated.profile is not None:  # while streaming: some cameras reset at its start
                lock_controls(self._device, negotiated.profile)
        except BaseException:
            self._device.close()
            raise
        self._queue_ns = buffers * period_ns(self._mode.rate_hz or self._request.rate_hz)
        self._layout = PictureLayout(self._mode.fourcc, self._mode.height, self._mode.width, self._device.stride)
        self._stamps = StampRule()
        self._last_wait_ns = time.monotonic_ns()

    def read(self) -> Frame | None:
        give_up_ns = time.monotonic_ns() + READ_TIMEOUT_NS
        self._drop_stale_queue()
        while time.monotonic_ns() < give_up_ns:
            frame = self._next_frame() if self._device.wait(WAIT_S) else None
            self._last_wait_ns = time.monotonic_ns()
            if frame is not None:
                return frame
        return None

    def close(self) -> None:
        self._device.close()

    def _drop_stale_queue(self) -> None:
        """After a pause longer than the queue, all queued images are old: the driver had no buffer for newer ones."""
        if time.monotonic_ns() - self._last_wait_ns > self._queue_ns:
            filled = self._newest()
            if filled is not None:
                self._device.queue(filled.index)

    def _next_frame(self) -> Frame | None:
        filled = self._newest()
        if filled is None:
            return None
        received_ns = time.monotonic_ns()
        picture = None if filled.damaged else rgb_of(filled.content, self._layout)
        self._device.queue(filled.index)
        if picture is None:
            self.damage.images += 1
            return None
        self._sequence += 1
        capture_ns = self._stamps.capture_ns(filled.stamp_ns, filled.flags, received_ns)
        return Frame(self._request.name, self._sequence, capture_ns, received_ns, picture)

    def _newest(self) -> Filled | None:
        newest = self._device.take()
        while newest is not None:
            newer = self._device.take()
            if newer is None:
                break
            self._device.queue(newest.index)
            newest = newer
        return newest
