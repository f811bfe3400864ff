"""Rectified flow (Liu et al. 2022) as plain functions.

Time runs from t = 0 (noise) to t = 1 (action chunk); the SeFA paper uses the opposite direction. The straight path is
x_t = (1 - t) z + t a with velocity a - z. `velocity` below is any function (x [B, T, n], t [B]) -> [B, T, n].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]


def interpolate(noise: Tensor, chunk: Tensor, t: Tensor) -> Tensor:
    """Point x_t on the straight path; noise and chunk [B, T, n], t [B]."""
    weight = t[:, None, None]
    return (1 - weight) * noise + weight * chunk


def flow_loss(velocity: Velocity, noise: Tensor, chunk: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the velocity at `t`: the rectified-flow objective."""
    predicted = velocity(interpolate(noise, chunk, t), t)
    return (predicted - (chunk - noise)).square().mean()


def euler(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Integrate from noise to chunk in `steps` equal Euler steps (1: the student's only network call)."""
    x = noise
    for step in range(steps):
        t = torch.full((len(noise),), step / steps, dtype=noise.dtype, device=noise.device)
        x = x + velocity(x, t) / steps
    return x
