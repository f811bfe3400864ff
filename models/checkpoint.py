"""A checkpoint is two files: `model.safetensors` (weights) and `checkpoint.json` (everything else). No pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from sefa_edge.models.config import TrainConfig
from sefa_edge.models.policy import FlowPolicy
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import output_folder, sha256_of, write_atomic
from sefa_edge.profiles.quantities import Fraction, NotNegative, PolicyRateHz, PositionDeg
from sefa_edge.profiles.strict import StrictModel, parse_json

WEIGHTS, DESCRIPTION = "model.safetensors", "checkpoint.json"
Stage = Literal["base", "reflow", "sefa"]


class CheckpointInfo(StrictModel):
    """Description of the weights."""

    schema_version: Literal[1] = 1
    stage: Stage
    task: str
    joint_names: tuple[str, ...]
    rate_hz: PolicyRateHz
    trained_min_deg: tuple[PositionDeg, ...]
    trained_max_deg: tuple[PositionDeg, ...]
    dataset_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    replaced_fraction: Fraction | None
    final_loss: NotNegative
    train_seconds: NotNegative
    config: TrainConfig


def save_checkpoint(folder: Path, policy: FlowPolicy, info: CheckpointInfo) -> None:
    """Write both files, the description last, so that an incomplete checkpoint is not valid. Raises InputError."""
    with output_folder(folder):
        write_atomic(folder / WEIGHTS, save({name: t.contiguous() for name, t in policy.state_dict().items()}))
        sealed = info.model_copy(update={"weights_sha256": sha256_of(folder / WEIGHTS)})
        write_atomic(folder / DESCRIPTION, sealed.model_dump_json(indent=2).encode() + b"\n")


def load_checkpoint(folder: Path) -> tuple[FlowPolicy, CheckpointInfo]:
    """The policy of a checkpoint, in evaluation mode.

    Raises:
        InputError: missing, damaged, or shapes that do not match its description.
    """
    info = parse_json(folder / DESCRIPTION, CheckpointInfo)
    weights = folder / WEIGHTS
    if not weights.is_file() or sha256_of(weights) != info.weights_sha256:
        raise InputError(f"{weights} is not the file that {DESCRIPTION} describes", "copy both files again, or train")
    policy = FlowPolicy(info.config.network)
    try:
        policy.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{weights} does not fit its description: {error}", "train again") from None
    return policy.eval(), info
