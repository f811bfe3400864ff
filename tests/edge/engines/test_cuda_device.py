"""The CUDA layer on a stand-in driver: the real ctypes code, compiled against the host instead of a GPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.engines.cuda.device import CudaDevice, CudaOptions
from sefa_edge.edge.engines.cuda.driver import _FUNCTIONS, CudaDriver, CudaError
from sefa_edge.edge.engines.cuda.stream import Buffer, Synchronise
from sefa_edge.profiles.errors import FaultError, MissingError

SOURCE = Path(__file__).parents[2] / "rigs" / "stub_libcuda.c"
LAUNCH_FAILED, CAPTURE_UNSUPPORTED = 719, 900
CUDA_HEADER = Path("/usr/local/cuda/include")
OPENING = ("cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuCtxGetStreamPriorityRange")
BUFFERS = ("cuMemHostAlloc", "cuMemHostGetDevicePointer_v2", "cuMemAlloc_v2")
CAPTURE = ("cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags")


class StandIn:
    """Access to the stand-in driver: what is allocated, what was called, and its one operation."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._library = ctypes.CDLL(self.path)
        self._library.stub_enqueue_add.argtypes = (
            *(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_float),
            ctypes.c_void_p,
        )

    def live(self, kind: str | None = None) -> int:
        return self._library.stub_live(kind.encode() if kind else None)

    def calls(self, function: str) -> int:
        return self._library.stub_calls(function.encode())

    def forget_calls(self) -> None:
        self._library.stub_reset_calls()

    def contexts_on_thread(self) -> int:
        return self._library.stub_depth()

    def priority(self, device: CudaDevice) -> int:
        return self._library.stub_priority(ctypes.c_void_p(device.stream.handle))

    def add(self, device: CudaDevice, source: Buffer, target: Buffer, added: float) -> Callable[[], None]:
        """Copy in, add, copy out: what an engine enqueues."""

        def work() -> None:
            device.stream.upload(source)
            pointers = (target.device_pointer, source.device_pointer)
            status = self._library.stub_enqueue_add(*pointers, target.host.size, added, device.stream.handle)
            if status != 0:
                raise FaultError("the engine does not run")
            device.stream.download(target)

        return work


