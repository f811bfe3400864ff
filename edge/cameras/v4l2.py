"""A V4L2 camera (USB, CSI bridges) through OpenCV: MJPG, kernel time stamps, newest frame only."""

from __future__ import annotations

import os
import time

from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, Frame
from sefa_edge.profiles.units import ms_to_ns, period_ns, s_to_ns

os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")  # seconds; OpenCV's own default is 10

from sefa_edge.edge.cameras.pictures import Capture

CAPTURE_SIZE = (640, 480)
"""What is asked of the device; it answers with the nearest that it has. Larger ones only cost decoding."""
MAX_STALE_GRABS = 4
MAX_FAILED_READS = 3


class V4l2Camera:
    """Frames of one device. Some drivers keep a queue although asked not to; old frames are skipped."""

    def __init__(self, request: CameraRequest) -> None:
        self._name = request.name
        self._path = request.address.target
        self._rate_hz = request.rate_hz
        self._sequence = 0
        self._failed = 0

    def open(self) -> None:
        self._capture = Capture.of_device(self._path, CAPTURE_SIZE, self._rate_hz)
        self._stale_ns = period_ns(self._capture.rate_hz or self._rate_hz) * 3 // 2

    def read(self) -> Frame | None:
        stamps = self._grab_newest()
        picture = self._capture.retrieve() if stamps else None
        if stamps is None or picture is None:
            return self._count_failure()
        self._failed = 0
        self._sequence += 1
        return Frame(self._name, self._sequence, *stamps, picture)

    def close(self) -> None:
        self._capture.close()

    def _grab_newest(self) -> tuple[int, int] | None:
        for tries_left in reversed(range(MAX_STALE_GRABS)):
            if not self._capture.grab():
                return None
            received_ns = time.monotonic_ns()
            capture_ns = capture_stamp_ns(self._capture.position_ms, received_ns)
            if tries_left == 0 or received_ns - capture_ns <= self._stale_ns:
                return capture_ns, received_ns
        return None

    def _count_failure(self) -> None:
        self._failed += 1
        if self._failed >= MAX_FAILED_READS:
            raise CameraLost(f"camera {self._path} gives no more pictures", "was it unplugged? check cable and hub")


def capture_stamp_ns(position_ms: float, received_ns: int) -> int:
    """The kernel's stamp if it is of CLOCK_MONOTONIC and at most a second old, else the time of arrival."""
    stamp_ns = ms_to_ns(position_ms)
    return stamp_ns if 0 <= received_ns - stamp_ns < s_to_ns(1.0) else received_ns
