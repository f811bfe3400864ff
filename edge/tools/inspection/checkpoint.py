"""Reads the description of a checkpoint without importing the learning half."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from sefa_edge.profiles.card import Sha256
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.json_text import read_json
from sefa_edge.profiles.strict import StrictModel, validate

DESCRIPTION, WEIGHTS = "checkpoint.json", "model.safetensors"


class CheckpointSummary(StrictModel):
    """The entries that every checkpoint has; others are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    schema_version: Literal[1]
    stage: Literal["base", "reflow", "sefa"]
    task: str
    joint_names: Annotated[list[str], Field(min_length=1, max_length=32)]
    weights_sha256: Sha256


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The description as plain JSON values, and why the weights do not belong to it; empty when they do."""

    content: object
    problem: str


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the description of a checkpoint and check the hash of its weights.

    Raises:
        InputError: it is not a checkpoint, or its description is damaged.
    """
    path, weights = folder / DESCRIPTION, folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder} is a folder without a {DESCRIPTION}", "pass a file, or the folder of a checkpoint")
    content = read_json(path)
    summary = validate(path, content, CheckpointSummary)
    if not weights.is_file():
        return Checkpoint(content, f"{WEIGHTS} is missing")
    belongs = sha256_of(weights) == summary.weights_sha256
    return Checkpoint(content, "" if belongs else f"{WEIGHTS} is not the file that the checkpoint describes")
