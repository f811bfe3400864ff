"""The machine on which a plan is built, which is also the only one that may run it."""

from __future__ import annotations

from dataclasses import dataclass

from sefa_edge.export.plan.build_messages import Backend, BuildRequest, LibraryEvent
from sefa_edge.export.plan.tensorrt_builder import capability_number
from sefa_edge.profiles.card import PlanSpec
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.gpu import Gpu, search_gpu
from sefa_edge.profiles.jetson import Jetson, find_jetson

OLDEST_WITH_FP32 = 80
"""TensorRT-RTX has no FP32 matrix product for Turing, so an ahead-of-time build excludes it by default."""


@dataclass(frozen=True, slots=True)
class Place:
    """The properties of this machine on which a plan depends."""

    gpu: Gpu | None
    jetson: Jetson | None
    targets: tuple[str, ...]
    """Compute capabilities of an ahead-of-time build; empty: the plan is built for `gpu`."""

    @property
    def power_mode(self) -> str | None:
        return self.jetson.power_mode if self.jetson else None


def find_place(backend: Backend, library: LibraryEvent, asked: list[str]) -> Place:
    """This machine and the targets of the build.

    Raises:
        InputError: a compute capability that the library does not support, or any with TensorRT.
        MissingError: TensorRT without a GPU.
    """
    search = search_gpu()
    if backend == "tensorrt":
        if asked:
            raise InputError("TensorRT only builds for the GPU of this machine", "leave out --compute-capability")
        if search.gpu is None:
            raise MissingError(f"TensorRT needs a GPU to build on: {search.reason}", "build on the device that runs it")
        return Place(search.gpu, find_jetson(), ())
    if unknown := sorted(set(asked) - set(library.compute_capabilities)):
        raise InputError(
            f"TensorRT-RTX {library.version} does not build for {', '.join(unknown)}",
            f"it supports {' '.join(library.compute_capabilities)}",
        )
    if asked or search.gpu is None:
        modern = (name for name in library.compute_capabilities if capability_number(name) >= OLDEST_WITH_FP32)
        return Place(search.gpu, find_jetson(), tuple(asked or modern))
    return Place(search.gpu, find_jetson(), ())


def plan_spec(place: Place, request: BuildRequest, version: str, build_seconds: float) -> PlanSpec:
    """The part of the plan's card that says where it may run."""
    gpu = None if place.targets else place.gpu
    return PlanSpec(
        onnx_sha256=request.onnx_sha256,
        library_version=version,
        cuda_version=place.gpu.cuda_version if place.gpu else "none",
        compute_capability=gpu.compute_capability if gpu else "none",
        gpu_name=gpu.name if gpu else " ".join(place.targets),
        board=place.jetson.part_number if place.jetson else None,
        l4t=place.jetson.l4t if place.jetson else None,
        power_mode=place.power_mode,
        workspace_mib=request.workspace_mib,
        optimisation_level=request.optimisation_level,
        build_seconds=build_seconds,
    )
