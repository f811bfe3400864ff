"""What LeRobot's `hf_transform_to_torch` uses."""

import numpy as np
import torch


class ToTensor:
    """A PIL picture as float32 [3, H, W] in 0..1, as torchvision documents it."""

    def __call__(self, picture) -> torch.Tensor:
        pixels = np.array(picture, np.uint8)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255.0
