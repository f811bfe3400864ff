"""OWNS THE RESIZE: one function brings pictures to the policy's size in training, calibration and running."""

from __future__ import annotations

import numpy as np


def resize_to_policy(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture uint8 [height, width, 3] as the policy was trained on it: the whole picture, INTER_AREA.

    A picture that already fits is returned as it is.
    """
    if image.shape[:2] == (height, width):
        return image
    import cv2  # only the process that has a picture to resize loads it

    cv2.setNumThreads(1)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
