"""TensorRT and TensorRT-RTX plans on an NVIDIA GPU. The only module that imports tensorrt, when a plan is opened.

Uses the tensor-name API and `execute_async_v3`, which TensorRT 8.6 to 11 share, on buffers allocated once. Tested
without a GPU: every attribute used here against the real bindings, and the CUDA side against a stand-in driver.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import numpy as np

from sefa_edge.edge.engines.cuda.device import CudaDevice
from sefa_edge.edge.engines.cuda.stream import Graph
from sefa_edge.edge.engines.engine import EngineError, PlanOptions, fill_input, tensor_specs
from sefa_edge.edge.engines.plan_file import BUILD_AGAIN, PlanHeader, check_unit, check_version, read_plan_header
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.errors import FaultError, MissingError
from sefa_edge.profiles.jetson import find_jetson
from sefa_edge.profiles.plan_libraries import PLAN_LIBRARIES

LOG_LINES_KEPT = 20
MAX_LOG_CHARACTERS = 600
GRAPH_WARM_UP_RUNS = 3


LibraryObject: TypeAlias = Any
"""An instance of a class that only the library declares."""
Tensor: TypeAlias = tuple[str, str, list[int]]
"""Input or output, type, shape."""


class Log(Protocol):
    """TensorRT's messages, newest last. Its functions return None or False; the reason is only in the log."""

    errors: deque[str]
    warnings: deque[str]


def open_plan(path: Path, card: PolicyCard, options: PlanOptions) -> PlanEngine:
    """Check a plan against its card and this machine, load it and warm it up.

    Notes that are not errors (another power mode, no CUDA graph) are printed to standard error once.

    Raises:
        EngineError: it was built by another version or on another GPU, or its tensors differ from the card.
        MissingError: no TensorRT, no driver, no GPU.
        FaultError: CUDA or TensorRT fails.
    """
    header = read_plan_header(path)
    if card.plan is None or card.format != header.library:
        raise EngineError(f"{path} is a {header} plan, its card says {card.format}", BUILD_AGAIN)
    tensorrt = _import_library(path, header)
    check_version(path, header, card.plan, tensorrt.__version__)
    with ExitStack() as undo:
        # Before any call of TensorRT: without a driver, deserialising a plan crashes the process.
        device = CudaDevice(options.device)
        undo.callback(device.close)
        for note in check_unit(path, card.plan, device.gpu, find_jetson()):
            _print_note(note)
        engine = PlanEngine(path, card, tensorrt, device)
        undo.callback(engine.release)
        engine.warm_up(options)
        undo.pop_all()
    return engine


class PlanEngine:
    """One execution context with its tensors bound once, so that an inference allocates nothing."""

    def __init__(self, path: Path, card: PolicyCard, tensorrt: ModuleType, device: CudaDevice) -> None:
        """Raises EngineError when TensorRT rejects the plan or it differs from its card, FaultError when CUDA fails."""
        self._card = card
        self._device = device
        self._stream = device.stream
        self._graph: Graph | None = None
        self._log = _make_log(tensorrt)
        self._runtime = self._engine = self._execution = None
        with ExitStack() as undo:
            undo.callback(self.release)
            self._load(path, tensorrt)
            self._buffers = {spec.name: device.buffer(tuple(spec.shape), spec.dtype) for spec in tensor_specs(card)}
            self._bind()
            undo.pop_all()
        self._output = self._buffers[card.chunk_tensor.name]
        self._inputs = [buffer for buffer in self._buffers.values() if buffer is not self._output]
        self._image_tensors = {camera.name: self._buffers[camera.tensor].host for camera in card.cameras}
        self._chunk = np.zeros(card.chunk_tensor.shape, np.float32)
        self._start: Callable[[], None] = self._enqueue

    @property
    def card(self) -> PolicyCard:
        return self._card

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """See `Engine.infer`. Raises EngineError for an input that differs from the card, FaultError from CUDA."""
        for camera, tensor in self._image_tensors.items():
            fill_input(tensor, images[camera], camera)
        fill_input(self._buffers[self._card.joint_tensor.name].host, joint_deg, "joints")
        fill_input(self._buffers[self._card.noise_tensor.name].host, noise, "noise")
        self._start()
        self._stream.finish()
        # A copy: a caller that kept the pinned array beyond `close` would read freed memory.
        np.copyto(self._chunk, self._output.host)
        return self._chunk

    def device_ms(self) -> float:
        """Run once more on the previous inputs; returns milliseconds on the device's clock. Raises FaultError."""
        return self._stream.device_ms(self._start)

    def warm_up(self, options: PlanOptions) -> None:
        """Run until kernels are loaded and clocks have risen, then capture the graph. Raises FaultError."""
        runs, until_s = 0, time.monotonic() + options.warm_up_s
        while runs < options.warm_up_runs or time.monotonic() < until_s:
            self._enqueue()
            self._stream.finish()
            runs += 1
        if options.launch == "graph":
            self._capture()

    def close(self) -> None:
        self.release()
        self._device.close()

    def release(self) -> None:
        """Release TensorRT's objects in the required order. The device stays open."""
        self._drop_graph()
        self._execution = None
        self._engine = None
        self._runtime = None

    def _load(self, path: Path, tensorrt: ModuleType) -> None:
        try:
            self._runtime = tensorrt.Runtime(self._log)
        except TypeError:  # pybind11's error when the library's factory returns nothing
            raise FaultError(f"TensorRT does not start: {_reason(self._log)}") from None
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(f"TensorRT rejects {path}: {_reason(self._log)}", BUILD_AGAIN)
        _check_tensors(path, _tensors_of(tensorrt, self._engine), self._card)
        self._execution = self._engine.create_execution_context()
        if self._execution is None:
            raise FaultError(f"TensorRT cannot prepare {path}: {_reason(self._log)}", "is the GPU's memory full?")

    def _bind(self) -> None:
        assert self._execution is not None
        for name, buffer in self._buffers.items():
            if not self._execution.set_tensor_address(name, buffer.device_pointer):
                raise FaultError(f"TensorRT rejects the address of '{name}': {_reason(self._log)}")

    def _enqueue(self) -> None:
        assert self._execution is not None
        for buffer in self._inputs:
            self._stream.upload(buffer)
        if not self._execution.execute_async_v3(self._stream.handle):
            raise FaultError(f"TensorRT does not run the plan: {_reason(self._log)}", "see `dmesg`")
        self._stream.download(self._output)

    def _capture(self) -> None:
        """Capture copies and kernels as one graph; when that fails, print a note and enqueue them one by one."""
        try:
            self._graph = self._stream.capture(self._enqueue)
            for _ in range(GRAPH_WARM_UP_RUNS):
                self._graph.launch()
            self._stream.finish()
            self._start = self._graph.launch
        except FaultError as error:
            _print_note(f"no CUDA graph, every inference is enqueued kernel by kernel: {error}")
            self._drop_graph()
            self._enqueue()
            self._stream.finish()

    def _drop_graph(self) -> None:
        graph, self._graph, self._start = self._graph, None, self._enqueue
        if graph is not None:
            graph.close()


