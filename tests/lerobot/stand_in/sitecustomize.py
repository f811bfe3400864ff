"""Defines the compiled operators of torchvision that its Python part looks up, where they cannot be loaded.

The torchvision that pip installs by name is built for CUDA and does not load with a torch without CUDA. LeRobot calls
none of these operators. Python imports this file automatically when its folder is on PYTHONPATH.
"""

import torch

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

for name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{name}", BOXES)
