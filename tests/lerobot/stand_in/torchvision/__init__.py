"""Stands in for torchvision, of which LeRobot's dataset needs one class when pictures are PNG: ToTensor.

The genuine one has no build for the torch without CUDA that this project uses. LeRobot itself is the genuine one.
"""

# pyright: reportMissingImports=false
from torchvision import io, transforms

__all__ = ["io", "transforms"]
