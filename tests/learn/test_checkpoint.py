"""Checkpoints: exact round trip, no pickle, damage refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sefa_edge.models.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from sefa_edge.models.config import NetworkConfig, TrainConfig
from sefa_edge.models.policy import FlowPolicy
from sefa_edge.profiles.errors import InputError

NETWORK = NetworkConfig(cameras=("front",), height=32, width=32, joints=2, mlp_width=16, mlp_blocks=1, keypoints=4)
INFO = CheckpointInfo(
    stage="base",
    task="lift",
    joint_names=("shoulder_pan", "gripper"),
    rate_hz=10.0,
    trained_min_deg=(-1.0, 0.0),
    trained_max_deg=(1.0, 100.0),
    dataset_sha256="0" * 64,
    weights_sha256="0" * 64,
    replaced_fraction=None,
    final_loss=0.5,
    train_seconds=1.0,
    config=TrainConfig(network=NETWORK),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path, FlowPolicy(NETWORK), INFO)
    return tmp_path


def test_round_trip(tmp_path: Path) -> None:
    policy = FlowPolicy(NETWORK)
    save_checkpoint(tmp_path, policy, INFO)
    loaded, info = load_checkpoint(tmp_path)
    assert info.config == INFO.config
    for name, tensor in policy.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


def _flip_a_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _other_network(folder: Path) -> None:
    path = folder / "checkpoint.json"
    description = json.loads(path.read_text())
    description["config"]["network"]["mlp_width"] = 32
    path.write_text(json.dumps(description))


def _unknown_key(folder: Path) -> None:
    path = folder / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "staage": "base"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip_a_byte, "not the file"),
        (_other_network, "does not fit"),
        (_unknown_key, "staage"),
        (lambda folder: (folder / "model.safetensors").unlink(), "not the file"),
        (lambda folder: (folder / "checkpoint.json").unlink(), "does not exist"),
    ],
)
def test_damage_is_refused(folder: Path, damage, message: str) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message):
        load_checkpoint(folder)
