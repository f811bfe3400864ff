"""One stream: copies, waiting, timing, and capturing its work as a graph. Independent of the context's owner."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack, suppress
from ctypes import c_float, c_int, c_void_p
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sefa_edge.edge.engines.cuda.driver import CudaDriver, CudaError

Synchronise = Literal["spin", "block"]
NON_BLOCKING_STREAM = 1
BLOCKING_SYNC, DISABLE_TIMING = 1, 2
CAPTURE_THREAD_LOCAL = 1
"""CU_STREAM_NON_BLOCKING, CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL."""


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """One tensor on host and device: `host` is page-locked, `device_pointer` is passed to the engine.

    Where the GPU shares the host's memory, both are the same bytes and nothing is copied.
    """

    host: np.ndarray
    host_address: int
    device_pointer: int
    is_shared: bool


class Stream:
    """A separate stream of the highest priority that never waits for the default stream."""

    def __init__(self, driver: CudaDriver, synchronise: Synchronise) -> None:
        """Raises CudaError."""
        self._driver = driver
        self._release = ExitStack()
        with ExitStack() as undo:
            least, greatest = c_int(), c_int()
            driver.call("cuCtxGetStreamPriorityRange", ctypes.byref(least), ctypes.byref(greatest))
            stream = driver.make(c_void_p, "cuStreamCreateWithPriority", NON_BLOCKING_STREAM, greatest)
            undo.callback(driver.call, "cuStreamDestroy_v2", stream)
            waits = BLOCKING_SYNC if synchronise == "block" else 0
            self._finished = self._event(undo, DISABLE_TIMING | waits)
            self._began, self._ended = self._event(undo, waits), self._event(undo, waits)
            self._release = undo.pop_all()
        self._stream = stream

    @property
    def handle(self) -> int:
        """The CUstream for other libraries."""
        return self._stream.value or 0

    def upload(self, buffer: Buffer) -> None:
        """Enqueue host -> device. Raises CudaError."""
        if not buffer.is_shared:
            address, size_bytes = buffer.host_address, buffer.host.nbytes
            self._driver.call("cuMemcpyHtoDAsync_v2", buffer.device_pointer, address, size_bytes, self._stream)

    def download(self, buffer: Buffer) -> None:
        """Enqueue device -> host. Raises CudaError."""
        if not buffer.is_shared:
            address, size_bytes = buffer.host_address, buffer.host.nbytes
            self._driver.call("cuMemcpyDtoHAsync_v2", address, buffer.device_pointer, size_bytes, self._stream)

    def finish(self) -> None:
        """Wait until everything enqueued is done, spinning or blocking as configured. Raises CudaError.

        Waits for an event, not for the stream: how a stream waits is a property of the whole context.
        """
        self._driver.call("cuEventRecord", self._finished, self._stream)
        self._driver.call("cuEventSynchronize", self._finished)

    def device_ms(self, work: Callable[[], None]) -> float:
        """Milliseconds that the work enqueued by `work` takes, on the device's clock."""
        self._driver.call("cuEventRecord", self._began, self._stream)
        work()
        self._driver.call("cuEventRecord", self._ended, self._stream)
        self._driver.call("cuEventSynchronize", self._ended)
        return self._driver.make(c_float, "cuEventElapsedTime", self._began, self._ended).value

    def capture(self, work: Callable[[], None]) -> Graph:
        """Capture what `work` enqueues as one graph, without running it.

        Raises:
            CudaError: it cannot be captured. The stream remains usable.
        """
        self._driver.call("cuStreamBeginCapture_v2", self._stream, CAPTURE_THREAD_LOCAL)
        graph = c_void_p()
        with ExitStack() as undo:
            undo.callback(self._destroy, graph)
            try:
                work()
            except BaseException:
                with suppress(CudaError):  # a stream that is still capturing accepts no other work
                    self._driver.call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
                raise
            self._driver.call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
            launchable = self._driver.make(c_void_p, "cuGraphInstantiateWithFlags", graph, 0)
        return Graph(self._driver, self._stream, launchable)

    def close(self) -> None:
        """Wait for enqueued work, then release. Graphs must be closed before."""
        self._release.callback(self._driver.call, "cuStreamSynchronize", self._stream)
        self._release.close()

    def _event(self, undo: ExitStack, flags: int) -> c_void_p:
        event = self._driver.make(c_void_p, "cuEventCreate", flags)
        undo.callback(self._driver.call, "cuEventDestroy_v2", event)
        return event

    def _destroy(self, graph: c_void_p) -> None:
        if graph.value:
            self._driver.call("cuGraphDestroy", graph)


class Graph:
    """Captured work, launched as a whole."""

    def __init__(self, driver: CudaDriver, stream: c_void_p, launchable: c_void_p) -> None:
        self._driver = driver
        self._stream = stream
        self._launchable = launchable

    def launch(self) -> None:
        """Enqueue it. Raises CudaError."""
        self._driver.call("cuGraphLaunch", self._launchable, self._stream)

    def close(self) -> None:
        self._driver.call("cuGraphExecDestroy", self._launchable)
