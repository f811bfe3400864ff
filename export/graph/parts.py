"""Encoder and velocity network as two graphs, for a host that integrates the flow itself; for timing, not for an arm.

`encoder.onnx`: images and joints in, condition [1, C] out. `velocity.onnx`: x [T, n], t [1] and condition in, velocity
[T, n] out, everything normalised. `parts.json` lists tensors, shapes and hashes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import onnx
import torch
from torch import Tensor, nn

from sefa_edge.export.graph.to_onnx import example_inputs, trace
from sefa_edge.models.policy import FlowPolicy
from sefa_edge.profiles.card import Sha256, TensorSpec
from sefa_edge.profiles.files import sha256_of, write_atomic
from sefa_edge.profiles.strict import StrictModel

CONDITION, VELOCITY, X, T = "condition", "velocity", "x", "t"
DTYPES: dict[int, Literal["uint8", "float32"]] = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}


class Part(StrictModel):
    """One graph with its inputs and outputs."""

    file: str
    sha256: Sha256
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class Parts(StrictModel):
    """The content of `parts.json`."""

    schema_version: Literal[1] = 1
    checkpoint_sha256: Sha256
    encoder: Part
    velocity: Part


class _Encoder(nn.Module):
    def __init__(self, policy: FlowPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *inputs: Tensor) -> Tensor:
        *images, joint_deg = (tensor.unsqueeze(0) for tensor in inputs)
        return self.policy.condition(images, joint_deg)


class _Velocity(nn.Module):
    def __init__(self, policy: FlowPolicy) -> None:
        super().__init__()
        self.net = policy.velocity_net

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return self.net(x.unsqueeze(0), t, condition).squeeze(0)


def write_parts(policy: FlowPolicy, checkpoint_sha256: str, folder: Path) -> None:
    """Write both graphs and their description to `folder`."""
    *seen, noise = example_inputs(policy.config, seed=0).items()
    encoder = trace(_Encoder(policy), dict(seen), (CONDITION,))
    width = policy.vision.width + policy.config.n_obs_steps * policy.config.joints
    inputs = {X: noise[1], T: torch.zeros(1), CONDITION: torch.zeros(1, width)}
    velocity = trace(_Velocity(policy), inputs, (VELOCITY,))
    parts = Parts(
        checkpoint_sha256=checkpoint_sha256,
        encoder=_write(encoder, folder / "encoder.onnx"),
        velocity=_write(velocity, folder / "velocity.onnx"),
    )
    write_atomic(folder / "parts.json", parts.model_dump_json(indent=2).encode() + b"\n")


def _write(model: onnx.ModelProto, path: Path) -> Part:
    write_atomic(path, model.SerializeToString())
    inputs, outputs = ([_spec(value) for value in values] for values in (model.graph.input, model.graph.output))
    return Part(file=path.name, sha256=sha256_of(path), inputs=inputs, outputs=outputs)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = [dimension.dim_value for dimension in tensor.shape.dim]
    return TensorSpec(name=value.name, dtype=DTYPES[tensor.elem_type], shape=shape)
