"""A synthetic camera: a moving test picture that needs as much computation as a USB camera.

A USB camera sends 640x480 JPEG; every frame is decoded and then resized for the policy. The test pictures are
therefore drawn and encoded once, on opening, and decoded again for every frame.
"""

from __future__ import annotations

import numpy as np

from sefa_edge.edge.cameras.camera import CameraRequest, DamageCount, Frame
from sefa_edge.edge.cameras.files import Grid
from sefa_edge.edge.pictures import decode_picture, encode_jpeg

HEIGHT, WIDTH = 480, 640
PICTURES = 16
"""Number of different pictures, shown in turn."""
SQUARE = 96
NOISE_LEVELS = 24
"""Sensor noise in grey levels: without it the JPEG would be small and decode too fast."""


class TestPictureCamera:
    """Coloured bars with a square that moves across them."""

    def __init__(self, request: CameraRequest) -> None:
        self._name = request.name
        self._grid = Grid(request.rate_hz)
        self._sequence = 0
        self.damage = DamageCount()

    def open(self) -> None:
        self._encoded = [encode_jpeg(draw_test_picture(index)) for index in range(PICTURES)]

    def read(self) -> Frame | None:
        capture_ns = self._grid.wait()
        picture = decode_picture(self._encoded[self._sequence % PICTURES])
        self._sequence += 1
        return Frame(self._name, self._sequence, capture_ns, capture_ns, picture)

    def close(self) -> None:
        """Nothing to release."""


def draw_test_picture(index: int) -> np.ndarray:
    """Picture uint8 [480, 640, 3]. Consecutive indices differ; `index + PICTURES` is the same picture again."""
    levels = np.linspace(40, 215, 8).astype(np.uint8)
    bars = np.stack([np.repeat(np.roll(levels, shift), WIDTH // 8) for shift in (0, 3, 5)], axis=-1)
    picture = np.broadcast_to(bars, (HEIGHT, WIDTH, 3)).copy()
    left = index % PICTURES * (WIDTH - SQUARE) // PICTURES
    picture[HEIGHT // 2 : HEIGHT // 2 + SQUARE, left : left + SQUARE] = (230, 60, 40)
    grain = np.random.default_rng(index % PICTURES).integers(0, NOISE_LEVELS, picture.shape, dtype=np.uint8)
    return picture + grain