def _import_library(path: Path, header: PlanHeader) -> ModuleType:
    """The Python module of the library that built the plan. Raises MissingError."""
    library = PLAN_LIBRARIES[header.library]
    name = library.installed_module()
    if name is None:
        raise MissingError(
            f"{path} is a {header} plan, but {library.title} is not installed for this Python",
            f"{library.install_hint}; or run the model.onnx that the plan was built from",
        )
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"{library.title} cannot be loaded: {error}", library.install_hint) from None


def _make_log(tensorrt: ModuleType) -> Log:
    class KeepingLog(tensorrt.ILogger):
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=LOG_LINES_KEPT)
            self.warnings: deque[str] = deque(maxlen=LOG_LINES_KEPT)

        def log(self, severity: object, message: str) -> None:
            if severity in (tensorrt.ILogger.Severity.INTERNAL_ERROR, tensorrt.ILogger.Severity.ERROR):
                self.errors.append(message)
            elif severity == tensorrt.ILogger.Severity.WARNING:
                self.warnings.append(message)

    return KeepingLog()


def _reason(log: Log) -> str:
    lines = log.errors or log.warnings or ["it gives no reason"]
    return " | ".join(" ".join(line.split()) for line in lines)[:MAX_LOG_CHARACTERS]


def _check_tensors(path: Path, present: Mapping[str, Tensor], card: PolicyCard) -> None:
    expected = {spec.name: ("input", spec.dtype, spec.shape) for spec in tensor_specs(card)}
    expected[card.chunk_tensor.name] = ("output", card.chunk_tensor.dtype, card.chunk_tensor.shape)
    if set(present) != set(expected):
        raise EngineError(
            f"{path} has tensors {sorted(present)}; its card names {sorted(expected)}",
            f"plan and card do not belong together; {BUILD_AGAIN}",
        )
    for name, tensor in expected.items():
        if present[name] != tensor:
            here, card_says = (f"{mode} {dtype} {shape}" for mode, dtype, shape in (present[name], tensor))
            raise EngineError(
                f"{path}: '{name}' is {here}, its card says {card_says}",
                f"plan and card do not belong together; {BUILD_AGAIN}",
            )


def _tensors_of(tensorrt: ModuleType, engine: LibraryObject) -> dict[str, Tensor]:
    """The tensors by name. `tensorrt.nptype` is not used: in 8.6 it fails with numpy 1.24."""
    modes = {tensorrt.TensorIOMode.INPUT: "input", tensorrt.TensorIOMode.OUTPUT: "output"}
    dtypes = {tensorrt.DataType.FLOAT: "float32", tensorrt.DataType.UINT8: "uint8"}
    tensors = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name)
        mode = engine.get_tensor_mode(name)
        shape = list(engine.get_tensor_shape(name))
        tensors[name] = (modes[mode], dtypes.get(dtype, str(dtype)), shape)
    return tensors


def _print_note(note: str) -> None:
    print(f"note: {note}", file=sys.stderr)
