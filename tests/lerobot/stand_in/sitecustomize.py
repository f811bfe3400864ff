"""Names the compiled operators of torchvision that its Python half looks for, where they cannot be loaded.

The torchvision that is installed by name is built for CUDA, and does not load beside a torch without it. LeRobot calls
none of these operators. Python imports this file by itself when its folder is on PYTHONPATH.
"""

import torch

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

for name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{name}", BOXES)
