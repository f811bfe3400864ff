"""Context and memory: from pycuda where it is installed, else from the driver.

pycuda tracks contexts per thread. Where it is installed, the context is created through it, so that other pycuda code
in the process continues to work. It offers neither graphs nor stream priorities, so streams come from the driver in
both cases (stream.py).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from contextlib import ExitStack, suppress
from ctypes import c_int, c_uint64, c_void_p
from dataclasses import dataclass
from types import ModuleType
from typing import Literal, Protocol, TypeVar

import numpy as np

from sefa_edge.edge.engines.cuda.driver import CudaDriver, CudaError

ResultT = TypeVar("ResultT")
ContextOwner = Literal["auto", "pycuda", "driver"]
MAPPED = 0x02
"""CU_MEMHOSTALLOC_DEVICEMAP: page-locked and mapped into the device's address space."""


@dataclass(frozen=True, slots=True, eq=False)
class HostMemory:
    """Page-locked host memory: bytes uint8 [N], and their address on the device."""

    bytes: np.ndarray
    device_pointer: int


class CudaContext(Protocol):
    """The primary context of device 0, current in the thread that created it. Its memory is freed with it."""

    owner: str

    def host_memory(self, size_bytes: int) -> HostMemory:
        """Page-locked and mapped. Raises CudaError."""
        ...

    def device_memory(self, size_bytes: int) -> int:
        """Pointer to memory that only the device can access. Raises CudaError."""
        ...

    def close(self) -> None: ...


def open_context(driver: CudaDriver, owner: ContextOwner) -> CudaContext:
    """Retain the primary context and make it current in this thread. Raises CudaError."""
    pycuda = _pycuda_driver() if owner != "driver" else None
    if pycuda is not None:
        return PycudaContext(driver, pycuda)
    if owner == "pycuda":
        raise CudaError("pycuda is not installed or cannot be loaded", "pip install pycuda")
    return DriverContext(driver)


class DriverContext:
    """Context and memory from the driver."""

    owner = "driver"

    def __init__(self, driver: CudaDriver) -> None:
        self._driver = driver
        self._release = ExitStack()
        with ExitStack() as undo:
            device = driver.make(c_int, "cuDeviceGet", 0).value
            context = driver.make(c_void_p, "cuDevicePrimaryCtxRetain", device)
            undo.callback(driver.call, "cuDevicePrimaryCtxRelease_v2", device)
            driver.call("cuCtxPushCurrent_v2", context)
            undo.callback(driver.make, c_void_p, "cuCtxPopCurrent_v2")
            self._release = undo.pop_all()

    def host_memory(self, size_bytes: int) -> HostMemory:
        address = self._driver.make(c_void_p, "cuMemHostAlloc", size_bytes, MAPPED)
        self._release.callback(self._driver.call, "cuMemFreeHost", address)
        pointer = self._driver.make(c_uint64, "cuMemHostGetDevicePointer_v2", address, 0).value
        assert address.value is not None  # set when the call succeeds
        raw = (ctypes.c_uint8 * size_bytes).from_address(address.value)
        return HostMemory(np.ctypeslib.as_array(raw), pointer)

    def device_memory(self, size_bytes: int) -> int:
        pointer = self._driver.make(c_uint64, "cuMemAlloc_v2", size_bytes).value
        self._release.callback(self._driver.call, "cuMemFree_v2", pointer)
        return pointer

    def close(self) -> None:
        self._release.close()


class PycudaContext:
    """Context and memory from pycuda. Names as in pycuda 2022.1 to 2026.1."""

    owner = "pycuda"

    def __init__(self, driver: CudaDriver, pycuda: ModuleType) -> None:
        self._driver = driver
        self._pycuda = pycuda
        self._release = ExitStack()
        self._checked(pycuda.init)
        self._context = self._checked(pycuda.Device(0).retain_primary_context)
        self._checked(self._context.push)
        self._release.callback(self._leave)

    def host_memory(self, size_bytes: int) -> HostMemory:
        flags = self._pycuda.host_alloc_flags.DEVICEMAP
        array = self._checked(lambda: self._pycuda.pagelocked_empty((size_bytes,), np.uint8, mem_flags=flags))
        self._release.callback(array.base.free)
        return HostMemory(array, int(self._checked(array.base.get_device_pointer)))

    def device_memory(self, size_bytes: int) -> int:
        allocation = self._checked(lambda: self._pycuda.mem_alloc(size_bytes))
        self._release.callback(allocation.free)
        return int(allocation)

    def close(self) -> None:
        self._release.close()

    def _leave(self) -> None:
        self._pycuda.Context.pop()
        self._context.detach()
        # To release a primary context, pycuda pushes it on the thread's stack and leaves it there.
        with suppress(CudaError):
            self._driver.make(c_void_p, "cuCtxPopCurrent_v2")

    def _checked(self, work: Callable[[], ResultT]) -> ResultT:
        try:
            return work()
        except self._pycuda.Error as error:
            raise CudaError(f"CUDA error: {error}", "`dmesg` may show the driver's reason") from None


def _pycuda_driver() -> ModuleType | None:
    """pycuda.driver; None where it is not installed or cannot be loaded."""
    if importlib.util.find_spec("pycuda") is None:
        return None
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError:
        return None
