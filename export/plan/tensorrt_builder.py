"""The TensorRT builder for 8.6 to 11.x and for TensorRT-RTX: abilities of a version are tested, not looked up.

Runs in a child process (build_process.py), because the library may crash. Nothing here has run on a GPU yet: the calls
are checked against the genuine bindings of each version, and executed by TensorRT-RTX without a GPU (tests/tensorrt).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from sefa_edge.export.plan.build_messages import Backend, BuildRequest, LibraryEvent
from sefa_edge.export.plan.build_progress import BuildWatcher, one_line
from sefa_edge.export.plan.timing_cache import read_timing_cache, write_timing_cache
from sefa_edge.profiles.errors import InputError, MissingError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.plan_libraries import PLAN_LIBRARIES

LibraryObject: TypeAlias = Any
"""An object of the library, whose classes are only declared there; tests/tensorrt checks every use for each version."""

OPTIONAL = {
    "NetworkDefinitionCreationFlag": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    "BuilderFlag": ("FP16", "INT8"),
    "tensorrt": ("IProgressMonitor", "ComputeCapability"),
    "IBuilderConfig": ("progress_monitor", "num_compute_capabilities", "set_compute_capability"),
}
"""Names that some version lacks, by owner. Used only after a feature test; all others exist in every version."""

NOT_TARGETS = ("NONE", "CURRENT")
WRONG_NUMBERS = ("UINT8 zero_point", "Defaulting to INT8")
"""Warnings of the parser that mean that the plan would not compute what the model does."""


class BuildError(SefaError):
    """TensorRT could not build the plan."""

    exit_code = ExitCode.FAILED


def load_library(backend: Backend) -> ModuleType:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        MissingError: it is not installed, or its libraries do not load.
    """
    library = PLAN_LIBRARIES[backend]
    name = library.installed_module()
    if name is None:
        raise missing_library(backend)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"the Python package '{name}' does not load: {error}", library.install_hint) from None


def missing_library(backend: Backend) -> MissingError:
    library = PLAN_LIBRARIES[backend]
    return MissingError(f"{library.title} is not installed for this Python", library.install_hint)


def describe_library(trt: ModuleType) -> LibraryEvent:
    """What this version can do."""
    has_targets = hasattr(trt, "ComputeCapability")
    targets = [name for name in trt.ComputeCapability.__members__ if name not in NOT_TARGETS] if has_targets else []
    return LibraryEvent(
        version=trt.__version__,
        strongly_typed=hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"),
        weakly_typed=hasattr(trt.BuilderFlag, "INT8"),
        compute_capabilities=sorted(targets, key=capability_number),
    )


def capability_number(name: str) -> int:
    """86 for `SM86`."""
    return int("".join(filter(str.isdigit, name)) or "0")


def build_plan(trt: ModuleType, request: BuildRequest, watcher: BuildWatcher) -> bytes:
    """Build the requested plan.

    Raises:
        InputError: the parser refuses the model, or would compute it wrongly.
        MissingError: TensorRT cannot use this machine's GPU.
        BuildError: the model is accepted, but cannot be built.
    """
    logger = _logger(trt, watcher.log)
    builder = _builder(trt, logger, watcher)
    network = builder.create_network(_network_flags(trt, request))
    parser = trt.OnnxParser(network, logger)
    _parse(parser, request, watcher)
    config = builder.create_builder_config()
    _configure(trt, config, request)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, watcher)
    uses_cache = request.timing_cache is not None and _attach_cache(config, Path(request.timing_cache), watcher)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"{request.onnx} cannot be built: {watcher.reason()}", "the log has the details")
    if uses_cache:
        write_timing_cache(Path(request.timing_cache or ""), bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _builder(trt: ModuleType, logger: LibraryObject, watcher: BuildWatcher) -> LibraryObject:
    try:
        return trt.Builder(logger)
    except TypeError:  # its factory returned a null pointer; the reason is only in the log
        raise MissingError(
            f"TensorRT cannot use the GPU of this machine: {watcher.reason()}",
            "is the NVIDIA driver running, and does this TensorRT support this GPU?",
        ) from None


def _network_flags(trt: ModuleType, request: BuildRequest) -> int:
    kinds, flags = trt.NetworkDefinitionCreationFlag, 0
    if hasattr(kinds, "EXPLICIT_BATCH"):  # 8.6 needs it, 10.x ignores it
        flags |= 1 << int(kinds.EXPLICIT_BATCH)
    if request.strongly_typed and hasattr(kinds, "STRONGLY_TYPED"):
        flags |= 1 << int(kinds.STRONGLY_TYPED)
    return flags


def _parse(parser: LibraryObject, request: BuildRequest, watcher: BuildWatcher) -> None:
    path = Path(request.onnx)
    if sha256_of(path) != request.onnx_sha256:
        raise InputError(f"{path} changed while it was being built", "build again")
    if not parser.parse(path.read_bytes()):
        reason = one_line(str(parser.get_error(0))) if parser.num_errors else watcher.reason()
        raise InputError(f"TensorRT refuses {path}: {reason}", "export again; the log has the details")
    if wrong := watcher.find(WRONG_NUMBERS):
        raise InputError(f"TensorRT would compute {path} wrongly: {wrong}", "quantise to signed INT8 with zero point 0")


def _configure(trt: ModuleType, config: LibraryObject, request: BuildRequest) -> None:
    flags = trt.BuilderFlag
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mib << 20)
    config.builder_optimization_level = request.optimisation_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the runner reads from it which layers use INT8
    if request.precision == "fp32":
        config.clear_flag(flags.TF32)  # TF32 has only 10 bits of mantissa
    if not request.strongly_typed and request.precision != "fp32":
        config.set_flag(flags.FP16)
    if not request.strongly_typed and request.precision == "int8":
        config.set_flag(flags.INT8)  # Q/DQ without it is an error
    if request.compute_capabilities:
        _set_targets(trt, config, request.compute_capabilities)


def _set_targets(trt: ModuleType, config: LibraryObject, names: list[str]) -> None:
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if not config.set_compute_capability(trt.ComputeCapability.__members__[name], index):
            raise InputError(f"TensorRT-RTX does not build for {name}", "see --compute-capability")


def _attach_cache(config: LibraryObject, path: Path, watcher: BuildWatcher) -> bool:
    """Use the cache for the build; one of another machine or version is replaced by an empty one."""
    for content in (read_timing_cache(path), b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return True
    watcher.log("WARNING", "the timing cache is not used")
    return False


def _logger(trt: ModuleType, write: Callable[[str, str], None]) -> LibraryObject:
    class Logger(trt.ILogger):  # TensorRT returns None or False, and reports the reason only here
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: object, message: str) -> None:
            if severity != trt.ILogger.VERBOSE:
                write(str(severity).rpartition(".")[2], message)

    return Logger()


def _monitor(trt: ModuleType, watcher: BuildWatcher) -> LibraryObject:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watcher.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            watcher.step_complete(phase_name, step)
            return True  # continue

        def phase_finish(self, phase_name: str) -> None:
            watcher.phase_finish(phase_name)

    return Monitor()
