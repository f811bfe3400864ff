"""The policy card of an exported file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sefa_edge import __version__
from sefa_edge.export.flavours import Flavour
from sefa_edge.export.graph.to_onnx import CHUNK, JOINTS, NOISE, image_tensor_name
from sefa_edge.models.checkpoint import CheckpointInfo
from sefa_edge.profiles.card import (
    CameraSpec,
    GateResult,
    JointSpec,
    PolicyCard,
    Provenance,
    TensorSpec,
    TimingSpec,
)
from sefa_edge.profiles.files import sha256_of, sha256_of_json
from sefa_edge.profiles.joint_units import zero_of
from sefa_edge.profiles.schema import ArmProfile


@dataclass(frozen=True, slots=True, eq=False)
class CardFacts:
    """Facts for a card that are not in checkpoint and file."""

    arm_name: str
    """As given: a shipped profile's name or a file."""
    arm: ArmProfile
    network_calls: int
    execute_steps: int


def make_card(info: CheckpointInfo, facts: CardFacts, flavour: Flavour, judged: tuple[Path, GateResult]) -> PolicyCard:
    """The card of `flavour`; `judged`: the path of its file, and the result of the gate."""
    engine, gate = judged
    network, n = info.config.network, len(info.joint_names)
    shape = [network.n_obs_steps, network.height, network.width, 3]
    return PolicyCard(
        schema_version=2 if gate.unproven is None else 3,
        name=f"{info.task}-{info.stage}",
        task=info.task,
        arm=facts.arm_name,
        engine_file=flavour.file,
        engine_sha256=sha256_of(engine),
        format="onnx",
        precision=flavour.precision,
        strongly_typed=flavour.strongly_typed,
        opset=flavour.opset,
        cameras=[
            CameraSpec(name=camera, tensor=image_tensor_name(camera), height=network.height, width=network.width)
            for camera in network.cameras
        ],
        joints=_joints(info, facts.arm),
        timing=TimingSpec(
            policy_rate_hz=info.rate_hz,
            n_obs_steps=network.n_obs_steps,
            horizon=network.horizon,
            execute_steps=facts.execute_steps,
        ),
        joint_tensor=TensorSpec(name=JOINTS, dtype="float32", shape=[network.n_obs_steps, n]),
        noise_tensor=TensorSpec(name=NOISE, dtype="float32", shape=[network.horizon, n]),
        chunk_tensor=TensorSpec(name=CHUNK, dtype="float32", shape=[network.horizon, n]),
        image_tensors=[
            TensorSpec(name=image_tensor_name(camera), dtype="uint8", shape=shape) for camera in network.cameras
        ],
        provenance=Provenance(
            stage=info.stage,
            network_calls=facts.network_calls,
            checkpoint_sha256=info.weights_sha256,
            training_sha256=sha256_of_json(info.config.model_dump(mode="json")),
            dataset_sha256=info.dataset_sha256,
            seed=info.config.seed,
            sefa_edge_version=__version__,
            replaced_fraction=info.replaced_fraction,
        ),
        quantisation=flavour.quantisation,
        gate=gate,
    )


def _joints(info: CheckpointInfo, arm: ArmProfile) -> list[JointSpec]:
    ranges = zip(arm.joints, info.trained_min_deg, info.trained_max_deg, strict=True)
    return [
        JointSpec(
            name=joint.name,
            unit=joint.unit,
            zero=zero_of(joint.unit),
            trained_min_deg=low,
            trained_max_deg=high,
        )
        for joint, low, high in ranges
    ]
