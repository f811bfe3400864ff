"""Velocity networks v(x, t, condition): the MLP (default on a CPU), the U-Net, and the time features of both."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sefa_edge.models.config import NetworkConfig
from sefa_edge.models.unet1d import ConditionalUnet1d

TIME_SCALE = 1000.0
"""Factor of t in 0..1 before the sinusoids."""


class TimeFeatures(nn.Module):
    """Sinusoidal features of t [B] -> [B, width] (Transformer frequencies, base 10 000)."""

    frequency: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        frequency = torch.exp(torch.arange(half) * (-math.log(10_000.0) / (half - 1)))
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angle = TIME_SCALE * t[:, None] * self.frequency
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class FilmBlock(nn.Module):
    """Residual MLP block whose input is scaled and shifted by the condition."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.film = nn.Linear(condition_width, 2 * width)
        self.body = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition).chunk(2, dim=1)
        return x + self.body(self.norm(x) * (1 + scale) + shift)


class MlpVelocity(nn.Module):
    """Residual MLP over the flattened chunk."""

    def __init__(self, config: NetworkConfig, condition_width: int) -> None:
        super().__init__()
        width, chunk = config.mlp_width, config.horizon * config.joints
        self.time = TimeFeatures(config.time_features)
        self.condition = nn.Sequential(
            nn.Linear(condition_width + config.time_features, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        )
        self.enter = nn.Linear(chunk, width)
        self.blocks = nn.ModuleList(FilmBlock(width, width) for _ in range(config.mlp_blocks))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, chunk))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """x [B, T, n], t [B], condition [B, C] -> velocity [B, T, n]."""
        context = self.condition(torch.cat([condition, self.time(t)], dim=1))
        hidden = self.enter(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, context)
        return self.leave(hidden).reshape(x.shape)


class UnetVelocity(nn.Module):
    """Diffusion Policy's conditional 1-D U-Net over the time axis of the chunk."""

    def __init__(self, config: NetworkConfig, condition_width: int) -> None:
        super().__init__()
        width = config.time_features
        self.time = nn.Sequential(
            TimeFeatures(width), nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width)
        )
        self.unet = ConditionalUnet1d(config.joints, config.unet_channels, width + condition_width)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """x [B, T, n], t [B], condition [B, C] -> velocity [B, T, n]."""
        return self.unet(x.transpose(1, 2), torch.cat([self.time(t), condition], dim=1)).transpose(1, 2)


VELOCITIES = {"mlp": MlpVelocity, "unet1d": UnetVelocity}
