"""The GPU of this machine, queried from the driver: needs no CUDA toolkit or package, and leaves no context behind.

Function and attribute numbers: CUDA driver API (cuda.h); the same on Jetson and on workstations.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

DRIVER = "libcuda.so.1"
NAME_BYTES = 256
INTEGRATED, MAJOR, MINOR = 18, 75, 76
"""CU_DEVICE_ATTRIBUTE_INTEGRATED, …_COMPUTE_CAPABILITY_MAJOR and …_MINOR."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device, the first one that the driver lists."""

    name: str
    compute_capability: str
    """`8.7` for every Orin."""
    is_integrated: bool
    """Whether it shares the memory of the CPU, as on every Jetson."""
    cuda_version: str
    """Newest CUDA version that the driver supports, e.g. `12.6`."""
    memory_mib: int


@dataclass(frozen=True, slots=True)
class GpuSearch:
    """The GPU that was found; `reason` says why there is none, and is empty otherwise."""

    gpu: Gpu | None
    reason: str = ""


class _DriverError(Exception):
    """A call of the driver failed; never leaves this file."""


def search_gpu(driver: str = DRIVER) -> GpuSearch:
    """The first GPU of the driver library `driver`, or the reason why there is none. Never raises."""
    try:
        library = ctypes.CDLL(driver)
        return GpuSearch(_first_gpu(library))
    except OSError:
        return GpuSearch(None, f"the NVIDIA driver is not installed ({driver} cannot be loaded)")
    except AttributeError as error:
        return GpuSearch(None, f"{driver} is not a CUDA driver: {error}")
    except _DriverError as error:
        return GpuSearch(None, str(error))


def _first_gpu(driver: ctypes.CDLL) -> Gpu:
    _check(driver, "cuInit", 0)
    if _integer(driver, "cuDeviceGetCount") < 1:
        raise _DriverError("the NVIDIA driver lists no device")
    device = _integer(driver, "cuDeviceGet", 0)
    name = ctypes.create_string_buffer(NAME_BYTES)
    _check(driver, "cuDeviceGetName", name, NAME_BYTES, device)
    memory = ctypes.c_size_t()
    _check(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    version = _integer(driver, "cuDriverGetVersion")
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{_attribute(driver, MAJOR, device)}.{_attribute(driver, MINOR, device)}",
        is_integrated=_attribute(driver, INTEGRATED, device) != 0,
        cuda_version=f"{version // 1000}.{version % 1000 // 10}",
        memory_mib=memory.value >> 20,
    )


def _attribute(driver: ctypes.CDLL, attribute: int, device: int) -> int:
    return _integer(driver, "cuDeviceGetAttribute", attribute, device)


def _integer(driver: ctypes.CDLL, function: str, *arguments: int) -> int:
    """Call a function that writes one int to its first argument."""
    value = ctypes.c_int()
    _check(driver, function, ctypes.byref(value), *arguments)
    return value.value


def _check(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(driver, function)(*arguments)
    if code != 0:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        reason = (text.value or b"unknown error").decode(errors="replace")
        raise _DriverError(f"the NVIDIA driver refuses {function}: {reason} (error {code})")