@pytest.fixture(scope="session")
def built_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("stand_in") / "libcuda.so.1"
    header = ["-I", str(CUDA_HEADER)] if (CUDA_HEADER / "cuda.h").exists() else []
    warnings = ["-Wall", "-Wextra", "-Wno-enum-conversion", "-Wno-enum-compare", "-Werror"]
    command = [compiler, "-std=c11", *warnings, *header, "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@pytest.fixture
def stand_in(built_stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Checks afterwards that everything was released, and that the thread has no context left."""
    for name in ("STUB_CUDA_FAIL", "STUB_CUDA_INTEGRATED", "STUB_CUDA_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    driver = StandIn(built_stand_in)
    driver.forget_calls()
    yield driver
    assert driver.live() == 0
    assert driver.contexts_on_thread() == 0


def open_device(stand_in: StandIn, synchronise: Synchronise = "spin") -> CudaDevice:
    return CudaDevice(CudaOptions(synchronise, library=stand_in.path, context_owner="driver"))


@pytest.mark.parametrize("memory", ["discrete", "integrated"])
def test_work_runs_on_what_the_host_wrote(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    if memory == "integrated":
        monkeypatch.setenv("STUB_CUDA_INTEGRATED", "1")
    device = open_device(stand_in)
    source, target = device.buffer((2, 3), "float32"), device.buffer((2, 3), "float32")
    assert not source.host.any()
    source.host[...] = np.arange(6, dtype=np.float32).reshape(2, 3)
    stand_in.add(device, source, target, 0.5)()
    device.stream.finish()
    np.testing.assert_array_equal(target.host, source.host + 0.5)
    shared = memory == "integrated"
    assert source.is_shared == shared
    assert (source.device_pointer == source.host.ctypes.data) == shared
    assert stand_in.live("device") == (0 if shared else 2)
    assert stand_in.calls("cuMemcpyHtoDAsync_v2") == (0 if shared else 1)
    device.close()


def test_device_is_described(stand_in: StandIn) -> None:
    device = open_device(stand_in)
    assert (device.gpu.name, device.gpu.compute_capability, device.gpu.cuda_version) == ("Stand-in", "8.7", "12.6")
    assert device.context_owner == "driver"
    device.close()


def test_stream_is_not_the_default_one_and_of_greatest_priority(stand_in: StandIn) -> None:
    device = open_device(stand_in)
    assert device.stream.handle != 0
    assert stand_in.priority(device) == -5  # the stand-in's greatest; it refuses streams that block on the default one
    device.close()


def test_graph_replays_with_new_inputs_and_without_new_calls(stand_in: StandIn) -> None:
    device = open_device(stand_in)
    source, target = device.buffer((4,), "float32"), device.buffer((4,), "float32")
    graph = device.stream.capture(stand_in.add(device, source, target, 1.0))
    assert not target.host.any(), "capturing records, it does not run"
    stand_in.forget_calls()
    for value in (3.0, 8.0):
        source.host.fill(value)
        graph.launch()
        device.stream.finish()
        np.testing.assert_array_equal(target.host, np.full(4, value + 1, np.float32))
    assert stand_in.calls("cuGraphLaunch") == 2
    assert stand_in.calls("cuMemcpyHtoDAsync_v2") == 0
    assert stand_in.live("graph") == 0, "the recording is not needed once it can be launched"
    assert device.stream.device_ms(graph.launch) == 3.0  # the stand-in's clock counts operations
    graph.close()
    device.close()


@pytest.mark.parametrize("step", [*CAPTURE, "stub_enqueue_add", "cuMemcpyHtoDAsync_v2"])
def test_plain_work_continues_after_a_failed_capture(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    device = open_device(stand_in)
    source, target = device.buffer((4,), "float32"), device.buffer((4,), "float32")
    work = stand_in.add(device, source, target, 1.0)
    monkeypatch.setenv("STUB_CUDA_FAIL", f"{step}:{CAPTURE_UNSUPPORTED}")
    with pytest.raises(FaultError):
        device.stream.capture(work)
    monkeypatch.delenv("STUB_CUDA_FAIL")
    work()
    device.stream.finish()
    np.testing.assert_array_equal(target.host, np.ones(4, np.float32))
    assert stand_in.live("graph") == 0
    device.close()


@pytest.mark.parametrize(("synchronise", "flag"), [("spin", 0), ("block", 1)])
def test_waiting_spins_or_sleeps_as_asked(stand_in: StandIn, synchronise: Synchronise, flag: int) -> None:
    library = ctypes.CDLL(stand_in.path)
    device = open_device(stand_in, synchronise)
    events = [device.stream._finished, device.stream._began, device.stream._ended]
    assert {library.stub_event_flags(event) & 1 for event in events} == {flag}
    device.close()


@pytest.mark.parametrize("function", [*OPENING, "cuStreamCreateWithPriority", "cuEventCreate"])
def test_a_failed_opening_is_reported_and_releases_everything(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setenv("STUB_CUDA_FAIL", f"{function}:2")
    with pytest.raises((CudaError, MissingError), match=f"{function}: CUDA_ERROR_OUT_OF_MEMORY"):
        open_device(stand_in)


@pytest.mark.parametrize("function", BUFFERS)
def test_a_failed_allocation_is_reported(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    with ExitStack() as ending:
        device = open_device(stand_in)
        ending.callback(device.close)
        device.buffer((4,), "float32")
        monkeypatch.setenv("STUB_CUDA_FAIL", f"{function}:2:2")
        with pytest.raises(CudaError, match=f"{function}: CUDA_ERROR_OUT_OF_MEMORY"):
            device.buffer((4,), "float32")
        monkeypatch.delenv("STUB_CUDA_FAIL")


@pytest.mark.parametrize(
    "function", ["cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuEventRecord", "cuEventSynchronize", "cuGraphLaunch"]
)
def test_a_failed_call_is_a_fault_and_is_reported(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    device = open_device(stand_in)
    source, target = device.buffer((4,), "float32"), device.buffer((4,), "float32")
    work = stand_in.add(device, source, target, 1.0)
    graph = device.stream.capture(work)

    def run() -> None:
        work()
        graph.launch()
        device.stream.finish()

    monkeypatch.setenv("STUB_CUDA_FAIL", f"{function}:{LAUNCH_FAILED}")
    with pytest.raises(CudaError, match=f"{function}: CUDA_ERROR_LAUNCH_FAILED") as caught:
        run()
    assert caught.value.exit_code == 3
    monkeypatch.delenv("STUB_CUDA_FAIL")
    graph.close()
    device.close()


def test_an_error_without_a_name_keeps_its_number(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = CudaDriver(stand_in.path)
    monkeypatch.setenv("STUB_CUDA_FAIL", "cuInit:4711")
    with pytest.raises(CudaError, match="cuInit: error 4711"):
        driver.call("cuInit", 0)


def test_a_driver_without_gpu_and_a_missing_driver_are_reported(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_CUDA_DEVICES", "0")
    with pytest.raises(MissingError, match="CUDA_ERROR_NO_DEVICE"):
        open_device(stand_in)
    with pytest.raises(MissingError, match="driver is not installed"):
        CudaDevice(CudaOptions(library="libcuda-absent.so.1"))
    with pytest.raises(MissingError, match="driver is not installed"):
        CudaDriver("libcuda-absent.so.1")


def test_a_library_that_lacks_functions_is_refused() -> None:
    with pytest.raises(MissingError, match="too old"):
        CudaDriver("libc.so.6")


def test_every_declared_function_has_its_stand_in(stand_in: StandIn) -> None:
    library = ctypes.CDLL(stand_in.path)
    assert [name for name in _FUNCTIONS if not hasattr(library, name)] == []


def test_two_devices_may_be_closed_in_any_order(stand_in: StandIn) -> None:
    first, second = open_device(stand_in), open_device(stand_in)
    assert stand_in.live("context") == 2
    first.close()
    buffer = second.buffer((4,), "float32")
    second.stream.upload(buffer)
    second.stream.finish()
    second.close()
    second.close()
    assert stand_in.live() == 0
