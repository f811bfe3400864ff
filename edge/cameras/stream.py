"""A network camera: MJPEG over HTTP, or RTSP and other streams that FFmpeg reads. Capture time is time of arrival."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, urlsplit

import numpy as np

from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, DamageCount, Frame
from sefa_edge.edge.cameras.mjpeg import open_mjpeg
from sefa_edge.edge.cameras.newest import NewestImage, Tap
from sefa_edge.edge.pictures import Capture
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.units import ms_to_ns, s_to_ns

FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
LIVE = (
    "rtsp_transport;tcp+udp|rtsp_flags;prefer_tcp"
    "|fflags;nobuffer|flags;low_delay|analyzeduration;500000|reorder_queue_size;0"
)
"""No queue inside FFmpeg and a short analysis at the start. The environment variable takes precedence if it is set."""
OPEN_MS = 5000
READ_MS = 5000
FIRST_NS = s_to_ns(5.0)
"""The first image after opening may have to wait for the next key frame."""
STALL_NS = s_to_ns(1.0)
"""A stream that sends nothing for this long is lost and is reopened."""
QUEUED_NS = ms_to_ns(3)
"""An image that arrives sooner than this was queued."""
MAX_QUEUED_PICTURES = 60


class StreamCamera:
    """The newest image of a stream."""

    def __init__(self, request: CameraRequest) -> None:
        self._camera = request.name
        self._location = request.address.target
        self._sequence = 0
        self.damage = DamageCount()

    def open(self) -> None:
        """Raises InputError when the stream cannot be opened, CameraLost when it ends immediately."""
        address = urlsplit(self._location)
        self._label = without_password(address)
        try:
            tap = self._open_tap(address)
        except InputError as error:
            raise InputError(f"stream {self._label} cannot be opened: {error}", error.hint) from None
        self._newest = NewestImage(tap, self.damage)
        self._timeout_ns = FIRST_NS

    def read(self) -> Frame | None:
        try:
            arrival = self._newest.next(self._timeout_ns)
        except CameraLost as error:
            raise CameraLost(f"stream {self._label}: {error}", error.hint) from None
        self._timeout_ns = STALL_NS
        self._sequence += 1
        return Frame(self._camera, self._sequence, arrival.stamp_ns, arrival.stamp_ns, arrival.image)

    def close(self) -> None:
        self._newest.close()

    def _open_tap(self, address: SplitResult) -> Tap:
        tap = open_mjpeg(address) if address.scheme in ("http", "https") else None
        return FfmpegTap(self._location) if tap is None else tap


class FfmpegTap:
    """A stream that OpenCV reads through FFmpeg. See `newest.Tap`."""

    def __init__(self, location: str) -> None:
        """Raises InputError."""
        with _live_options():
            self._capture = Capture.of_network(location, OPEN_MS, READ_MS)
        self._is_new = True

    def grab(self) -> None:
        if self._is_new:
            self._is_new = False
            self._skip_queue()
        if not self._capture.grab():
            raise CameraLost("the stream ended", "is the sender still running?")

    def image(self) -> np.ndarray | None:
        return self._capture.retrieve()

    def interrupt(self) -> None:
        """A waiting grab ends with its own timeout."""

    def close(self) -> None:
        self._capture.close()

    def _skip_queue(self) -> None:
        """Discard the images that FFmpeg queued while it analysed the stream: they are old."""
        for _ in range(MAX_QUEUED_PICTURES):
            begun_ns = time.monotonic_ns()
            if not self._capture.grab() or time.monotonic_ns() - begun_ns > QUEUED_NS:
                return


@contextmanager
def _live_options() -> Iterator[None]:
    """Set FFmpeg's options while opening: OpenCV reads them from the environment only, and they break video files."""
    user_options = os.environ.get(FFMPEG_OPTIONS)
    os.environ[FFMPEG_OPTIONS] = LIVE if user_options is None else user_options
    try:
        yield
    finally:
        if user_options is None:
            del os.environ[FFMPEG_OPTIONS]


def without_password(address: SplitResult) -> str:
    """The address without user name and password."""
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
