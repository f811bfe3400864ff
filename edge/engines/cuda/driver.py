"""The CUDA driver, libcuda.so.1, through ctypes: function signatures and the check of every status.

Names and types are those of the CUDA driver API (cuda.h) that every driver since CUDA 11.4 exports.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import TypeVar

from sefa_edge.profiles.errors import FaultError, MissingError

DRIVER = "libcuda.so.1"
ValueT = TypeVar("ValueT", c_int, c_float, c_uint64, c_void_p)
_FUNCTIONS: dict[str, tuple[type, ...]] = {
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (POINTER(c_void_p),),
    "cuCtxGetStreamPriorityRange": (POINTER(c_int), POINTER(c_int)),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemHostGetDevicePointer_v2": (POINTER(c_uint64), c_void_p, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreateWithPriority": (POINTER(c_void_p), c_uint, c_int),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuEventDestroy_v2": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_uint64),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphDestroy": (c_void_p,),
}


class CudaError(FaultError):
    """A failed CUDA call; the message contains CUDA's name of the error."""


class CudaDriver:
    """The functions of the driver library. Needs no context."""

    def __init__(self, library: str = DRIVER) -> None:
        """Raises MissingError when the library cannot be loaded or lacks a function."""
        try:
            loaded = ctypes.CDLL(library)
            self._functions = {name: getattr(loaded, name) for name in _FUNCTIONS}
        except OSError as error:
            raise MissingError(f"the NVIDIA driver is not installed: {error}", "install it, or JetPack") from None
        except AttributeError as error:
            raise MissingError(f"the NVIDIA driver is too old: {error}", "CUDA 11.4 or newer is needed") from None
        for name, types in _FUNCTIONS.items():
            self._functions[name].argtypes = types
        self.call("cuInit", 0)

    def call(self, function: str, *arguments: object) -> None:
        """Call a function. Raises CudaError unless it returns CUDA_SUCCESS."""
        status = self._functions[function](*arguments)
        if status != 0:
            raise CudaError(
                f"CUDA refuses {function}: {self._error_name(status)}", "`dmesg` may show the driver's reason"
            )

    def make(self, kind: type[ValueT], function: str, *arguments: object) -> ValueT:
        """The value of ctypes type `kind` that a function writes to its first argument. Raises CudaError."""
        value = kind()
        self.call(function, ctypes.byref(value), *arguments)
        return value

    def _error_name(self, status: int) -> str:
        name = c_char_p()
        self._functions["cuGetErrorName"](status, ctypes.byref(name))
        return name.value.decode() if name.value else f"error {status}"
