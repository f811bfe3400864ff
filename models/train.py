"""The three stages of SeFA, one function each: base flow, aligned pairs, one-step student."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sefa_edge.models.align import Alignment, align
from sefa_edge.models.config import BaseConfig, PairConfig, StudentConfig, TrainConfig
from sefa_edge.models.dataset import Demonstrations
from sefa_edge.models.flow import flow_loss
from sefa_edge.models.policy import FlowPolicy
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.progress import Progress

ENCODE_BATCH = 256
LOSS_MEMORY = 0.99


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Stage 2: noise and target chunk [N, K, T, n] for the condition [N, C] of each window, all normalised."""

    condition: Tensor
    noise: Tensor
    alignment: Alignment


@dataclass(frozen=True, slots=True)
class Numerics:
    """Device and precision of the computation."""

    device: str
    use_bfloat16: bool

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.use_bfloat16)


def new_policy(config: TrainConfig, demonstrations: Demonstrations) -> FlowPolicy:
    """A policy with initial weights whose ranges fit the demonstrations.

    Raises:
        InputError: the network and the dataset do not fit.
    """
    network = config.network
    if network.joints != len(demonstrations.joint_names) or set(network.cameras) - set(demonstrations.images):
        raise InputError("the network's joints or cameras are not those of the dataset", "check the camera names")
    torch.manual_seed(config.seed)
    policy = FlowPolicy(network)
    policy.joint_range.fit(demonstrations.joint_deg)
    policy.action_range.fit(demonstrations.action_deg)
    return policy


def train_base(policy: FlowPolicy, data: Demonstrations, config: BaseConfig, numerics: Numerics) -> float:
    """Stage 1: the rectified flow, encoder included. Each encoded image meets several noises. Returns the loss."""
    cameras, network = policy.config.cameras, policy.config

    def loss_of_batch() -> Tensor:
        index = torch.randint(len(data), (config.batch,))
        history = data.history(index, network.n_obs_steps)
        images = [data.images[camera][history].to(numerics.device) for camera in cameras]
        joints = data.joint_deg[history] + config.joint_noise_deg * torch.randn(*history.shape, network.joints)
        chunk = policy.action_range.normalise(data.chunk(index, network.horizon).to(numerics.device))
        condition = policy.condition(images, joints.to(numerics.device))
        return _flow_loss_on(policy, condition, chunk, config.noises_per_window)

    return _optimise(policy, policy.parameters(), loss_of_batch, config, numerics, "base flow")


def make_pairs(policy: FlowPolicy, data: Demonstrations, config: PairConfig, numerics: Numerics) -> Pairs:
    """Stage 2: run the base flow from several noises per window, then align selectively."""
    conditions, noises, chunks, demonstrated = [], [], [], []
    repeats = config.noises_per_window
    with torch.no_grad(), numerics.autocast(), Progress("pairs", len(data), sys.stderr) as progress:
        for index in torch.arange(len(data)).split(ENCODE_BATCH):
            history = data.history(index, policy.config.n_obs_steps)
            images = [data.images[camera][history].to(numerics.device) for camera in policy.config.cameras]
            condition = policy.condition(images, data.joint_deg[history].to(numerics.device)).float()
            target = policy.action_range.normalise(data.chunk(index, policy.config.horizon).to(numerics.device))
            noise = torch.randn(len(index) * repeats, *target.shape[1:]).to(numerics.device)
            chunk = policy.sample(condition.repeat_interleave(repeats, 0), noise, config.euler_steps)
            conditions.append(condition.cpu())
            noises.append(noise.cpu())
            chunks.append(chunk.float().cpu())
            demonstrated.append(target.cpu())
            progress.update(int(index[-1]) + 1)
    expert = torch.cat(demonstrated).repeat_interleave(repeats, 0)
    alignment = align(torch.cat(chunks), expert, config.replaced_quantile)
    return Pairs(torch.cat(conditions), torch.cat(noises), alignment)


def train_student(policy: FlowPolicy, pairs: Pairs, config: StudentConfig, numerics: Numerics) -> float:
    """Stage 3: warm-started velocity net on the pairs, encoder frozen; half of the samples at t = 0."""
    repeats = len(pairs.noise) // len(pairs.condition)

    def loss_of_batch() -> Tensor:
        index = torch.randint(len(pairs.noise), (config.batch,))
        noise, chunk = (
            pairs.noise[index].to(numerics.device),
            pairs.alignment.chunk[index].to(numerics.device),
        )
        t = torch.rand(config.batch, device=numerics.device)
        t = t * (torch.rand_like(t) >= config.start_share)
        condition = pairs.condition[index // repeats].to(numerics.device)
        return flow_loss(policy.velocity(condition), noise, chunk, t)

    return _optimise(policy, policy.velocity_net.parameters(), loss_of_batch, config, numerics, "student")


def _flow_loss_on(policy: FlowPolicy, condition: Tensor, chunk: Tensor, repeats: int) -> Tensor:
    condition, chunk = condition.repeat_interleave(repeats, 0), chunk.repeat_interleave(repeats, 0)
    t = torch.rand(len(chunk), device=chunk.device)
    return flow_loss(policy.velocity(condition), torch.randn_like(chunk), chunk, t)


def _optimise(
    policy: FlowPolicy,
    parameters: Iterator[nn.Parameter],
    loss_of_batch: Callable[[], Tensor],
    config: BaseConfig | StudentConfig,
    numerics: Numerics,
    label: str,
) -> float:
    """AdamW, warm-up and cosine, moving average of the weights; leaves the average in `policy`. Returns the loss."""
    trained = list(parameters)
    optimiser = torch.optim.AdamW(
        trained, lr=config.learning_rate, betas=(0.95, 0.999), weight_decay=config.weight_decay
    )
    average = copy.deepcopy(policy)
    policy.train()
    smooth = float("nan")
    with Progress(label, config.steps, sys.stderr) as progress:
        for step in range(config.steps):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * _schedule(step, config.warmup_steps, config.steps)
            with numerics.autocast():
                loss = loss_of_batch()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            _follow(average, policy, min(config.ema_decay, (1 + step) / (10 + step)))
            value = loss.detach().item()
            smooth = value if step == 0 else LOSS_MEMORY * smooth + (1 - LOSS_MEMORY) * value
            progress.update(step + 1, f"loss {smooth:.4f}")
    policy.load_state_dict(average.state_dict())
    policy.eval()
    return smooth


def _schedule(step: int, warmup_steps: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = torch.tensor((step - warmup_steps) / max(steps - warmup_steps, 1))
    return float(0.5 * (1 + torch.cos(torch.pi * done)))


@torch.no_grad()
def _follow(average: FlowPolicy, policy: FlowPolicy, decay: float) -> None:
    for slow, fast in zip(average.parameters(), policy.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)
