"""OWNS THE ENGINE: its interface and options, and how its kind is recognised from the file's first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

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
Tensors: TypeAlias = Mapping[str, tuple[str | None, object]]
"""By name: the type, such as float32, and the shape as a list; None or other values where a file leaves them open."""


class EngineError(InputError):
    """An engine that cannot be used; says why."""


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
    """As one CUDA graph, or kernel by kernel, which is also the fallback when capture fails."""
    warm_up_runs: int = 20
    warm_up_s: float = 0.5
    """Warm-up lasts until both limits are met: kernels are loaded at first use, and clocks take time to rise."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Threads, warm-up and caching of an engine."""

    threads: int = 1
    warm_up_runs: int = 3
    cache_above_ms: float = 50.0
    """ONNX: an engine that takes longer to load is cached in optimised form; below this, caching saves nothing."""
    plan: PlanOptions = field(default_factory=PlanOptions)


def engine_kind(path: Path) -> EngineKind:
    """The kind of an engine by the file's first bytes; its name does not matter.

    Raises:
        EngineError: it is not an engine; says what it seems to be.
        InputError: it cannot be read, or is not a regular file.
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
    raise EngineError(f"{path} is not an engine: {reason}", "pass a model.onnx or a TensorRT model.plan")


def require_kind(path: Path, card: PolicyCard) -> None:
    """Raises EngineError when the file's format differs from the card's; InputError as `engine_kind`."""
    kind = engine_kind(path)
    if kind != card.format:
        raise EngineError(f"{path} is of format {kind}, its card says {card.format}", "export or build it again")


def tensor_specs(card: PolicyCard) -> list[TensorSpec]:
    """Every input, then the one output."""
    return [*card.image_tensors, card.joint_tensor, card.noise_tensor, card.chunk_tensor]


def require_tensors(path: Path, inputs: Tensors, outputs: Tensors, card: PolicyCard) -> None:
    """Check an ONNX engine's inputs and outputs against its card. Raises EngineError, which states both."""
    hint = "engine and card do not belong together; export again"
    expected = {spec.name: spec for spec in tensor_specs(card)}
    wanted_inputs = sorted(set(expected) - {card.chunk_tensor.name})
    if sorted(inputs) != wanted_inputs or [*outputs] != [card.chunk_tensor.name]:
        raise EngineError(
            f"{path} has inputs {sorted(inputs)} and outputs {[*outputs]}; its card names inputs {wanted_inputs} and "
            f"output ['{card.chunk_tensor.name}']",
            hint,
        )
    for name, (dtype, shape) in {**inputs, **outputs}.items():
        spec = expected[name]
        if (dtype, shape) != (spec.dtype, spec.shape):
            raise EngineError(f"{path}: '{name}' is {dtype} {shape}, its card says {spec.dtype} {spec.shape}", hint)


def fill_input(tensor: np.ndarray, value: np.ndarray, name: str) -> None:
    """Copy an input into its tensor. Raises EngineError when its shape or type differs from the card's."""
    if value.shape != tensor.shape or value.dtype != tensor.dtype:
        raise EngineError(f"{name}: got {value.dtype} {value.shape}, the engine expects {tensor.dtype} {tensor.shape}")
    tensor[...] = value
