"""PNG encoding and decoding of RGB pictures (OpenCV)."""

from __future__ import annotations

import cv2
import numpy as np

from sefa_edge.profiles.errors import InputError


def encode_png(image: np.ndarray) -> bytes:
    """PNG of a picture uint8 [H, W, 3] RGB."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise InputError(f"OpenCV cannot encode a picture of shape {image.shape}")
    return encoded.tobytes()
