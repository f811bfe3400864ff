"""The back ends that are compared, each as one function from a `Task` to a runner."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np

from sefa_edge.edge.engines.cuda.device import CudaDevice, CudaOptions
from sefa_edge.edge.engines.cuda.stream import Buffer
from sefa_edge.edge.engines.engine import EngineOptions, PlanOptions, fill_input, tensor_specs
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.engines.tensorrt_plan import PlanEngine
from sefa_edge.profiles.card import PolicyCard, load_card
from sefa_edge.profiles.gpu import search_gpu

LibraryObject: TypeAlias = Any
"""An object of an optional library."""
BUILD_SECONDS = 300
UNSUITABLE = (2, 4)
"""Exit codes of `sefa-edge build` for an unsuitable model or machine."""
DEVICE_RUNS = 200
RUNS_BEFORE_CAPTURE = 10
CUDA_LIBRARIES = ("cublasLt", "cublas", "nvrtc", "curand", "cufft", "cudart", "cudnn")
"""Libraries that ONNX Runtime needs, in order of their dependencies."""


class Absent(Exception):
    """The back end is missing, or does not accept this engine; the message is the reason."""


class Runner(Protocol):
    """One engine, ready to run."""

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Task:
    """The input of a contender."""

    engine: Path
    checkpoint: Path | None
    work: Path
    """Folder for plans, shared by the contenders of one pass."""


@dataclass(slots=True)
class Ready:
    """A runner, and a note about it."""

    runner: Runner
    notes: list[str] = field(default_factory=list)
    device_p50_ms: Callable[[], float] | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """A back end of the comparison."""

    open: Callable[[Task], Ready]
    needs_gpu: bool
    runs_network: bool = False
    """Runs the network of the checkpoint and not the engine's file; compared with fp32 engines only."""


def onnxruntime_cpu(task: Task) -> Ready:
    import onnxruntime

    return Ready(open_engine(task.engine), [f"onnxruntime {onnxruntime.__version__}, one thread"])


def onnxruntime_cuda(task: Task) -> Ready:
    return _onnxruntime_on_cuda(task, {})


def onnxruntime_cuda_graph(task: Task) -> Ready:
    return _onnxruntime_on_cuda(task, {"enable_cuda_graph": "1"})


