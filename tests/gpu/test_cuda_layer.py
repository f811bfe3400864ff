"""The CUDA layer on the GPU of this machine: needs neither TensorRT nor torch nor a CUDA toolkit.

The same layer on a stand-in driver, with every failure: tests/edge/engines/test_cuda_device.py.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from ctypes import c_int, c_size_t, c_uint, c_void_p
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.engines.cuda.device import CudaDevice, CudaOptions
from sefa_edge.edge.engines.cuda.driver import DRIVER, CudaError
from sefa_edge.edge.engines.cuda.stream import Buffer, Synchronise
from sefa_edge.profiles.card import PlanSpec, card_path
from sefa_edge.profiles.errors import MissingError
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.gpu import search_gpu
from sefa_edge.profiles.jetson import find_jetson
from tests.gpu.gpu_report import driver_version

HERE = Path(__file__).parent
STAND_IN_LIBRARY = HERE.parent / "tensorrt" / "stand_in"
SEARCH = search_gpu()
PICTURE = (1, 96, 96, 3)
MIB = 1 << 20
TOO_MANY_BYTES = 1 << 46
INVALID_POINTER = 8
"""A pointer that no driver returns."""
PLAN_HEADER = b"ftrt" + bytes(20) + bytes([10, 3, 0, 0]) + bytes(36)
PLAN_TENSORS = {
    "image_front": ("INPUT", "UINT8", list(PICTURE)),
    "joints": ("INPUT", "FLOAT", [1, 6]),
    "noise": ("INPUT", "FLOAT", [16, 6]),
    "chunk": ("OUTPUT", "FLOAT", [16, 6]),
}
RUN_A_PLAN = """
import json, sys
import numpy as np
from pathlib import Path
from sefa_edge.edge.engines.cuda.device import CudaOptions
from sefa_edge.edge.engines.engine import EngineOptions, PlanOptions
from sefa_edge.edge.engines.opening import open_engine
plan, launch = sys.argv[1:]
options = PlanOptions(device=CudaOptions(context_owner="driver"), launch=launch, warm_up_runs=3, warm_up_s=0.0)
engine = open_engine(Path(plan), EngineOptions(plan=options))
pictures, joints = {"front": np.ones((1, 96, 96, 3), np.uint8)}, np.zeros((1, 6), np.float32)
differences = []
for seed in range(100):
    noise = np.random.default_rng(seed).standard_normal((16, 6), np.float32)
    differences.append(float(np.abs(engine.infer(pictures, joints, noise) - (noise + np.float32(0.5))).max()))
output = {"largest": max(differences), "is_graph": engine._graph is not None, "device_ms": engine.device_ms()}
engine.close()
print(json.dumps(output))
"""
MAKE_A_FAULT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from add_kernel import load_add
from sefa_edge.edge.engines.cuda.device import CudaDevice, CudaOptions
from sefa_edge.edge.engines.cuda.driver import CudaError
device = CudaDevice(CudaOptions(context_owner="driver"))
assert load_add()(8, 8, 4, 1.0, device.stream.handle) == 0
output = {}
for name, step in (("finish", device.stream.finish), ("close", device.close)):
    try:
        step()
        output[name] = ""
    except CudaError as error:
        output[name] = str(error)
print(json.dumps(output))
"""

pytestmark = pytest.mark.skipif(SEARCH.gpu is None, reason=f"no NVIDIA GPU: {SEARCH.reason}")


class Gpu:
    """A device under test, the driver, and one kernel."""

    def __init__(self, synchronise: Synchronise = "spin") -> None:
        self.device = CudaDevice(CudaOptions(synchronise, context_owner="driver"))
        self.driver = ctypes.CDLL(DRIVER)
        self._add = _load_add_kernel()

    def buffer(self, values: np.ndarray) -> Buffer:
        buffer = self.device.buffer(values.shape, values.dtype.name)
        buffer.host[...] = values
        return buffer

    def add(self, source: Buffer, target: Buffer, added: float) -> Callable[[], None]:
        """Copy in, add, copy out: what an engine enqueues."""

        def work() -> None:
            self.device.stream.upload(source)
            pointers = (target.device_pointer, source.device_pointer)
            assert self._add(*pointers, target.host.size, added, self.device.stream.handle) == 0
            self.device.stream.download(target)

        return work

    def free_bytes(self) -> int:
        free, total = c_size_t(), c_size_t()
        assert self.driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
        return free.value


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    under_test = Gpu()
    yield under_test
    under_test.device.close()


