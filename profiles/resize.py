"""OWNS THE RESIZE: one function brings frames to the policy's size in training, calibration and running.

Every pixel of the result is the mean of its area, as with OpenCV's INTER_AREA. If a whole number of rows makes one (480
to 96: five), numpy adds them first, which leaves OpenCV a fifth of the work: 0.15 ms instead of 0.52 ms from 640 x 480
to 96 x 96. One value in 400 is then rounded the other way.
"""

from __future__ import annotations

import numpy as np

MOST_ROWS = np.iinfo(np.uint16).max // np.iinfo(np.uint8).max
"""Rows whose sum fits a uint16."""


def resize_to_policy(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole frame as uint8 [height, width, 3], averaged by area, as in training.

    A frame that already has this size is returned unchanged.
    """
    if image.shape[:2] == (height, width):
        return image
    import cv2  # loaded only by a process that resizes a frame

    cv2.setNumThreads(1)
    rows, rest = divmod(image.shape[0], height)
    if rest or not 1 < rows <= MOST_ROWS or image.shape[1] < width:  # OpenCV widens in another way
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    sums = _row_sums(image, rows).astype(np.float32)
    means = cv2.resize(sums, (width, height), interpolation=cv2.INTER_AREA)
    means *= np.float32(1 / rows)
    return np.rint(means, out=means).astype(np.uint8)


def _row_sums(image: np.ndarray, rows: int) -> np.ndarray:
    """Sums over groups of `rows` rows of a frame uint8 [H, W, 3]: uint16 [H / rows, W, 3]."""
    height, width, channels = image.shape
    groups = image.reshape(height // rows, rows, width * channels)
    sums = groups[:, 0].astype(np.uint16)
    for row in range(1, rows):
        sums += groups[:, row]
    return sums.reshape(height // rows, width, channels)
