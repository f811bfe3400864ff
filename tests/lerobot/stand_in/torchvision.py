"""Stands in for torchvision, of which LeRobot's dataset needs one class when pictures are PNG: ToTensor.

The genuine one has no build for the torch without CUDA that this project uses. LeRobot itself is the genuine one.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


class transforms:
    """`from torchvision import transforms`."""

    class ToTensor:
        """A PIL picture as float32 [3, H, W] in 0..1, as torchvision documents it."""

        def __call__(self, picture: Image.Image) -> torch.Tensor:
            pixels = np.array(picture, np.uint8)
            return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255.0
