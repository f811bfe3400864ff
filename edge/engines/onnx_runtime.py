"""Engines in ONNX format, run by ONNX Runtime on the CPU. The only module that imports onnxruntime."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnxruntime
from onnxruntime.capi import (
    onnxruntime_pybind11_state as onnxruntime_errors,  # pyright: ignore[reportAttributeAccessIssue]  (compiled)
)

from sefa_edge.edge.engines import cache as engine_cache
from sefa_edge.edge.engines.engine import EngineError, EngineOptions, Tensors, fill_input, require_tensors, tensor_specs
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.units import NS_PER_MS

if TYPE_CHECKING:
    from sefa_edge.profiles.onnxfile.graph import OnnxGraph

Kernels = Literal["float", "integer"]
"""How a graph with Q/DQ nodes is computed."""
DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
LOG_FATAL_ONLY = 4  # errors arrive as exceptions; no need to log them too
SAME_AS_REQUESTED = 1
MESSAGE_LETTERS = 300
U8_TIMES_S8 = (
    b'\x08\x08\x12\x00:>\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\t\n\x01a\x12\x04\n\x02\x08\x02'
    b"Z\t\n\x01b\x12\x04\n\x02\x08\x03b\t\n\x01y\x12\x04\n\x02\x08\x06B\x04\n\x00\x10\r"
)
"""An ONNX file of one node, `y = MatMulInteger(a, b)`: a uint8, b int8, y int32, opset 13."""
PROVIDERS = ["CPUExecutionProvider"]
MEMORY_LIMIT_BYTES = 2 << 30
"""Limit for the memory of a network; a small file could request any amount."""
LIBRARY_ERRORS = (
    onnxruntime_errors.EPFail,
    onnxruntime_errors.Fail,
    onnxruntime_errors.InvalidArgument,
    onnxruntime_errors.InvalidGraph,
    onnxruntime_errors.InvalidProtobuf,
    onnxruntime_errors.NoSuchFile,
    onnxruntime_errors.NotImplemented,
    onnxruntime_errors.RuntimeException,
    MemoryError,
    RuntimeError,
    UnicodeDecodeError,  # from a non-UTF-8 name in the library's message
)


class OnnxEngine:
    """One session with its inputs and output bound once, so that an inference allocates and copies nothing."""

    def __init__(self, path: Path, card: PolicyCard, options: EngineOptions) -> None:
        """Raises EngineError: the file is damaged, keeps data elsewhere, differs from its card or does not run."""
        self._card = card
        self._session = _load(path, card, options, _kernels_for(path, card))
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        require_tensors(path, _tensors(inputs), _tensors(outputs), card)
        self._arrays = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in tensor_specs(card)}
        self._binding = self._bind()
        self._image_tensors = {camera.name: self._arrays[camera.tensor] for camera in card.cameras}
        self._warm_up(path, options.warm_up_runs)

    @property
    def card(self) -> PolicyCard:
        return self._card

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """See `Engine.infer`. Raises EngineError for an input whose shape or type differs from the card."""
        for camera, tensor in self._image_tensors.items():
            fill_input(tensor, images[camera], camera)
        fill_input(self._arrays[self._card.joint_tensor.name], joint_deg, "joints")
        fill_input(self._arrays[self._card.noise_tensor.name], noise, "noise")
        self._session.run_with_iobinding(self._binding)
        return self._arrays[self._card.chunk_tensor.name]

    def close(self) -> None:
        del self._binding, self._session

    def _warm_up(self, path: Path, runs: int) -> None:
        """Run on zeros, to allocate memory, fill caches, and find errors that only show when running."""
        try:
            for _ in range(runs):
                self._session.run_with_iobinding(self._binding)
        except LIBRARY_ERRORS as error:
            raise EngineError(f"{path} does not run: {_line(error)}", "export again") from None
        if not np.isfinite(self._arrays[self._card.chunk_tensor.name]).all():
            raise EngineError(
                f"{path} returns NaN or infinity for zeros as input", "train again; the network is broken"
            )

    def _bind(self) -> onnxruntime.IOBinding:
        binding = self._session.io_binding()
        for name, array in self._arrays.items():
            # An OrtValue made from an array on the CPU shares its memory and keeps it alive.
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            bind = binding.bind_ortvalue_output if name == self._card.chunk_tensor.name else binding.bind_ortvalue_input
            bind(name, value)
        return binding


def _load(path: Path, card: PolicyCard, options: EngineOptions, kernels: Kernels) -> onnxruntime.InferenceSession:
    """The engine's session, from the cached graph if there is an intact one."""
    _bound_memory()
    library = f"onnxruntime {onnxruntime.__version__}"
    key = engine_cache.cache_key(card.engine_sha256, library, f"CPU, optimised fully, {kernels} kernels")
    if (graph := engine_cache.load(key)) is not None:
        with contextlib.suppress(*LIBRARY_ERRORS), _as_file(graph) as mapped:
            settings = _settings(options.threads, kernels, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
            return onnxruntime.InferenceSession(mapped, settings, providers=PROVIDERS)
    began_ns = time.monotonic_ns()
    try:
        # By its path: ONNX Runtime maps the file, which loads 300 MB in 170 ms; as bytes they take 470 ms.
        session = onnxruntime.InferenceSession(str(path), _settings(options.threads, kernels), providers=PROVIDERS)
    except LIBRARY_ERRORS as error:
        raise EngineError(f"ONNX Runtime refuses {path}: {_line(error)}", "export again") from None
    slow = time.monotonic_ns() - began_ns > options.cache_above_ms * NS_PER_MS
    if slow and path.stat().st_size <= engine_cache.MAX_BYTES:
        engine_cache.store(key, functools.partial(_write_optimised, path, kernels))
    return session


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to these bytes: if they were passed as bytes, the session would keep them in memory."""
    fd = os.memfd_create("sefa-engine", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _write_optimised(path: Path, kernels: Kernels, target: Path) -> None:
    """Load once more, only to write the optimised graph. Raises OSError when it cannot be written."""
    settings = _settings(1, kernels)
    settings.optimized_model_filepath = str(target)
    settings.add_session_config_entry("session.disable_prepacking", "1")
    try:
        onnxruntime.InferenceSession(str(path), settings, providers=PROVIDERS)
    except LIBRARY_ERRORS as error:
        raise OSError(_line(error)) from None


def _settings(
    threads: int,
    kernels: Kernels,
    level: onnxruntime.GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
) -> onnxruntime.SessionOptions:
    """Session options. Arena, memory pattern, denormals and parallel execution had no measurable effect."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = level  # the last level, blocked channels, turns 1.7 ms into 1.2 ms
    settings.log_severity_level = LOG_FATAL_ONLY
    settings.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the file's extension
    settings.add_session_config_entry("session.use_env_allocators", "1")  # the bounded one
    if kernels == "float":
        # Without this, INT8 weights would be converted to float in every call, 2.1 ms instead of 1.5, and biases
        # rounded to int32, which for tiny channel scales changed the output by 2.8 degrees.
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    # With spinning, two threads are 19 % faster on idle cores and 10 to 16 % slower on busy ones.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return settings


@functools.cache
def _bound_memory() -> None:
    """Once per process: make ONNX Runtime allocate from one arena, limited to MEMORY_LIMIT_BYTES."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    arena = onnxruntime.OrtArenaCfg({"max_mem": MEMORY_LIMIT_BYTES, "arena_extend_strategy": SAME_AS_REQUESTED})
    onnxruntime.create_and_register_allocator(memory, arena)


def _line(error: Exception) -> str:
    """The library's message as one line of printable characters, since it may quote the file."""
    text = " ".join(str(error).split())
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:MESSAGE_LETTERS]


