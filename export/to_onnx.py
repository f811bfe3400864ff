"""From a policy to one static ONNX graph: uint8 pictures, joints and noise in, action chunk in joint units out."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor

from sefa_edge.models.config import NetworkConfig
from sefa_edge.models.policy import EnginePolicy, FlowPolicy

OPSET = 17
"""Newest opset of TensorRT 8.6, the oldest TensorRT on JetPack 6."""
JOINTS, NOISE, CHUNK = "joints", "noise", "chunk"


def image_tensor_name(camera: str) -> str:
    return f"image_{camera}"


def example_inputs(network: NetworkConfig, seed: int) -> dict[str, Tensor]:
    """Random inputs with the engine's names, shapes and types."""
    random = torch.Generator().manual_seed(seed)
    images = {
        image_tensor_name(camera): torch.randint(
            0,
            256,
            (network.n_obs_steps, network.height, network.width, 3),
            generator=random,
            dtype=torch.uint8,
        )
        for camera in network.cameras
    }
    joints = 20 * torch.randn(network.n_obs_steps, network.joints, generator=random)
    return {**images, JOINTS: joints, NOISE: torch.randn(network.horizon, network.joints, generator=random)}


def write_onnx(policy: FlowPolicy, network_calls: int, path: Path) -> None:
    """Trace the policy with `network_calls` unrolled Euler steps and write a checked model."""
    inputs = example_inputs(policy.config, seed=0)
    temporary = path.with_name(path.name + ".tmp")
    with torch.no_grad(), warnings.catch_warnings():
        # The TorchScript exporter is the one whose graphs TensorRT 8.6 parses; its deprecation is known.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            EnginePolicy(policy, network_calls).eval(),
            tuple(inputs.values()),
            str(temporary),
            input_names=list(inputs),
            output_names=[CHUNK],
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(temporary)
    onnx.checker.check_model(model, full_check=True)
    temporary.replace(path)
