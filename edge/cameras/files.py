"""Frames from a video file or a folder of images, in real time.

A file or a folder starts over at its end, so that a run without a camera can be of any length.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, DamageCount, Frame
from sefa_edge.edge.pictures import Capture, DamagedPicture, read_picture
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import open_regular
from sefa_edge.profiles.units import NS_PER_S, period_ns

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
DEFAULT_RATE_HZ = 30.0


class ImageFolderCamera:
    """The images of a folder, sorted by name."""

    def __init__(self, request: CameraRequest) -> None:
        self._name = request.name
        self._folder = Path(request.address.target)
        self._grid = Grid(request.rate_hz)
        self._taken = 0
        """Files read so far; the sequence counts only those that became frames."""
        self._sequence = 0
        self.damage = DamageCount()

    def open(self) -> None:
        if not self._folder.is_dir():
            raise InputError(f"{self._folder} is not a folder", "images: takes a folder of PNG or JPEG files")
        self._paths = sorted(path for path in self._folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)
        if not self._paths:
            raise InputError(f"{self._folder} contains no pictures", f"supported: {' '.join(PICTURE_ENDINGS)}")

    def read(self) -> Frame | None:
        stamp_ns = self._grid.wait()  # before decoding: like a camera, a frame exists only from its capture time on
        path = self._paths[self._taken % len(self._paths)]
        self._taken += 1
        try:
            picture = read_picture(path)
        except DamagedPicture:
            self.damage.images += 1
            return None
        self._sequence += 1
        return Frame(self._name, self._sequence, stamp_ns, time.monotonic_ns(), picture)

    def close(self) -> None:
        """Nothing to release."""


class VideoFileCamera:
    """A video file, played at its own frame rate."""

    def __init__(self, request: CameraRequest) -> None:
        self._name = request.name
        self._path = request.address.target
        self._sequence = 0
        self.damage = DamageCount()

    def open(self) -> None:
        if os.path.exists(self._path):  # otherwise it may be a pattern of numbered images
            open_regular(Path(self._path)).close()  # OpenCV would wait forever for a pipe or a device
        self._capture = Capture.of_stream(self._path)
        self._grid = Grid(self._capture.rate_hz or DEFAULT_RATE_HZ)

    def read(self) -> Frame | None:
        stamp_ns = self._grid.wait()
        picture = self._next_picture()
        if picture is None:
            self.damage.images += 1
            return None
        self._sequence += 1
        return Frame(self._name, self._sequence, stamp_ns, time.monotonic_ns(), picture)

    def close(self) -> None:
        self._capture.close()

    def _next_picture(self) -> np.ndarray | None:
        """The next image, starting over at the end of the file; None when it is damaged."""
        if not self._capture.grab():
            self._capture.close()
            self._capture = Capture.of_stream(self._path)
            if not self._capture.grab():
                raise CameraLost(f"video {self._path} contains no pictures", "is it a video file?")
        return self._capture.retrieve()


class Grid:
    """Waits for the next multiple of the frame period; missed ones are skipped."""

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = period_ns(rate_hz)
        self._start_ns = time.monotonic_ns()

    def wait(self) -> int:
        now_ns = time.monotonic_ns()
        due_ns = now_ns + self._period_ns - (now_ns - self._start_ns) % self._period_ns
        time.sleep((due_ns - now_ns) / NS_PER_S)
        return time.monotonic_ns()
