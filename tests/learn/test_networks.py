"""The networks: shapes, the paper's exact numbers of parameters, and the ranges of joints."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from sefa_edge.models.config import NetworkConfig
from sefa_edge.models.policy import EnginePolicy, FlowPolicy, Range
from sefa_edge.models.velocity import UnetVelocity
from sefa_edge.models.vision import ResNet18Encoder, SpatialSoftmax

SMALL = NetworkConfig(cameras=("front",), height=96, width=96, joints=6)
TWO_CAMERAS = SMALL.model_copy(update={"cameras": ("front", "side"), "n_obs_steps": 2})
TINY_PAPER = SMALL.model_copy(
    update={"vision": "resnet18", "velocity": "unet1d", "unet_channels": (16, 32, 64), "time_features": 16}
)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("joints", "condition", "changes", "parameters"),
    [
        (4, 136, {"unet_channels": (512, 1024, 2048), "time_features": 128}, 251_633_796),
        (9, 120, {"unet_channels": (256, 512, 1024), "time_features": 256}, 66_942_729),
    ],
)
def test_unet_has_the_size_of_the_authors_code(
    joints: int, condition: int, changes: Mapping[str, object], parameters: int
) -> None:
    config = SMALL.model_copy(update={"joints": joints, **changes})
    with torch.device("meta"):
        assert _count(UnetVelocity(config, condition)) == parameters


def test_resnet_has_the_size_of_the_authors_code() -> None:
    with torch.device("meta"):
        assert _count(ResNet18Encoder(84, 84, 32)) == 11_197_088


@pytest.mark.parametrize("config", [SMALL, TWO_CAMERAS, TINY_PAPER], ids=["small", "two cameras", "paper"])
def test_shapes(config: NetworkConfig) -> None:
    policy = FlowPolicy(config).eval()
    images = [torch.zeros(3, config.n_obs_steps, 96, 96, 3, dtype=torch.uint8) for _ in config.cameras]
    condition = policy.condition(images, torch.zeros(3, config.n_obs_steps, 6))
    assert policy.sample(condition, torch.randn(3, 16, 6), 2).shape == (3, 16, 6)
    single = [image[0] for image in images]
    chunk = EnginePolicy(policy, 1)(*single, torch.zeros(config.n_obs_steps, 6), torch.randn(16, 6))
    assert chunk.shape == (16, 6)


def test_spatial_softmax_points_at_the_peak() -> None:
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 1, 4] = 100.0
    torch.testing.assert_close(SpatialSoftmax(1, 5, 5)(maps), torch.tensor([[1.0, -0.5]]))


def test_range_maps_the_data_to_one_and_back() -> None:
    values = torch.tensor([[-30.0, 5.0], [90.0, 5.2]])
    ranges = Range(2)
    ranges.fit(values)
    normalised = ranges.normalise(values)
    torch.testing.assert_close(normalised[:, 0], torch.tensor([-1.0, 1.0]))
    assert normalised[:, 1].abs().max() < 0.21  # the noise of a joint that hardly moves is not amplified
    torch.testing.assert_close(ranges.restore(normalised), values)