def _kernels_for(path: Path, card: PolicyCard) -> Kernels:
    """The kernels with which to compute the file.

    The card's hash covers the file, and the rules of ONNX Runtime were applied at export. Two things remain: values in
    other files, which no hash covers and ONNX Runtime would load, and integer arithmetic, which depends on the
    processor. Only files to which one of them may apply are parsed.

    Raises:
        EngineError: values in another file, or 8-bit weights that this processor computes incorrectly.
    """
    if card.precision != "int8" and not _mentions_other_files(path):
        return "float"
    from sefa_edge.edge.engines.onnx_file import read_verified
    from sefa_edge.profiles.onnxfile.integer_arithmetic import computes_in_integers

    graph = read_verified(path)
    require_exact_here(path, graph)
    return "integer" if computes_in_integers(graph) else "float"


def _mentions_other_files(path: Path) -> bool:
    """Whether it may keep values in other files: such a tensor has an entry "location" (onnx.proto3, external_data)."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"location") >= 0


def require_exact_here(path: Path, graph: OnnxGraph) -> None:
    """Check that this processor computes the graph's 8-bit layers without saturation, which would falsify the actions.

    Raises:
        EngineError: it saturates; names the first such layer.
    """
    from sefa_edge.profiles.onnxfile.integer_arithmetic import saturating_layers

    layers = saturating_layers(graph)
    if layers and multiplies_with_saturation():
        raise EngineError(
            f"{path}: 8-bit weights in {len(layers)} layer(s), '{layers[0].node}' first, need a processor with VNNI; "
            "this one adds their products in 16 bits and saturates, so the actions would be wrong",
            "export again (model.cpu.onnx is then correct on every processor), or run model.fp32.onnx",
        )


@functools.cache
def multiplies_with_saturation() -> bool:
    """Whether ONNX Runtime saturates when it multiplies unsigned by signed 8-bit integers on this processor.

    Tested by a multiplication with a known result: in an emulator /proc/cpuinfo may describe another processor, and the
    library chooses its instructions itself. True on x86 without VNNI.
    """
    _bound_memory()
    session = onnxruntime.InferenceSession(U8_TIMES_S8, _settings(1, "integer"), providers=PROVIDERS)
    rows, columns, depth = 4, 16, 64
    left, right = np.full((rows, depth), 255, np.uint8), np.full((depth, columns), 127, np.int8)
    (product,) = session.run(None, {"a": left, "b": right})
    return bool((np.asarray(product) != 255 * 127 * depth).any())


def _tensors(nodes: Iterable[onnxruntime.NodeArg]) -> Tensors:
    return {node.name: (DTYPES.get(node.type, node.type), list(node.shape)) for node in nodes}
