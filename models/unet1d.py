"""Conditional 1-D U-Net of Diffusion Policy (Chi et al. 2023), the velocity net of the SeFA paper."""

from __future__ import annotations

from collections.abc import Sequence

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
        self.channels = channels
        self.first = convolution_block(in_channels, channels)
        self.second = convolution_block(channels, channels)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition_width, 2 * channels))
        self.shortcut = nn.Conv1d(in_channels, channels, 1) if in_channels != channels else nn.Identity()

    @property
    def film_layer(self) -> nn.Linear:
        """The matrix of FiLM."""
        layer = self.film[1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor, film_row: Tensor) -> Tensor:
        """x [B, C, ..., T]; film_row [B, 2 channels] is the output of `self.film` for the condition."""
        scale, bias = film_row.reshape(*film_row.shape, *[1] * (x.dim() - 2)).split(self.channels, dim=1)
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

    def blocks(self) -> list[ResidualBlock1d]:
        """All blocks in the order in which `run` uses them."""
        stages = [*self.down, self.middle, *self.up]
        return [block for stage in stages for block in stage]  # type: ignore[union-attr]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.run(x, [block.film(condition) for block in self.blocks()])

    def run(self, x: Tensor, film_rows: Sequence[Tensor]) -> Tensor:
        """x [B, n, ..., T] with one FiLM row per block."""
        rows = iter(film_rows)
        skips: list[Tensor] = []
        for level, (first, second) in enumerate(self.down):  # type: ignore[misc]
            x = second(first(x, next(rows)), next(rows))
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for block in self.middle:
            x = block(x, next(rows))
        for (first, second), grow in zip(self.up, self.grow, strict=True):  # type: ignore[misc]
            x = torch.cat([x, skips.pop()], dim=1)
            x = grow(second(first(x, next(rows)), next(rows)))
        return self.leave(x)
