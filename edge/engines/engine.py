"""OWNS THE ENGINE: what an engine is, and what kind of engine a file holds, by its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from sefa_edge.edge.engines.cuda.device import CudaOptions
from sefa_edge.profiles.card import PolicyCard, TensorSpec
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.file_kinds import seems_to_be
from sefa_edge.profiles.files import read_head

PLAN_MAGIC = b"ftrt"  # TensorRT plan, u32 0x74727466 little endian
RTX_PLAN_MAGIC = b"vtrt"  # TensorRT-RTX plan
ONNX_IR_VERSION_TAG = 0x08  # ModelProto field 1, a varint, which every writer puts first
HEADER_BYTES = 64
EngineKind = Literal["onnx", "tensorrt", "tensorrt_rtx"]


class EngineError(InputError):
    """An engine that cannot be used as it is, with the reason."""


class Engine(Protocol):
    """One static function (images, joints, noise) -> chunk, ready to run. Used by one thread."""

    @property
    def card(self) -> PolicyCard: ...

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Run once.

        Args:
            images: per camera name, uint8 [n_obs, H, W, 3] RGB.
            joint_deg: float32 [n_obs, n].
            noise: float32 [T, n], standard normal.

        Returns:
            The chunk float32 [T, n] in joint units. The next call overwrites it: copy it to keep it.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How a TensorRT plan uses the GPU."""

    device: CudaOptions = field(default_factory=CudaOptions)
    launch: Literal["graph", "enqueue"] = "graph"
    """As one CUDA graph, or kernel by kernel; the latter is what happens, too, where capture fails."""
    warm_up_runs: int = 20
    warm_up_s: float = 0.5
    """Kernels are loaded at their first use, and clocks need a while to rise: both limits have to be met."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine may use the machine."""

    threads: int = 1
    warm_up_runs: int = 3
    cache_above_ms: float = 50.0
    """ONNX: an engine that takes longer to load is kept optimised for the next start; below, that gains nothing."""
    plan: PlanOptions = field(default_factory=PlanOptions)


def engine_kind(path: Path) -> EngineKind:
    """What an engine is, by the file's first bytes; its name does not matter.

    Raises:
        EngineError: neither, with what it seems to be.
        InputError: it cannot be read, or is no regular file.
    """
    head = read_head(path)
    if head.startswith(PLAN_MAGIC):
        return "tensorrt"
    if head.startswith(RTX_PLAN_MAGIC):
        return "tensorrt_rtx"
    if head[:1] == bytes([ONNX_IR_VERSION_TAG]):
        return "onnx"
    what = seems_to_be(head)
    reason = f"it is {what}" if what else f"it begins with {head[:4].hex(' ')}"
    raise EngineError(f"{path} is not an engine: {reason}", "give a model.onnx or a TensorRT model.plan")


def require_kind(path: Path, card: PolicyCard) -> None:
    """Refuse a file of another format than the card's. Raises EngineError; InputError as `engine_kind`."""
    kind = engine_kind(path)
    if kind != card.format:
        raise EngineError(f"{path} is of format {kind}, its card says {card.format}", "export or build it again")


def tensor_specs(card: PolicyCard) -> list[TensorSpec]:
    """Every input, then the one output."""
    return [*card.image_tensors, card.joint_tensor, card.noise_tensor, card.chunk_tensor]


def fill_input(tensor: np.ndarray, value: np.ndarray, name: str) -> None:
    """Copy an input into its place. Raises EngineError for another shape or type than the card names."""
    if value.shape != tensor.shape or value.dtype != tensor.dtype:
        raise EngineError(f"{name}: {value.dtype} {value.shape} given, the engine takes {tensor.dtype} {tensor.shape}")
    tensor[...] = value
