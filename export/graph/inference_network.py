"""The trained policy as deployed: one observation, static shapes, constants folded.

Everything that depends only on the time of an Euler step is constant once the steps are unrolled: time features, the
time net and their part of every FiLM layer become biases. All FiLM layers use the same condition, so they form
one matrix.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sefa_edge.models.policy import FlowPolicy, Range
from sefa_edge.models.velocity import FilmBlock, MlpVelocity, UnetVelocity
from sefa_edge.models.vision import scaled


@dataclass(frozen=True, slots=True)
class GraphForm:
    """Rewrites that do not change results; which is fastest depends on the engine that runs the graph."""

    film: Literal["fused", "separate"] = "fused"
    """One matrix for all FiLM layers, or one each."""
    conv1d: Literal["conv2d", "conv1d"] = "conv2d"
    """1-D convolutions as 2-D ones of height 1: TensorRT's parser reshapes around every Conv1d."""
    group_norm: Literal["instance", "reduce"] = "instance"
    """GroupNorm with InstanceNormalization, or written out with means."""


class InferenceNetwork(nn.Module):
    """A policy with `network_calls` unrolled Euler steps, ready to be traced."""

    def __init__(self, policy: FlowPolicy, network_calls: int, form: GraphForm) -> None:
        super().__init__()
        self.encoders = copy.deepcopy(policy.vision.encoders)
        _replace_group_norms(self.encoders, form, spatial_axes=2)
        self.joint_range, self.action_range = FoldedRange(policy.joint_range), FoldedRange(policy.action_range)
        self.velocity = static_velocity(policy, [step / network_calls for step in range(network_calls)], form)
        self.network_calls = network_calls

    def forward(self, *inputs: Tensor) -> Tensor:
        """Images uint8 [n_obs, H, W, 3] per camera, joints [n_obs, n], noise [T, n] -> chunk [T, n]."""
        *images, joint_deg, noise = inputs
        features = [encoder(scaled(image)).reshape(1, -1) for encoder, image in zip(self.encoders, images, strict=True)]
        joints = self.joint_range.normalise(joint_deg).reshape(1, -1)
        modulations = self.velocity.modulations(torch.cat([*features, joints], dim=1))
        x = noise
        for modulation in modulations:
            velocity = self.velocity(x, modulation)
            x = x + (velocity if self.network_calls == 1 else velocity / self.network_calls)
        return self.action_range.restore(x)


class FoldedRange(nn.Module):
    """`models.policy.Range` as one multiplication and one addition each way."""

    half_span: Tensor
    middle: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, trained: Range) -> None:
        super().__init__()
        half = (trained.high - trained.low) / 2
        self.register_buffer("half_span", half)
        self.register_buffer("middle", trained.low + half)
        self.register_buffer("scale", 1 / half)
        self.register_buffer("offset", -(trained.low + half) / half)

    def normalise(self, values: Tensor) -> Tensor:
        return values * self.scale + self.offset

    def restore(self, values: Tensor) -> Tensor:
        return values * self.half_span + self.middle


def static_velocity(policy: FlowPolicy, times: list[float], form: GraphForm) -> StaticMlp | StaticUnet:
    """The policy's velocity net at the given times."""
    net, condition_width = policy.velocity_net, policy.vision.width + policy.config.n_obs_steps * policy.config.joints
    if isinstance(net, MlpVelocity):
        return StaticMlp(net, condition_width, times, form)
    assert isinstance(net, UnetVelocity)
    return StaticUnet(net, times, form)


class FilmLayers(nn.Module):
    """The FiLM layers of all blocks: one row [1, C] in, one row [1, 2 width] per block out."""

    def __init__(self, layers: list[nn.Linear], form: GraphForm) -> None:
        super().__init__()
        self.sizes = [layer.out_features for layer in layers]
        weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
        self.layers = nn.ModuleList([linear(weight, bias)] if form.film == "fused" else layers)

    def forward(self, row: Tensor) -> list[Tensor]:
        if len(self.layers) == len(self.sizes):
            return [layer(row) for layer in self.layers]
        return list(self.layers[0](row).split(self.sizes, dim=1))


