"""`sefa-edge export`: a checkpoint becomes model.onnx and its policy card model.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from sefa_edge import __version__
from sefa_edge.export.parity import check_parity
from sefa_edge.export.to_onnx import CHUNK, JOINTS, NOISE, OPSET, image_tensor_name, write_onnx
from sefa_edge.models.checkpoint import CheckpointInfo, load_checkpoint
from sefa_edge.profiles.card import CameraSpec, JointSpec, PolicyCard, Provenance, TensorSpec, TimingSpec, save_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import make_folder, sha256_of, sha256_of_json
from sefa_edge.profiles.schema import load_arm_profile

BASE_CALLS = 10
ENGINE = "model.onnx"
ZERO_OF_UNIT = {"degrees": "range_middle", "percent": "range_end"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="folder with model.safetensors and checkpoint.json")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for model.onnx and model.json"
    )
    parser.add_argument("--precision", choices=("fp32",), default="fp32", help="precision of the engine")
    parser.add_argument(
        "--network-calls",
        type=int,
        help="Euler steps inside the engine (default: 1 for a student, 10 for a base flow)",
    )
    parser.add_argument("--execute-steps", type=int, default=8, help="steps of each chunk that are played")
    parser.add_argument("--arm", default="so101_sim", help="arm profile whose joints the policy moves")


def main(arguments: argparse.Namespace) -> int:
    policy, info = load_checkpoint(arguments.checkpoint)
    calls = arguments.network_calls or (BASE_CALLS if info.stage == "base" else 1)
    if not 1 <= calls <= 100 or not 1 <= arguments.execute_steps <= policy.config.horizon:
        raise InputError("--network-calls must be 1..100 and --execute-steps 1..horizon")
    units = {joint.name: joint.unit for joint in load_arm_profile(arguments.arm).joints}
    if tuple(units) != info.joint_names:
        raise InputError(
            f"the checkpoint moves {', '.join(info.joint_names)}", f"arm '{arguments.arm}' has other joints"
        )
    make_folder(arguments.output)
    staged = arguments.output / ("staged-" + ENGINE)
    try:
        write_onnx(policy, calls, staged)
        parity = check_parity(policy, calls, staged)
        engine = staged.replace(arguments.output / ENGINE)
    finally:
        staged.unlink(missing_ok=True)
    save_card(make_card(info, engine, units, calls, arguments), engine)
    print(f"{engine}: {engine.stat().st_size / 1e6:.1f} MB, {calls} network call(s) per chunk")
    print(f"against torch: max {parity.max_deg:.2g} deg, mean {parity.mean_deg:.2g} deg")
    return 0


def make_card(
    info: CheckpointInfo,
    engine: Path,
    units: dict[str, str],
    network_calls: int,
    arguments: argparse.Namespace,
) -> PolicyCard:
    """The card of an exported checkpoint."""
    network, n = info.config.network, len(info.joint_names)
    ranges = zip(info.joint_names, info.trained_min_deg, info.trained_max_deg, strict=True)
    shape = [network.n_obs_steps, network.height, network.width, 3]
    return PolicyCard(
        schema_version=2,
        name=f"{info.task}-{info.stage}",
        task=info.task,
        arm=arguments.arm,
        engine_file=engine.name,
        engine_sha256=sha256_of(engine),
        format="onnx",
        precision=arguments.precision,
        strongly_typed=False,
        opset=OPSET,
        cameras=[
            CameraSpec(name=camera, tensor=image_tensor_name(camera), height=network.height, width=network.width)
            for camera in network.cameras
        ],
        joints=[
            JointSpec.model_validate(
                {
                    "name": name,
                    "unit": units[name],
                    "zero": ZERO_OF_UNIT[units[name]],
                    "trained_min_deg": low,
                    "trained_max_deg": high,
                }
            )
            for name, low, high in ranges
        ],
        timing=TimingSpec(
            policy_rate_hz=info.rate_hz,
            n_obs_steps=network.n_obs_steps,
            horizon=network.horizon,
            execute_steps=arguments.execute_steps,
        ),
        joint_tensor=TensorSpec(name=JOINTS, dtype="float32", shape=[network.n_obs_steps, n]),
        noise_tensor=TensorSpec(name=NOISE, dtype="float32", shape=[network.horizon, n]),
        chunk_tensor=TensorSpec(name=CHUNK, dtype="float32", shape=[network.horizon, n]),
        image_tensors=[
            TensorSpec(name=image_tensor_name(camera), dtype="uint8", shape=shape) for camera in network.cameras
        ],
        provenance=Provenance(
            stage=info.stage,
            network_calls=network_calls,
            checkpoint_sha256=info.weights_sha256,
            training_sha256=sha256_of_json(info.config.model_dump(mode="json")),
            dataset_sha256=info.dataset_sha256,
            seed=info.config.seed,
            sefa_edge_version=__version__,
            replaced_fraction=info.replaced_fraction,
        ),
    )
