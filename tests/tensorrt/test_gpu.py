"""The GPU that the driver reports, on a stub driver of an Orin and on a file that is not a driver."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sefa_edge.profiles.gpu import Gpu, search_gpu

PROGRAM = """
import dataclasses, json
from sefa_edge.profiles.gpu import search_gpu
search = search_gpu()
print(json.dumps([dataclasses.asdict(search.gpu) if search.gpu else None, search.reason]))
"""


@pytest.fixture
def search(stub_cuda: Path, with_paths: Callable[..., dict[str, str]]) -> Callable[[str], list[object]]:
    def run(behaviour: str) -> list[object]:
        environment = {**with_paths((), (stub_cuda,)), "STUB_CUDA": behaviour}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return json.loads(done.stdout)

    return run


def test_orin(search: Callable[[str], list[object]]) -> None:
    expected = {
        "name": "Orin",
        "compute_capability": "8.7",
        "is_integrated": True,
        "cuda_version": "12.6",
        "memory_mib": 7620,
    }
    assert search("") == [expected, ""]


def test_a_driver_without_device_is_reported(search: Callable[[str], list[object]]) -> None:
    gpu, reason = search("no-device")
    assert gpu is None
    assert reason == "the NVIDIA driver refuses cuInit: no CUDA-capable device is detected (error 100)"


def test_hidden_devices_are_reported(search: Callable[[str], list[object]]) -> None:
    assert search("hidden") == [None, "the NVIDIA driver lists no device"]


def test_a_missing_driver_is_reported() -> None:
    search = search_gpu("libcuda-missing.so.1")
    assert search.gpu is None
    assert search.reason == "the NVIDIA driver is not installed (libcuda-missing.so.1 cannot be loaded)"


def test_a_library_that_is_not_a_driver_is_reported() -> None:
    search = search_gpu("libc.so.6")
    assert search.gpu is None
    assert "libc.so.6 is not a CUDA driver" in search.reason


def test_this_machine_has_a_gpu_or_a_reason() -> None:
    search = search_gpu()
    assert isinstance(search.gpu, Gpu) or search.reason
