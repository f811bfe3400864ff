"""Decoding of videos by torchvision is not offered here; LeRobot asks only when a dataset holds videos."""
