"""`sefa-edge train`: the three stages, each of which can start from the checkpoint of the one before."""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sefa_edge.models.align import Alignment
from sefa_edge.models.checkpoint import CheckpointInfo, Stage, load_checkpoint, save_checkpoint
from sefa_edge.models.config import BaseConfig, NetworkConfig, PairConfig, StudentConfig, TrainConfig
from sefa_edge.models.dataset import Demonstrations, load_demonstrations
from sefa_edge.models.policy import FlowPolicy
from sefa_edge.models.train import Numerics, make_pairs, new_policy, train_base, train_student
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import output_folder, path_argument
from sefa_edge.profiles.quantities import FRACTION, SEED, Whole
from sefa_edge.profiles.recording.dataset import RecordedDataset, open_dataset
from sefa_edge.profiles.recording.fitness import check_exportable
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM

TRAINING_STEPS = Whole("a number of steps", 1, 10_000_000)
THREADS_OR_DEFAULT = Whole("a number of threads", 0, 256)
PRESETS: dict[str, dict[str, object]] = {
    "small": {},
    "paper": {
        "vision": "resnet18",
        "velocity": "unet1d",
        "unet_channels": (512, 1024, 2048),
        "time_features": 128,
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", type=path_argument, required=True, help="LeRobot v3 dataset, images or videos")
    parser.add_argument(
        "-o", "--output", type=path_argument, required=True, help="folder for the checkpoints base/ and sefa/"
    )
    parser.add_argument(
        "--arm",
        default=SIMULATED_ARM,
        help="arm that the policy will move, as for export; a dataset with other joints or units is refused "
        f"(default: {SIMULATED_ARM})",
    )
    parser.add_argument("--stage", choices=("base", "student", "all"), default="all", help="student starts from base/")
    parser.add_argument(
        "--network", choices=tuple(PRESETS), default="small", help="small: CPU; paper: ResNet-18 + U-Net"
    )
    parser.add_argument("--seed", type=SEED.parse, default=0)
    parser.add_argument("--base-steps", type=TRAINING_STEPS.parse, default=BaseConfig().steps)
    parser.add_argument("--student-steps", type=TRAINING_STEPS.parse, default=StudentConfig().steps)
    parser.add_argument(
        "--replaced-quantile",
        type=FRACTION.parse,
        default=PairConfig().replaced_quantile,
        help="share of generated chunks replaced by the demonstration; 0 is plain reflow",
    )
    parser.add_argument("--name", default="sefa", help="folder of the student's checkpoint below the output")
    parser.add_argument("--threads", type=THREADS_OR_DEFAULT.parse, default=0, help="CPU threads; 0 lets torch choose")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def main(arguments: argparse.Namespace) -> int:
    with output_folder(arguments.output):  # fail before the training, not after it
        return _train(arguments)


def _train(arguments: argparse.Namespace) -> int:
    numerics = Numerics(arguments.device, _has_bfloat16(arguments.device))
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    data = load_demonstrations(_checked_dataset(arguments))
    episodes = len(data.episode_end.unique())
    print(f"{arguments.dataset}: {len(data)} frames, {episodes} episodes, sha256 {data.sha256[:12]}…")
    run = TrainingRun(arguments.output, data, numerics)
    config = _config(arguments, data)
    if arguments.stage in ("base", "all"):
        run.base(config)
    if arguments.stage in ("student", "all"):
        run.student(config, arguments.name)
    return 0


def _checked_dataset(arguments: argparse.Namespace) -> RecordedDataset:
    """The dataset, refused before its images are decoded if `export` would refuse the trained policy."""
    arm = load_arm_profile(arguments.arm)
    dataset = open_dataset(arguments.dataset)
    for note in (*dataset.info.notes, *check_exportable(dataset, arm)):
        print(f"note: {note}", file=sys.stderr)
    return dataset


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """Stages over one dataset; checkpoints below `folder`."""

    folder: Path
    data: Demonstrations
    numerics: Numerics

    def base(self, config: TrainConfig) -> None:
        start_s = time.monotonic()
        policy = new_policy(config, self.data).to(self.numerics.device)
        loss = train_base(policy, self.data, config.base, self.numerics)
        self._save(policy, "base", "base", config, loss, time.monotonic() - start_s, None)

    def student(self, config: TrainConfig, name: str) -> None:
        start_s = time.monotonic()
        policy, base = load_checkpoint(self.folder / "base")
        if base.dataset_sha256 != self.data.sha256:
            raise InputError(f"{self.folder / 'base'} was trained on another dataset", "give the same --dataset")
        torch.manual_seed(config.seed + 1)
        policy.to(self.numerics.device)
        config = config.model_copy(update={"network": base.config.network, "base": base.config.base})
        pairs = make_pairs(policy, self.data, config.pairs, self.numerics)
        _print_alignment(pairs.alignment)
        loss = train_student(policy, pairs, config.student, self.numerics)
        stage: Stage = "sefa" if config.pairs.replaced_quantile > 0 else "reflow"
        self._save(policy, name, stage, config, loss, time.monotonic() - start_s, pairs.alignment.replaced_fraction)

    def _save(
        self,
        policy: FlowPolicy,
        name: str,
        stage: Stage,
        config: TrainConfig,
        loss: float,
        seconds: float,
        replaced_fraction: float | None,
    ) -> None:
        if not math.isfinite(loss):
            raise SefaError(
                f"the training of {name} diverged: its loss is {loss}", "check the dataset's joints", ExitCode.FAILED
            )
        info = CheckpointInfo(
            stage=stage,
            task=self.data.task,
            joint_names=self.data.joint_names,
            rate_hz=self.data.rate_hz,
            trained_min_deg=tuple(self.data.joint_deg.amin(0).tolist()),
            trained_max_deg=tuple(self.data.joint_deg.amax(0).tolist()),
            dataset_sha256=self.data.sha256,
            weights_sha256="0" * 64,
            replaced_fraction=replaced_fraction,
            final_loss=loss,
            train_seconds=round(seconds, 1),
            config=config,
        )
        save_checkpoint(self.folder / name, policy.cpu(), info)
        print(f"{self.folder / name}: {stage}, loss {loss:.4f}, {seconds:.0f} s")


def _print_alignment(alignment: Alignment) -> None:
    spread = torch.quantile(alignment.distance, torch.tensor([0.1, 0.5, 0.9, 0.99])).tolist()
    print("distance to the demonstration (RMS, normalised) p10/p50/p90/p99: " + "/".join(f"{d:.3f}" for d in spread))
    share, count = alignment.replaced_fraction, len(alignment.distance)
    print(f"replaced {share:.1%} of {count} chunks (those below {alignment.threshold:.3f})")


def _config(arguments: argparse.Namespace, data: Demonstrations) -> TrainConfig:
    pictures = next(iter(data.images.values()))
    network = {
        **PRESETS[arguments.network],
        "cameras": tuple(data.images),
        "height": pictures.shape[1],
        "width": pictures.shape[2],
        "joints": len(data.joint_names),
    }
    return TrainConfig(
        seed=arguments.seed,
        network=NetworkConfig.model_validate(network),
        base=BaseConfig(steps=arguments.base_steps),
        pairs=PairConfig(replaced_quantile=arguments.replaced_quantile),
        student=StudentConfig(steps=arguments.student_steps),
    )


def _has_bfloat16(device: str) -> bool:
    """Whether bfloat16 is fast on this device: always on a GPU, on a CPU with AMX or AVX-512 BF16."""
    if device == "cuda":
        return True
    try:
        return "bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
