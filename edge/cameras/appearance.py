"""Detects a frozen camera (the same image again and again) and a dark one (a covered lens).

Only some rows and columns are sampled, which takes about 0.1 ms per image. That is enough because a real sensor has
noise: two images of a still scene differ somewhere in every few rows.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

SAMPLED_ROWS = 64
SAMPLED_COLUMNS = 64
STILL_PICTURES = 5
"""Fewer equal images in a row prove nothing: the camera may be slow, or the bus may have repeated one."""
DARK_MEAN = 20.0
DARK_SPREAD = 8.0
"""An image (0..255) is dark when its mean and its spread are both below these: black, or a dim grey raised by gain."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """How long the images have been identical, and dark, in ns between capture times. 0: they are not."""

    still_ns: int
    dark_ns: int


class AppearanceMeter:
    """Measures the images of one camera, which must be added in order of time."""

    def __init__(self) -> None:
        self._fingerprint: tuple[object, ...] = ()
        self._equal_pictures = 0
        self._still_since_ns = 0
        self._dark_since_ns: int | None = None

    def add(self, picture: np.ndarray, capture_ns: int) -> Appearance:
        """Add an image uint8 [H, W, 3]."""
        rows = picture[:: -(-picture.shape[0] // SAMPLED_ROWS)]
        return Appearance(self._still_ns(picture.shape, rows, capture_ns), self._dark_ns(rows, capture_ns))

    def _still_ns(self, shape: tuple[int, ...], rows: np.ndarray, capture_ns: int) -> int:
        fingerprint = (shape, zlib.crc32(rows.tobytes()))
        if fingerprint != self._fingerprint:
            self._fingerprint, self._equal_pictures, self._still_since_ns = fingerprint, 0, capture_ns
        self._equal_pictures += 1
        return capture_ns - self._still_since_ns if self._equal_pictures >= STILL_PICTURES else 0

    def _dark_ns(self, rows: np.ndarray, capture_ns: int) -> int:
        sample = rows[:, :: -(-rows.shape[1] // SAMPLED_COLUMNS)]
        if sample.mean() >= DARK_MEAN or sample.std() >= DARK_SPREAD:
            self._dark_since_ns = None
            return 0
        self._dark_since_ns = capture_ns if self._dark_since_ns is None else self._dark_since_ns
        return capture_ns - self._dark_since_ns