def _onnxruntime_on_cuda(task: Task, options: Mapping[str, str]) -> Ready:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Absent("this onnxruntime has no CUDA (pip install onnxruntime-gpu)")
    _load_cuda_libraries()
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # the remaining ones, which a provider may need at import
    # Without TF32 float32 is float32, as on the CPU that it is compared with.
    providers = [("CUDAExecutionProvider", {"use_tf32": "0", **options}), "CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(task.engine.read_bytes(), providers=providers)
        if session.get_providers()[0] != "CUDAExecutionProvider":
            raise Absent("ONNX Runtime cannot load its CUDA provider (are cuDNN and cuBLAS installed?)")
        runner = _OnnxCuda(session, load_card(task.engine))
        for _ in range(RUNS_BEFORE_CAPTURE):  # one of the first runs is captured, which may fail
            runner.run()
    except Exception as error:  # another library may raise anything
        if isinstance(error, Absent) or not options:
            raise
        raise Absent(f"ONNX Runtime makes no CUDA graph of it: {' '.join(str(error).split())[:300]}") from None
    return Ready(runner, [f"onnxruntime {onnxruntime.__version__}"])


def _load_cuda_libraries() -> None:
    """Load them from NVIDIA's Python packages, wherever these are: ONNX Runtime looks only beside its own folder, and a
    supplied wheel is elsewhere. Missing ones are left to the loader."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for name in CUDA_LIBRARIES:
            for path in sorted(Path(folder).glob(f"*/lib/lib{name}.so.*")):
                with contextlib.suppress(OSError):
                    ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


class _OnnxCuda:
    """Inputs and output in device memory at fixed addresses, as a CUDA graph needs it.

    Host memory does not work as an input: it is copied once, when it is bound, and never read again.
    """

    def __init__(self, session: LibraryObject, card: PolicyCard) -> None:
        import onnxruntime

        self._session, self._card = session, card
        specs = [*card.image_tensors, card.joint_tensor, card.noise_tensor, card.chunk_tensor]
        self._values = {
            spec.name: onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(spec.shape, spec.dtype), "cuda", 0)
            for spec in specs
        }
        self._binding = session.io_binding()
        for spec in specs[:-1]:
            self._binding.bind_ortvalue_input(spec.name, self._values[spec.name])
        self._binding.bind_ortvalue_output(card.chunk_tensor.name, self._values[card.chunk_tensor.name])

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        for camera in self._card.cameras:
            self._values[camera.tensor].update_inplace(images[camera.name])
        self._values[self._card.joint_tensor.name].update_inplace(joint_deg)
        self._values[self._card.noise_tensor.name].update_inplace(noise)
        return self.run()

    def run(self) -> np.ndarray:
        """Run on the inputs already in device memory."""
        self._session.run_with_iobinding(self._binding)
        return self._values[self._card.chunk_tensor.name].numpy()

    def close(self) -> None:
        del self._binding, self._values, self._session


def torch_cpu(task: Task) -> Ready:
    torch = _torch()
    torch.set_num_threads(1)
    return Ready(_TorchNetwork(torch, task, "cpu"), ["one thread, as the engines have"])


def torch_cuda(task: Task) -> Ready:
    torch = _torch_with_cuda()
    return Ready(_TorchNetwork(torch, task, "cuda"), [f"torch {torch.__version__}"])


def torch_cuda_compiled(task: Task) -> Ready:
    torch = _torch_with_cuda()
    if importlib.util.find_spec("triton") is None:
        raise Absent("torch.compile needs triton")
    network = _TorchNetwork(torch, task, "cuda")
    network.network = torch.compile(network.network, mode="reduce-overhead", fullgraph=True)
    return Ready(network, [f"torch {torch.__version__}, mode reduce-overhead (CUDA graphs)"])


def torch_cuda_layer(task: Task) -> Ready:
    torch = _torch_with_cuda()
    network = _TorchNetwork(torch, task, "cuda").network
    runner = _TorchOnCudaLayer(torch, network, load_card(task.engine))
    return Ready(runner, [f"torch {torch.__version__}, kernels launched by the runtime's CUDA layer"], runner.device_ms)


class _TorchOnCudaLayer:
    """Launched like a TensorRT plan (page-locked buffers, copies and kernels as one graph, spinning), with torch's
    kernels instead of TensorRT's."""

    def __init__(self, torch: LibraryObject, network: LibraryObject, card: PolicyCard) -> None:
        self._torch, self._network, self._card = torch, network, card
        self._device = CudaDevice(CudaOptions(context_owner="driver"))
        buffers = {spec.name: self._device.buffer(tuple(spec.shape), spec.dtype) for spec in tensor_specs(card)}
        self._chunk = buffers.pop(card.chunk_tensor.name)
        self._buffers = buffers
        self._inputs = [_as_tensor(torch, buffer) for buffer in buffers.values()]
        self._output = _as_tensor(torch, self._chunk)
        self._torch_stream = torch.cuda.ExternalStream(self._device.stream.handle)
        for _ in range(RUNS_BEFORE_CAPTURE):  # torch keeps this memory and allocates none during capture
            self._enqueue()
            self._device.stream.finish()
        self._graph = self._device.stream.capture(self._enqueue)

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        for camera in self._card.cameras:
            fill_input(self._buffers[camera.tensor].host, images[camera.name], camera.name)
        fill_input(self._buffers[self._card.joint_tensor.name].host, joint_deg, "joints")
        fill_input(self._buffers[self._card.noise_tensor.name].host, noise, "noise")
        self._graph.launch()
        self._device.stream.finish()
        return self._chunk.host.copy()

    def device_ms(self) -> float:
        return float(np.median([self._device.stream.device_ms(self._graph.launch) for _ in range(DEVICE_RUNS)]))

    def close(self) -> None:
        self._graph.close()
        self._device.close()

    def _enqueue(self) -> None:
        for buffer in self._buffers.values():
            self._device.stream.upload(buffer)
        with self._torch.inference_mode(), self._torch.cuda.stream(self._torch_stream):
            self._output.copy_(self._network(*self._inputs))
        self._device.stream.download(self._chunk)


def _as_tensor(torch: LibraryObject, buffer: Buffer) -> LibraryObject:
    """The buffer's memory on the device, as a tensor of torch."""

    class Memory:
        __cuda_array_interface__: ClassVar = {
            "shape": buffer.host.shape,
            "typestr": buffer.host.dtype.str,
            "data": (buffer.device_pointer, False),
            "version": 3,
        }

    return torch.as_tensor(Memory(), device="cuda")


class _TorchNetwork:
    """The network itself, float32 without TF32."""

    def __init__(self, torch: LibraryObject, task: Task, device: str) -> None:
        from sefa_edge.models.checkpoint import load_checkpoint
        from sefa_edge.models.policy import EnginePolicy

        provenance = load_card(task.engine).provenance
        if task.checkpoint is None:
            raise Absent("no checkpoint was given (CHECKPOINT=…)")
        policy, info = load_checkpoint(task.checkpoint)
        if info.weights_sha256 != provenance.checkpoint_sha256:
            raise Absent(f"{task.checkpoint} is not the checkpoint that this engine was exported from")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self.network = EnginePolicy(policy, provenance.network_calls).eval().to(device)
        self._torch, self._device = torch, device
        self._cameras = [camera.name for camera in load_card(task.engine).cameras]

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        arrays = [*(images[camera] for camera in self._cameras), joint_deg, noise]
        with self._torch.inference_mode():
            tensors = [self._torch.from_numpy(array).to(self._device) for array in arrays]
            return self.network(*tensors).cpu().numpy()

    def close(self) -> None:
        del self.network


def tensorrt_graph(task: Task) -> Ready:
    return _plan(task, "tensorrt", "graph")


def tensorrt_enqueue(task: Task) -> Ready:
    return _plan(task, "tensorrt", "enqueue")


def tensorrt_rtx(task: Task) -> Ready:
    return _plan(task, "tensorrt_rtx", "graph")


def _plan(task: Task, library: Literal["tensorrt", "tensorrt_rtx"], launch: Literal["graph", "enqueue"]) -> Ready:
    names = [name for name in (library, f"{library}_bindings") if importlib.util.find_spec(name)]
    if not names:
        raise Absent(f"the Python module {library} is not installed")
    if library == "tensorrt_rtx":
        _check_rtx_supports_this_gpu(names[0])
    plan = task.work / f"{task.engine.stem}.{library}.plan"
    if not plan.exists():
        _build(task.engine, plan, library)
    engine = open_engine(plan, EngineOptions(plan=PlanOptions(launch=launch)))
    assert isinstance(engine, PlanEngine)
    notes = [f"built as {engine.card.precision}{' strongly typed' if engine.card.strongly_typed else ''}"]
    return Ready(engine, notes, lambda: float(np.median([engine.device_ms() for _ in range(DEVICE_RUNS)])))


def _check_rtx_supports_this_gpu(module: str) -> None:
    """TensorRT-RTX compiles for a list of chips, which contains neither an H100 nor an Orin."""
    capabilities = importlib.import_module(module).ComputeCapability.__members__
    gpu = search_gpu().gpu
    name = f"SM{gpu.compute_capability.replace('.', '')}" if gpu else "no GPU"
    if name not in capabilities:
        raise Absent(f"TensorRT-RTX does not support {name}; it supports {' '.join(sorted(capabilities))}")


def _build(engine: Path, plan: Path, library: str) -> None:
    command = [sys.executable, "-m", "sefa_edge", "build", str(engine), "-o", str(plan)]
    command += ["--backend", library.replace("_", "-"), "--timing-cache", str(plan.parent / "timing")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
        reason = " | ".join(lines) or f"sefa-edge build ended with {done.returncode}: {done.stderr[-400:]}"
        raise Absent(reason) if done.returncode in UNSUITABLE else RuntimeError(reason)


def _torch() -> LibraryObject:
    if importlib.util.find_spec("torch") is None:
        raise Absent("torch is not installed")
    return importlib.import_module("torch")


def _torch_with_cuda() -> LibraryObject:
    torch = _torch()
    if not torch.cuda.is_available():
        raise Absent(f"torch {torch.__version__} has no CUDA")
    return torch


CONTENDERS = {
    "onnxruntime_cpu": Contender(onnxruntime_cpu, needs_gpu=False),
    "torch_cpu": Contender(torch_cpu, needs_gpu=False, runs_network=True),
    "onnxruntime_cuda": Contender(onnxruntime_cuda, needs_gpu=True),
    "onnxruntime_cuda_graph": Contender(onnxruntime_cuda_graph, needs_gpu=True),
    "torch_cuda": Contender(torch_cuda, needs_gpu=True, runs_network=True),
    "torch_cuda_compiled": Contender(torch_cuda_compiled, needs_gpu=True, runs_network=True),
    "torch_cuda_layer": Contender(torch_cuda_layer, needs_gpu=True, runs_network=True),
    "tensorrt_graph": Contender(tensorrt_graph, needs_gpu=True),
    "tensorrt_enqueue": Contender(tensorrt_enqueue, needs_gpu=True),
    "tensorrt_rtx": Contender(tensorrt_rtx, needs_gpu=True),
}