def _load_add_kernel() -> Callable[..., int]:
    spec = importlib.util.spec_from_file_location("add_kernel", HERE / "add_kernel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_add()


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_the_search_returns_what_the_driver_reports() -> None:
    found = SEARCH.gpu
    assert found is not None
    assert re.fullmatch(r"\d+\.\d", found.compute_capability)
    assert re.fullmatch(r"\d+\.\d+", found.cuda_version)
    assert found.memory_mib > 0
    assert found.is_integrated == (find_jetson() is not None)
    if found.is_integrated or shutil.which("nvidia-smi") is None:
        return
    query = ["nvidia-smi", "--id=0", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    output = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().split(", ")
    assert [found.name, found.compute_capability, driver_version()] == output


def test_all_devices_hidden_is_reported(tmp_path: Path) -> None:
    program = "from sefa_edge.edge.engines.cuda.device import CudaDevice, CudaOptions\nCudaDevice(CudaOptions())"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert f"{MissingError.__name__}: no NVIDIA GPU: the NVIDIA driver refuses cuInit: no CUDA-capable" in done.stderr


@pytest.mark.parametrize("size_bytes", [1, 4097, 96 * 96 * 3, 64 * MIB])
def test_copied_bytes_are_unchanged(gpu: Gpu, size_bytes: int) -> None:
    sent = np.random.default_rng(size_bytes).integers(0, 256, size_bytes, np.uint8)
    buffer = gpu.buffer(sent)
    gpu.device.stream.upload(buffer)
    gpu.device.stream.finish()
    if not buffer.is_shared:
        buffer.host.fill(0)
    gpu.device.stream.download(buffer)
    gpu.device.stream.finish()
    np.testing.assert_array_equal(buffer.host, sent)


def test_buffers_are_page_locked_and_shared_only_where_memory_is(gpu: Gpu) -> None:
    buffer = gpu.device.buffer(PICTURE, "uint8")
    assert not buffer.host.any()
    assert buffer.is_shared == gpu.device.gpu.is_integrated
    flags, pageable = c_uint(), np.zeros(4096, np.uint8)
    assert gpu.driver.cuMemHostGetFlags(ctypes.byref(flags), c_void_p(buffer.host_address)) == 0
    assert gpu.driver.cuMemHostGetFlags(ctypes.byref(flags), c_void_p(pageable.ctypes.data)) != 0


def test_the_stream_has_the_greatest_priority_and_does_not_wait_for_the_default_stream(gpu: Gpu) -> None:
    least, greatest, priority, flags = c_int(), c_int(), c_int(), c_uint()
    stream = c_void_p(gpu.device.stream.handle)
    gpu.driver.cuCtxGetStreamPriorityRange(ctypes.byref(least), ctypes.byref(greatest))
    assert gpu.driver.cuStreamGetPriority(stream, ctypes.byref(priority)) == 0
    assert gpu.driver.cuStreamGetFlags(stream, ctypes.byref(flags)) == 0
    assert (priority.value, flags.value) == (greatest.value, 1)


@pytest.mark.parametrize("synchronise", ["spin", "block"])
def test_a_kernel_reads_what_the_host_wrote(synchronise: Synchronise) -> None:
    gpu = Gpu(synchronise)
    source, target = gpu.buffer(_noise(16, 6)), gpu.buffer(np.zeros((16, 6), np.float32))
    for seed in range(100):
        source.host[...] = np.random.default_rng(seed).standard_normal((16, 6), np.float32)
        gpu.add(source, target, 0.5)()
        gpu.device.stream.finish()
        np.testing.assert_array_equal(target.host, source.host + np.float32(0.5))
    gpu.device.close()


def test_graph_replays_with_new_inputs(gpu: Gpu) -> None:
    source, target = gpu.buffer(_noise(16, 6)), gpu.buffer(np.zeros((16, 6), np.float32))
    graph = gpu.device.stream.capture(gpu.add(source, target, 1.0))
    gpu.device.stream.finish()
    assert not target.host.any(), "capturing records, it does not run"
    for seed in range(100):
        source.host[...] = np.random.default_rng(seed).standard_normal((16, 6), np.float32)
        graph.launch()
        gpu.device.stream.finish()
        np.testing.assert_array_equal(target.host, source.host + np.float32(1.0))
    graph.close()


def test_the_devices_clock_distinguishes_more_work_from_less(gpu: Gpu) -> None:
    source, target = gpu.buffer(_noise(MIB)), gpu.buffer(np.zeros(MIB, np.float32))
    work = gpu.add(source, target, 1.0)

    def fifty_times() -> None:
        for _ in range(50):
            work()

    work()
    gpu.device.stream.finish()
    once, often = (np.median([gpu.device.stream.device_ms(step) for _ in range(5)]) for step in (work, fifty_times))
    assert 0 < 5 * once < often


def test_after_a_failed_capture_the_stream_is_ready_and_can_capture(gpu: Gpu) -> None:
    source, target = gpu.buffer(_noise(16, 6)), gpu.buffer(np.zeros((16, 6), np.float32))
    work = gpu.add(source, target, 1.0)

    def waits() -> None:
        work()
        gpu.device.stream.finish()  # a graph cannot contain a wait of the host

    def raises() -> None:
        work()
        raise KeyboardInterrupt

    for broken, expected in ((waits, CudaError), (raises, KeyboardInterrupt)):
        with pytest.raises(expected):
            gpu.device.stream.capture(broken)
        target.host.fill(0)
        work()
        gpu.device.stream.finish()
        np.testing.assert_array_equal(target.host, source.host + np.float32(1.0))
    graph = gpu.device.stream.capture(work)
    target.host.fill(0)
    graph.launch()
    gpu.device.stream.finish()
    np.testing.assert_array_equal(target.host, source.host + np.float32(1.0))
    graph.close()


def test_driver_errors_are_reported_and_the_device_remains_usable(gpu: Gpu) -> None:
    with pytest.raises(CudaError, match=r"cuMemHostAlloc: CUDA_ERROR_\w+"):
        gpu.device.buffer((TOO_MANY_BYTES,), "uint8")
    buffer = gpu.buffer(_noise(16, 6))
    if not buffer.is_shared:
        lost = Buffer(buffer.host, buffer.host_address, INVALID_POINTER, False)
        with pytest.raises(CudaError, match="cuMemcpyHtoDAsync_v2: CUDA_ERROR_INVALID_VALUE"):
            gpu.device.stream.upload(lost)
    target = gpu.buffer(np.zeros((16, 6), np.float32))
    gpu.add(buffer, target, 1.0)()
    gpu.device.stream.finish()
    np.testing.assert_array_equal(target.host, buffer.host + np.float32(1.0))


def test_an_invalid_memory_access_is_a_fault_at_the_next_wait(tmp_path: Path) -> None:
    """In a separate process: CUDA makes the context unusable after that, and closing it must still work."""
    done = _run(MAKE_A_FAULT, str(HERE), folder=tmp_path)
    output = json.loads(done.stdout)
    assert "cuEventSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS" in output["finish"]
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in output["close"]


def test_closing_releases_the_memory(gpu: Gpu) -> None:
    def open_and_close() -> None:
        other = CudaDevice(CudaOptions(context_owner="driver"))
        for _ in range(4):
            other.buffer((32 * MIB,), "uint8")
        other.close()

    open_and_close()
    before = gpu.free_bytes()
    for _ in range(20):
        open_and_close()
    assert before - gpu.free_bytes() < 4 * 32 * MIB  # of 20 times that


@pytest.mark.parametrize("launch", ["graph", "enqueue"])
def test_the_plan_runner_computes_on_this_gpu(
    launch: str, make_reach_engine: Callable[[Path], Path], tmp_path: Path
) -> None:
    """The complete runner, except that a stand-in for TensorRT enqueues one kernel."""
    plan = _write_plan(make_reach_engine(tmp_path))
    done = _run(RUN_A_PLAN, str(plan), launch, folder=tmp_path, path=[STAND_IN_LIBRARY, HERE])
    output = json.loads(done.stdout)
    assert output["largest"] == 0
    assert output["is_graph"] == (launch == "graph")
    assert output["device_ms"] > 0
    assert done.stderr == ""


def _write_plan(engine: Path) -> Path:
    found, jetson = SEARCH.gpu, find_jetson()
    assert found is not None
    plan = engine.with_name("model.plan")
    plan.write_bytes(PLAN_HEADER + json.dumps({"tensors": PLAN_TENSORS, "fails": ""}).encode())
    spec = PlanSpec(
        onnx_sha256="0" * 64,
        library_version="10.3.0",
        cuda_version=found.cuda_version,
        compute_capability=found.compute_capability,
        gpu_name=found.name,
        board=jetson.part_number if jetson else None,
        l4t=jetson.l4t if jetson else None,
        power_mode=jetson.power_mode if jetson else None,
        workspace_mib=256,
        optimisation_level=3,
        build_seconds=1.0,
    )
    facts = {
        "engine_file": plan.name,
        "engine_sha256": sha256_of(plan),
        "format": "tensorrt",
        "plan": spec.model_dump(),
    }
    card_path(plan).write_text(json.dumps(json.loads(card_path(engine).read_text()) | facts))
    return plan


def _run(
    program: str, *arguments: str, folder: Path, path: list[Path] | None = None
) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([*map(str, path or []), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if name != "STAND_IN_DRIVER"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**environment, "PYTHONPATH": paths},
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done
