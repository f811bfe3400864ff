"""Checks a TensorRT plan before TensorRT loads it: which version built it, and whether it was built for this device.

A plan runs only with the library version and on the GPU that built it. Its first 28 bytes contain the version (magic
`ftrt`, for TensorRT-RTX `vtrt`, at 0; version bytes at 24: major, minor, patch, build; trtexec reads the same). The
rest is in its card: TensorRT itself only warns when an AGX Orin's plan is loaded on an Orin Nano.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sefa_edge.edge.engines.engine import HEADER_BYTES, PLAN_MAGIC, RTX_PLAN_MAGIC, EngineError
from sefa_edge.profiles.card import PlanSpec
from sefa_edge.profiles.files import read_up_to
from sefa_edge.profiles.gpu import Gpu
from sefa_edge.profiles.jetson import Jetson
from sefa_edge.profiles.plan_libraries import PLAN_LIBRARIES

VERSION_OFFSET = 24
VERSION_BYTES = 4
BUILD_AGAIN = "build it again on this machine: sefa-edge build MODEL.onnx -o model.plan"
AHEAD_OF_TIME = "none"
"""Compute capability of a plan that was built without a GPU, for several of them (TensorRT-RTX)."""


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """The library and version that built a plan."""

    library: Literal["tensorrt", "tensorrt_rtx"]
    version: tuple[int, int, int, int]

    def is_of(self, version: str) -> bool:
        """Whether the versions agree in all given numbers: JetPack's module gives three of four."""
        match = re.match(r"\d+(\.\d+)*", version)
        numbers = tuple(int(part) for part in match[0].split(".")) if match else ()
        return len(numbers) >= 3 and self.version[: len(numbers)] == numbers[: len(self.version)]

    def __str__(self) -> str:
        return f"{PLAN_LIBRARIES[self.library].title} {'.'.join(map(str, self.version))}"


def read_plan_header(path: Path) -> PlanHeader:
    """Raises EngineError when the file is not a plan or ends inside its header, InputError when it cannot be read."""
    head = read_up_to(path, HEADER_BYTES)
    if not head.startswith((PLAN_MAGIC, RTX_PLAN_MAGIC)):
        raise EngineError(f"{path} is not a TensorRT plan", "pass a model.plan")
    version = head[VERSION_OFFSET : VERSION_OFFSET + VERSION_BYTES]
    if len(version) < VERSION_BYTES:
        raise EngineError(f"{path} ends inside its header", "was it copied completely? build it again")
    major, minor, patch, build = version
    return PlanHeader("tensorrt" if head.startswith(PLAN_MAGIC) else "tensorrt_rtx", (major, minor, patch, build))


def check_version(path: Path, header: PlanHeader, plan: PlanSpec, installed: str) -> None:
    """Raises EngineError unless header, card and installed library have the same version."""
    if not header.is_of(plan.library_version):
        raise EngineError(f"{path} was built by {header}, its card says {plan.library_version}", BUILD_AGAIN)
    if not header.is_of(installed):
        product = PLAN_LIBRARIES[header.library].title
        raise EngineError(f"{path} was built by {header}, but {product} {installed} is installed", BUILD_AGAIN)


def check_unit(path: Path, plan: PlanSpec, gpu: Gpu, jetson: Jetson | None) -> list[str]:
    """Check that the plan was built on a machine like this one.

    Returns:
        Notes about differences that can make it slower, but not incorrect.

    Raises:
        EngineError: another GPU, module or board support package.
    """
    _check_module(path, plan, jetson)
    _check_gpu(path, plan, gpu)
    power_mode = jetson.power_mode if jetson else None
    if plan.power_mode == power_mode:
        return []
    return [
        f"the plan was built and timed in power mode {plan.power_mode}, but {power_mode} is set: "
        "other kernels might be faster now"
    ]


def _check_gpu(path: Path, plan: PlanSpec, gpu: Gpu) -> None:
    here = f"{gpu.name} (SM {gpu.compute_capability})"
    if plan.compute_capability == AHEAD_OF_TIME:
        if f"SM{gpu.compute_capability.replace('.', '')}" not in plan.gpu_name.split():
            raise EngineError(f"{path} was built for {plan.gpu_name}, this GPU is {here}", BUILD_AGAIN)
    elif here != (built_on := f"{plan.gpu_name} (SM {plan.compute_capability})"):
        raise EngineError(f"{path} was built on GPU {built_on}, this one is {here}", BUILD_AGAIN)


def _check_module(path: Path, plan: PlanSpec, jetson: Jetson | None) -> None:
    module = jetson.part_number if jetson else None
    if plan.board != module:
        raise EngineError(f"{path} was built on {_module(plan.board)}, this is {_module(module)}", BUILD_AGAIN)
    l4t = jetson.l4t if jetson else None
    if plan.l4t != l4t:
        raise EngineError(f"{path} was built under L4T {plan.l4t}, this unit runs {l4t}", BUILD_AGAIN)


def _module(part_number: str | None) -> str:
    return f"module {part_number}" if part_number else "no Jetson"
