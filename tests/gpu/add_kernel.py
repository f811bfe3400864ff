"""One kernel, `to[i] = from[i] + added` in float32, for tests that need some computation on a GPU.

It is PTX, which the driver compiles for the GPU: neither a compiler nor a CUDA toolkit is needed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_float, c_int, c_uint, c_uint64, c_void_p

THREADS = 256
PTX = b"""
.version 6.4
.target sm_75
.address_size 64
.visible .entry add(.param .u64 add_to, .param .u64 add_from, .param .u32 add_count, .param .f32 add_added)
{
    .reg .pred %beyond;
    .reg .b32 %block, %width, %thread, %index, %count;
    .reg .f32 %value, %added;
    .reg .b64 %to, %from, %offset;
    ld.param.u64 %to, [add_to];
    ld.param.u64 %from, [add_from];
    ld.param.u32 %count, [add_count];
    ld.param.f32 %added, [add_added];
    mov.u32 %block, %ctaid.x;
    mov.u32 %width, %ntid.x;
    mov.u32 %thread, %tid.x;
    mad.lo.s32 %index, %block, %width, %thread;
    setp.ge.u32 %beyond, %index, %count;
    @%beyond bra done;
    cvta.to.global.u64 %to, %to;
    cvta.to.global.u64 %from, %from;
    mul.wide.u32 %offset, %index, 4;
    add.s64 %to, %to, %offset;
    add.s64 %from, %from, %offset;
    ld.global.f32 %value, [%from];
    add.f32 %value, %value, %added;
    st.global.f32 [%to], %value;
done:
    ret;
}
"""
Add = Callable[[int, int, int, float, int], int]
"""(pointer to, pointer from, count, added, stream) -> status of the driver, 0 for success."""


def load_add(library: str = "libcuda.so.1") -> Add:
    """Compile the kernel for the current context of this thread; the kernel lives as long as the context."""
    driver = ctypes.CDLL(library)
    driver.cuModuleLoadData.argtypes = (POINTER(c_void_p), c_char_p)
    driver.cuModuleGetFunction.argtypes = (POINTER(c_void_p), c_void_p, c_char_p)
    driver.cuLaunchKernel.argtypes = (c_void_p, *(c_uint,) * 7, c_void_p, POINTER(c_void_p), POINTER(c_void_p))
    module, function = c_void_p(), c_void_p()
    for status in (
        driver.cuModuleLoadData(ctypes.byref(module), PTX),
        driver.cuModuleGetFunction(ctypes.byref(function), module, b"add"),
    ):
        if status != 0:
            raise RuntimeError(f"the driver refuses the kernel: error {status}")

    def add(to: int, source: int, count: int, added: float, stream: int) -> int:
        values = (c_uint64(to), c_uint64(source), c_int(count), c_float(added))
        pointers = (c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        grid, block = (-(-count // THREADS), 1, 1), (THREADS, 1, 1)
        return driver.cuLaunchKernel(function, *grid, *block, 0, stream, pointers, None)

    return add
