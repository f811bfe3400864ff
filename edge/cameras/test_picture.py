"""A camera without a camera: a moving test picture that costs what a USB camera costs.

A USB camera sends 640x480 JPEG; every frame is decoded and then brought to the policy's size. So the pictures
are drawn and encoded once, when it opens, and decoded anew for every frame.
"""

from __future__ import annotations

import numpy as np

from sefa_edge.edge.cameras.camera import CameraRequest, DamageCount, Frame
from sefa_edge.edge.cameras.files import Grid
from sefa_edge.edge.pictures import decode_picture, encode_jpeg

HEIGHT, WIDTH = 480, 640
VARIETY = 16
"""Different pictures, one after another; each moves on from the one before."""
SQUARE = 96
GRAIN = 24
"""Noise of a real sensor, grey levels: without it a JPEG is small, and decoded too easily."""


class TestPictureCamera:
    """Coloured bars with a square that walks over them."""

    def __init__(self, request: CameraRequest) -> None:
        self._name = request.name
        self._grid = Grid(request.rate_hz)
        self._sequence = 0
        self.damage = DamageCount()

    def open(self) -> None:
        self._encoded = [encode_jpeg(draw_test_picture(index)) for index in range(VARIETY)]

    def read(self) -> Frame | None:
        capture_ns = self._grid.wait()
        picture = decode_picture(self._encoded[self._sequence % VARIETY])
        self._sequence += 1
        return Frame(self._name, self._sequence, capture_ns, capture_ns, picture)

    def close(self) -> None:
        """Nothing is held."""


def draw_test_picture(index: int) -> np.ndarray:
    """Picture uint8 [480, 640, 3]; neighbours in `index` differ, `index + VARIETY` is the same again."""
    levels = np.linspace(40, 215, 8).astype(np.uint8)
    bars = np.stack([np.repeat(np.roll(levels, shift), WIDTH // 8) for shift in (0, 3, 5)], axis=-1)
    picture = np.broadcast_to(bars, (HEIGHT, WIDTH, 3)).copy()
    left = index % VARIETY * (WIDTH - SQUARE) // VARIETY
    picture[HEIGHT // 2 : HEIGHT // 2 + SQUARE, left : left + SQUARE] = (230, 60, 40)
    grain = np.random.default_rng(index % VARIETY).integers(0, GRAIN, picture.shape, dtype=np.uint8)
    return picture + grain
