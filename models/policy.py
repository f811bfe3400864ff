"""The policy network for training and export: encoder, velocity net and the ranges of joints."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sefa_edge.models.config import NetworkConfig
from sefa_edge.models.flow import Velocity, euler
from sefa_edge.models.velocity import VELOCITIES
from sefa_edge.models.vision import Vision


class Range(nn.Module):
    """Affine map between joint units and -1..1, fitted on the dataset and stored with the weights."""

    low: Tensor
    high: Tensor

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.register_buffer("low", -torch.ones(joints))
        self.register_buffer("high", torch.ones(joints))

    def fit(self, values: Tensor, smallest_span: float = 1.0) -> None:
        """Use the range of `values` [N, n]; a joint that hardly moves gets a span of `smallest_span`."""
        low, high = values.amin(0), values.amax(0)
        margin = (smallest_span - (high - low)).clamp(min=0) / 2
        self.low.copy_(low - margin)
        self.high.copy_(high + margin)

    def normalise(self, values: Tensor) -> Tensor:
        return (values - self.low) * (2 / (self.high - self.low)) - 1

    def restore(self, values: Tensor) -> Tensor:
        return (values + 1) * ((self.high - self.low) / 2) + self.low


class FlowPolicy(nn.Module):
    """From images, joints and noise to an action chunk."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = Vision(config)
        condition_width = self.vision.width + config.n_obs_steps * config.joints
        self.velocity_net = VELOCITIES[config.velocity](config, condition_width)
        self.joint_range = Range(config.joints)
        self.action_range = Range(config.joints)

    def condition(self, images: list[Tensor], joint_deg: Tensor) -> Tensor:
        """Images uint8 [B, n_obs, H, W, 3] per camera, joints [B, n_obs, n] -> condition [B, C]."""
        return torch.cat([self.vision(images), self.joint_range.normalise(joint_deg).flatten(1)], dim=1)

    def velocity(self, condition: Tensor) -> Velocity:
        """The velocity field for a given condition, in normalised units."""
        return lambda x, t: self.velocity_net(x, t, condition)

    def sample(self, condition: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Normalised chunk [B, T, n] from noise [B, T, n] in `steps` network calls."""
        return euler(self.velocity(condition), noise, steps)


class EnginePolicy(nn.Module):
    """The function that an engine of this policy computes: one observation, no batch axis, joint units in and out.

    `export/graph/inference_network.py` exports the same function with its constants folded; this one is its reference.
    """

    def __init__(self, policy: FlowPolicy, network_calls: int) -> None:
        super().__init__()
        self.policy = policy
        self.network_calls = network_calls

    def forward(self, *inputs: Tensor) -> Tensor:
        """Images uint8 [n_obs, H, W, 3] per camera, joints [n_obs, n], noise [T, n] -> chunk [T, n]."""
        *images, joint_deg, noise = (tensor.unsqueeze(0) for tensor in inputs)
        condition = self.policy.condition(images, joint_deg)
        chunk = self.policy.sample(condition, noise, self.network_calls)
        return self.policy.action_range.restore(chunk).squeeze(0)
