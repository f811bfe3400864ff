"""Image encoders: uint8 images in, keypoint features out, all preprocessing included."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sefa_edge.models.config import NetworkConfig


class SpatialSoftmax(nn.Module):
    """Feature maps [B, C, H, W] -> expected coordinates [B, 2 C] in -1..1 (Finn et al. 2016)."""

    grid: Tensor

    def __init__(self, keypoints: int, height: int, width: int) -> None:
        super().__init__()
        self.keypoints, self.cells = keypoints, height * width  # constants, so that the exported graph has no shape ops
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], dim=1), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        # One MatMul with a constant grid, in float32, because the coordinates are the signal.
        weights = maps.float().reshape(-1, self.keypoints, self.cells).softmax(dim=-1)
        return (weights @ self.grid).reshape(-1, 2 * self.keypoints)


class SmallEncoder(nn.Module):
    """Four convolutions without normalisation layers: 96 x 96 pixels in about 1 ms on one CPU core."""

    def __init__(self, height: int, width: int, keypoints: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, keypoints, 1),
        )
        for layer in self.trunk:
            if isinstance(layer, nn.Conv2d):  # with torch's small default all keypoints would start in the middle
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.keypoints = SpatialSoftmax(keypoints, -(-height // 4), -(-width // 4))

    def forward(self, image: Tensor) -> Tensor:
        return self.keypoints(self.trunk(image))


class ResidualBlock2d(nn.Module):
    """ResNet basic block with GroupNorm (C / 16 groups), as Diffusion Policy trains it."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False),
            nn.GroupNorm(channels // 16, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.GroupNorm(channels // 16, channels),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                nn.GroupNorm(channels // 16, channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet18Encoder(nn.Module):
    """ResNet-18 trunk with GroupNorm, 1x1 convolution to keypoint maps, spatial softmax, linear layer, ReLU."""

    def __init__(self, height: int, width: int, keypoints: int) -> None:
        super().__init__()
        stages = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        stages += [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.GroupNorm(4, 64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            *(ResidualBlock2d(*stage) for stage in stages),
            nn.Conv2d(512, keypoints, 1),
        )
        self.keypoints = SpatialSoftmax(keypoints, -(-height // 32), -(-width // 32))
        self.head = nn.Linear(2 * keypoints, 2 * keypoints)

    def forward(self, image: Tensor) -> Tensor:
        return torch.relu(self.head(self.keypoints(self.trunk(image))))


ENCODERS = {"small": SmallEncoder, "resnet18": ResNet18Encoder}


def scaled(image: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in -1..1 (channels-last memory, at no cost)."""
    return image.float().permute(0, 3, 1, 2) / 127.5 - 1.0  # cast first: TensorRT can only cast uint8


class Vision(nn.Module):
    """One encoder per camera over all observation frames: features [B, cameras x frames x 2 x keypoints]."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        encoder = ENCODERS[config.vision]
        self.encoders = nn.ModuleList(encoder(config.height, config.width, config.keypoints) for _ in config.cameras)
        self.width = len(config.cameras) * config.n_obs_steps * 2 * config.keypoints

    def forward(self, images: list[Tensor]) -> Tensor:
        """`images`: one uint8 [B, n_obs, H, W, 3] per camera."""
        features = []
        for encoder, image in zip(self.encoders, images, strict=True):
            batch = len(image)
            features.append(encoder(scaled(image.flatten(0, 1))).reshape(batch, -1))
        return torch.cat(features, dim=1)