class StaticMlp(nn.Module):
    """`models.velocity.MlpVelocity` at fixed times."""

    def __init__(self, net: MlpVelocity, condition_width: int, times: list[float], form: GraphForm) -> None:
        super().__init__()
        first, second = net.condition[0], net.condition[2]
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        with torch.no_grad():
            biases = first.bias + net.time(torch.tensor(times)) @ first.weight[:, condition_width:].T
        self.first, self.second = linear(first.weight[:, :condition_width], biases[0]), second
        self.later = nn.ParameterList(bias - biases[0] for bias in biases[1:])
        self.enter, self.leave = net.enter, net.leave
        blocks = [block for block in net.blocks if isinstance(block, FilmBlock)]
        self.norms = nn.ModuleList(block.norm for block in blocks)
        self.bodies = nn.ModuleList(block.body for block in blocks)
        self.film = FilmLayers([_with_one_added(block.film) for block in blocks], form)

    def modulations(self, condition: Tensor) -> list[list[Tensor]]:
        hidden = self.first(condition)
        rows = [hidden, *(hidden + offset for offset in self.later)]
        return [self.film(functional.silu(self.second(functional.silu(row)))) for row in rows]

    def forward(self, x: Tensor, modulation: list[Tensor]) -> Tensor:
        hidden = self.enter(x.reshape(1, -1))
        for norm, body, row in zip(self.norms, self.bodies, modulation, strict=True):
            scale, shift = row.split(row.shape[1] // 2, dim=1)
            hidden = hidden + body(norm(hidden) * scale + shift)
        return self.leave(hidden).reshape(x.shape)


class StaticUnet(nn.Module):
    """`models.velocity.UnetVelocity` at fixed times, on [1, C, 1, T] or [1, C, T]."""

    def __init__(self, net: UnetVelocity, times: list[float], form: GraphForm) -> None:
        super().__init__()
        self.unet = copy.deepcopy(net.unet)
        blocks = self.unet.blocks()
        with torch.no_grad():
            time_rows = functional.mish(net.time(torch.tensor(times)))
        # Mish is elementwise, so the matrix splits into a time part, now constant, and a condition part.
        films = [block.film_layer for block in blocks]
        width = time_rows.shape[1]
        offsets = [time_rows @ film.weight[:, :width].T for film in films]
        with torch.no_grad():
            self.film = FilmLayers(
                [linear(f.weight[:, width:], f.bias + offset[0]) for f, offset in zip(films, offsets, strict=True)],
                form,
            )
        self.later = nn.ParameterList(
            torch.cat([offset[step] - offset[0] for offset in offsets])[None] for step in range(1, len(times))
        )
        for block in blocks:
            block.film = nn.Sequential()
        self.spatial_axes = 1
        if form.conv1d == "conv2d":
            self.spatial_axes = 2
            _replace_convolutions(self.unet)
        _replace_group_norms(self.unet, form, self.spatial_axes)

    def modulations(self, condition: Tensor) -> list[list[Tensor]]:
        rows = self.film(functional.mish(condition))
        return [rows, *(self._later(rows, offset) for offset in self.later)]

    def _later(self, rows: list[Tensor], offset: Tensor) -> list[Tensor]:
        return [row + part for row, part in zip(rows, offset.split(self.film.sizes, dim=1), strict=True)]

    def forward(self, x: Tensor, modulation: list[Tensor]) -> Tensor:
        horizon, joints = x.shape
        shape = (1, joints, 1, horizon) if self.spatial_axes == 2 else (1, joints, horizon)
        velocity = self.unet.run(x.transpose(0, 1).reshape(shape), modulation)
        return velocity.reshape(joints, horizon).transpose(0, 1)


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer with exactly these weights [out, in] and biases [out]."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
    return layer


def _with_one_added(film: nn.Linear) -> nn.Linear:
    """The `1 +` of `1 + scale`, moved into the bias."""
    ones = torch.cat([torch.ones(film.out_features // 2), torch.zeros(film.out_features // 2)])
    return linear(film.weight, film.bias + ones)


class StaticGroupNorm(nn.Module):
    """GroupNorm in one of the forms that every parser accepts."""

    def __init__(self, trained: nn.GroupNorm, form: GraphForm, spatial_axes: int) -> None:
        super().__init__()
        self.groups, self.eps, self.form = trained.num_groups, trained.eps, form.group_norm
        per_channel = (-1, *[1] * spatial_axes)
        self.weight = nn.Parameter(trained.weight.detach().reshape(per_channel))
        self.bias = nn.Parameter(trained.bias.detach().reshape(per_channel))

    def forward(self, x: Tensor) -> Tensor:
        shape = [int(size) for size in x.shape]
        grouped = x.reshape(shape[0], self.groups, -1)
        if self.form == "instance":
            normal = functional.instance_norm(grouped, eps=self.eps)
        else:
            centred = grouped - grouped.mean(dim=2, keepdim=True)
            normal = centred / (centred.square().mean(dim=2, keepdim=True) + self.eps).sqrt()
        return normal.reshape(shape) * self.weight + self.bias


def _replace_group_norms(module: nn.Module, form: GraphForm, spatial_axes: int) -> None:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, StaticGroupNorm(child, form, spatial_axes))


def _replace_convolutions(module: nn.Module) -> None:
    """Every 1-D convolution becomes a 2-D one of height 1."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (nn.Conv1d, nn.ConvTranspose1d)):
                setattr(parent, name, _flat_convolution(child))


def _flat_convolution(layer: nn.Conv1d | nn.ConvTranspose1d) -> nn.Module:
    kind = nn.ConvTranspose2d if isinstance(layer, nn.ConvTranspose1d) else nn.Conv2d
    padding = layer.padding[0]
    assert isinstance(padding, int)
    flat = kind(
        layer.in_channels,
        layer.out_channels,
        (1, layer.kernel_size[0]),
        stride=(1, layer.stride[0]),
        padding=(0, padding),
        bias=layer.bias is not None,
    )
    flat.weight = nn.Parameter(layer.weight.detach().unsqueeze(2))
    if layer.bias is not None:
        flat.bias = nn.Parameter(layer.bias.detach())
    return flat
