"""A camera that plays the frames of a recording at their original rate and starts over at its end."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import numpy as np

from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, DamageCount, Frame
from sefa_edge.edge.ipc.record_json import from_json
from sefa_edge.edge.pictures import DamagedPicture, decode_picture
from sefa_edge.edge.recording.recorded_run import RecordedRun, open_run
from sefa_edge.edge.recording.topics import Picture, picture_topic
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns

LONGEST_GAP_NS = ms_to_ns(250)
"""A longer gap in a recording (lost images, an unplugged camera) is shortened to this."""


class RecordedCamera:
    """The recorded images of the camera of this name; one at a time is in memory."""

    def __init__(self, request: CameraRequest) -> None:
        self._name = request.name
        self._path = Path(request.address.target)
        self._sequence = 0
        self.damage = DamageCount()

    def open(self) -> None:
        """Raises InputError when there is no recording, or it has no images of this camera."""
        run = open_run(self._path)
        self._pictures = _endless(run, self._name)
        self._waiting = next(self._pictures, None)
        if self._waiting is None:
            raise InputError(
                f"{run.path} contains no pictures of camera '{self._name}'",
                f"cameras in that recording: {', '.join(camera.name for camera in run.card.cameras)}",
            )
        self._due_ns = time.monotonic_ns()

    def read(self) -> Frame | None:
        """Raises CameraLost when the file was truncated while it was read."""
        shown, self._waiting = self._waiting, next(self._pictures, None)
        if shown is None or self._waiting is None:
            raise CameraLost(f"{self._path} contains no more pictures", "was it changed while it was read?")
        picture = self._picture(shown)
        stamp_ns = self._wait_for_turn()
        gap_ns = self._waiting.capture_ns - shown.capture_ns
        self._due_ns = stamp_ns + (gap_ns if 0 < gap_ns < LONGEST_GAP_NS else LONGEST_GAP_NS)
        if picture is None:
            return None
        self._sequence += 1
        return Frame(self._name, self._sequence, stamp_ns, stamp_ns, picture)

    def close(self) -> None:
        self._pictures.close()

    def _picture(self, shown: Picture) -> np.ndarray | None:
        try:
            return decode_picture(shown.data)
        except DamagedPicture:
            self.damage.images += 1
            return None

    def _wait_for_turn(self) -> int:
        """Wait until the next image is due, and return the time. Delays are not made up for."""
        time.sleep(max(0, self._due_ns - time.monotonic_ns()) / NS_PER_S)
        return time.monotonic_ns()


def _endless(run: RecordedRun, camera: str) -> Generator[Picture, None, None]:
    """The images of a camera in an endless loop. A recording without images yields nothing."""
    topic, found = picture_topic(camera), True
    while found:
        found = False
        for message in run.messages(frozenset({topic})):
            found = True
            yield from_json(message.content, Picture, topic)
