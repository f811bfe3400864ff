"""Conditional 1-D U-Net of Diffusion Policy (Chi et al. 2023), the velocity net of the SeFA paper."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNEL = 5
GROUPS = 8


def convolution_block(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(in_channels, channels, KERNEL, padding=KERNEL // 2),
        nn.GroupNorm(GROUPS, channels),
        nn.Mish(),
    )


class ResidualBlock1d(nn.Module):
    """Two convolution blocks with FiLM (scale * h + bias) between them."""

    def __init__(self, in_channels: int, channels: int, condition_width: int) -> None:
        super().__init__()
        self.first = convolution_block(in_channels, channels)
        self.second = convolution_block(channels, channels)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition_width, 2 * channels))
        self.shortcut = nn.Conv1d(in_channels, channels, 1) if in_channels != channels else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, bias = self.film(condition).unsqueeze(-1).chunk(2, dim=1)
        return self.second(scale * self.first(x) + bias) + self.shortcut(x)


class ConditionalUnet1d(nn.Module):
    """[B, n, T] -> [B, n, T]; T must be divisible by 2 ** (levels - 1)."""

    def __init__(self, joints: int, channels: tuple[int, ...], condition_width: int) -> None:
        super().__init__()
        pairs = list(zip((joints, *channels[:-1]), channels, strict=True))

        def block(in_channels: int, out_channels: int) -> ResidualBlock1d:
            return ResidualBlock1d(in_channels, out_channels, condition_width)

        self.down = nn.ModuleList(nn.ModuleList([block(a, b), block(b, b)]) for a, b in pairs)
        self.shrink = nn.ModuleList(nn.Conv1d(b, b, 3, 2, 1) for _, b in pairs[:-1])
        self.middle = nn.ModuleList([block(channels[-1], channels[-1]) for _ in range(2)])
        self.up = nn.ModuleList(nn.ModuleList([block(2 * b, a), block(a, a)]) for a, b in reversed(pairs[1:]))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(a, a, 4, 2, 1) for a, _ in reversed(pairs[1:]))
        self.leave = nn.Sequential(convolution_block(channels[0], channels[0]), nn.Conv1d(channels[0], joints, 1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, (first, second) in enumerate(self.down):  # type: ignore[misc]
            x = second(first(x, condition), condition)
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for block in self.middle:
            x = block(x, condition)
        for (first, second), grow in zip(self.up, self.grow, strict=True):  # type: ignore[misc]
            x = torch.cat([x, skips.pop()], dim=1)
            x = grow(second(first(x, condition), condition))
        return self.leave(x)
