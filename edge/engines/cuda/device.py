"""OWNS THE GPU: one device, its context in this thread, buffers and a stream, all released together."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.engines.cuda.driver import DRIVER, CudaDriver
from sefa_edge.edge.engines.cuda.memory import ContextOwner, open_context
from sefa_edge.edge.engines.cuda.stream import Buffer, Stream, Synchronise
from sefa_edge.profiles.errors import MissingError
from sefa_edge.profiles.gpu import Gpu, search_gpu


@dataclass(frozen=True, slots=True)
class CudaOptions:
    """How to access the GPU and wait for it."""

    synchronise: Synchronise = "spin"
    """`spin` returns soonest and keeps a core busy; `block` sleeps while waiting."""
    library: str = DRIVER
    context_owner: ContextOwner = "auto"
    """`auto`: pycuda where it is installed."""


class CudaDevice:
    """The first GPU. Used by the thread that opened it; closing it releases everything obtained from it."""

    def __init__(self, options: CudaOptions) -> None:
        """Raises MissingError without driver or GPU, CudaError when it cannot be used."""
        found = search_gpu(options.library)
        if found.gpu is None:
            raise MissingError(f"no NVIDIA GPU: {found.reason}", "run the model.onnx that the plan was built from")
        self.gpu: Gpu = found.gpu
        driver = CudaDriver(options.library)
        self._release = ExitStack()
        with ExitStack() as undo:
            self._context = open_context(driver, options.context_owner)
            undo.callback(self._context.close)
            self.stream = Stream(driver, options.synchronise)
            undo.callback(self.stream.close)
            self._release = undo.pop_all()

    @property
    def context_owner(self) -> str:
        """`pycuda` or `driver`."""
        return self._context.owner

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """One tensor for host and device; its host array becomes invalid with `close`. Raises CudaError."""
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._context.host_memory(size_bytes)
        host = memory.bytes.view(dtype).reshape(shape)
        host.fill(0)
        shared = self.gpu.is_integrated
        pointer = memory.device_pointer if shared else self._context.device_memory(size_bytes)
        return Buffer(host, host.ctypes.data, pointer, shared)

    def close(self) -> None:
        self._release.close()
