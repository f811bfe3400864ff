"""TensorRT plans: what the header says, and a clear refusal. The only file that may import tensorrt.

A plan is bound to the TensorRT version and the GPU that built it; its first 28 bytes tell the version without
TensorRT (magic `ftrt` at 0, version bytes at 24: major, minor, patch, build; trtexec reads the same).
This version of sefa-edge identifies plans but does not run them.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sefa_edge.edge.engine import HEADER_BYTES, PLAN_MAGIC, EngineError
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.errors import MissingError

VERSION_OFFSET = 24
VERSION_BYTES = 4


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """TensorRT version that built a plan."""

    major: int
    minor: int
    patch: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}.{self.build}"


def read_plan_header(path: Path) -> PlanHeader:
    """Raises EngineError when the file is not a plan or ends inside its header."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if not head.startswith(PLAN_MAGIC):
        raise EngineError(f"{path} is not a TensorRT plan", "give a model.plan")
    version = head[VERSION_OFFSET : VERSION_OFFSET + VERSION_BYTES]
    if len(version) < VERSION_BYTES:
        raise EngineError(f"{path} ends inside its header", "was it copied completely? build it again")
    return PlanHeader(*version)


def open_plan(path: Path, card: PolicyCard) -> NoReturn:
    """Raises MissingError without TensorRT, and EngineError with it: this version does not run plans."""
    header = read_plan_header(path)
    if importlib.util.find_spec("tensorrt") is None:
        raise MissingError(
            f"{path} is a TensorRT {header} plan and TensorRT is not installed",
            "run the model.onnx it was built from instead",
        )
    raise EngineError(
        f"{path} is a TensorRT {header} plan of '{card.name}'; this version does not run plans",
        "run the model.onnx it was built from instead",
    )
