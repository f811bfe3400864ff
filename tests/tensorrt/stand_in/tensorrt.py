"""A stand-in for TensorRT's runtime. Its one engine returns `noise + 0.5`, computed by the stand-in driver.

Where no STAND_IN_DRIVER is named, the GPU of the machine computes it (tests/gpu).

It contains only what the runner uses; test_bindings.py checks that NVIDIA's bindings have it too. A plan is
the real header followed by JSON: the tensors, and the call that is to fail.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from enum import Enum

__version__ = "10.3.0"
HEADER_BYTES = 64
ADDED = 0.5


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def log(self, severity: Severity, message: str) -> None:
        """The logger class that a program overrides."""
        del severity, message


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    UINT8 = 6


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        described = json.loads(content[HEADER_BYTES:])
        if described["fails"] == "deserialise":
            self.logger.log(ILogger.Severity.ERROR, "Version tag does not match")
            return None
        return Engine(described, self.logger)


class Engine:
    def __init__(self, described: dict, logger: ILogger) -> None:
        self.described, self.logger = described, logger
        self.names = list(described["tensors"])

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode[self.described["tensors"][name][0]]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self.described["tensors"][name][1]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.described["tensors"][name][2])

    def create_execution_context(self) -> Context | None:
        return None if self.described["fails"] == "context" else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.pointers: dict[str, int] = {}
        self.runs = 0
        self.enqueue_add = _on_the_gpu() if "STAND_IN_DRIVER" not in os.environ else _on_the_host()

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.pointers[name] = pointer
        return self.engine.described["fails"] != "address"

    def execute_async_v3(self, stream: int) -> bool:
        self.runs += 1
        if self.engine.described["fails"] == f"run {self.runs}":
            self.engine.logger.log(ILogger.Severity.ERROR, "an illegal memory access was encountered")
            return False
        assert self.pointers.keys() == set(self.engine.names), "an address was not set"
        rows, columns = self.engine.get_tensor_shape("chunk")
        pair = (self.pointers["chunk"], self.pointers["noise"])
        return self.enqueue_add(*pair, rows * columns, ADDED, stream) == 0


def _on_the_host() -> Callable[..., int]:
    driver = ctypes.CDLL(os.environ["STAND_IN_DRIVER"])
    pointers_and_count = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t)
    driver.stub_enqueue_add.argtypes = (*pointers_and_count, ctypes.c_float, ctypes.c_void_p)
    return driver.stub_enqueue_add


def _on_the_gpu() -> Callable[..., int]:
    from add_kernel import load_add

    return load_add()
