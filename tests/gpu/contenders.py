"""The back ends that are compared, each as one function (engine file, folder for its plans) -> something that runs."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from sefa_edge.edge.engines.engine import EngineOptions, PlanOptions, fill_input, open_engine
from sefa_edge.edge.engines.tensorrt_plan import PlanEngine
from sefa_edge.profiles.card import PolicyCard, load_card
from sefa_edge.profiles.gpu import find_gpu

LibraryObject: TypeAlias = Any
"""Of a library that need not be installed."""
BUILD_SECONDS = 300
UNSUITABLE = (2, 4)
"""Exit codes of `sefa-edge build` that say: not this model, not this machine."""
DEVICE_RUNS = 200


class Absent(Exception):
    """This back end is not here, or does not take this engine; the reason is its text."""


class Runner(Protocol):
    """One engine, ready to run."""

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Task:
    """What a contender is given."""

    engine: Path
    checkpoint: Path | None
    work: Path
    """Folder for plans, shared by the contenders of one pass."""


@dataclass(slots=True)
class Ready:
    """A runner, and what should be known about it."""

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
    return Ready(open_engine(task.engine))


def onnxruntime_cuda(task: Task) -> Ready:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Absent("this onnxruntime has no CUDA (pip install onnxruntime-gpu)")
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    # Without TF32 float32 is float32, as on the CPU that it is compared with.
    providers = [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(task.engine.read_bytes(), providers=providers)
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise Absent("ONNX Runtime cannot load its CUDA provider (are cuDNN and cuBLAS installed?)")
    return Ready(_OnnxCuda(session, load_card(task.engine)))


class _OnnxCuda:
    """Inputs and output bound once in host memory; ONNX Runtime copies them to the device and back."""

    def __init__(self, session: LibraryObject, card: PolicyCard) -> None:
        import onnxruntime

        self._session, self._card = session, card
        specs = [*card.image_tensors, card.joint_tensor, card.noise_tensor]
        self._inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in specs}
        self._chunk = np.zeros(card.chunk_tensor.shape, np.float32)
        self._binding = session.io_binding()
        for name, array in self._inputs.items():
            self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        self._binding.bind_ortvalue_output(
            card.chunk_tensor.name, onnxruntime.OrtValue.ortvalue_from_numpy(self._chunk)
        )

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        for camera in self._card.cameras:
            fill_input(self._inputs[camera.tensor], images[camera.name], camera.name)
        fill_input(self._inputs[self._card.joint_tensor.name], joint_deg, "joints")
        fill_input(self._inputs[self._card.noise_tensor.name], noise, "noise")
        self._session.run_with_iobinding(self._binding)
        return self._chunk

    def close(self) -> None:
        del self._binding, self._session


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
        _check_rtx_takes_this_gpu(names[0])
    plan = task.work / f"{task.engine.stem}.{library}.plan"
    if not plan.exists():
        _build(task.engine, plan, library)
    engine = open_engine(plan, EngineOptions(plan=PlanOptions(launch=launch)))
    assert isinstance(engine, PlanEngine)
    notes = [f"built as {engine.card.precision}{' strongly typed' if engine.card.strongly_typed else ''}"]
    return Ready(engine, notes, lambda: float(np.median([engine.device_ms() for _ in range(DEVICE_RUNS)])))


def _check_rtx_takes_this_gpu(module: str) -> None:
    """TensorRT-RTX knows the chips it compiles for by name, and an H100 or an Orin is none of them."""
    capabilities = importlib.import_module(module).ComputeCapability.__members__
    gpu = find_gpu()
    name = f"SM{gpu.compute_capability.replace('.', '')}" if gpu else "no GPU"
    if name not in capabilities:
        raise Absent(f"TensorRT-RTX does not take {name}; it takes {' '.join(sorted(capabilities))}")


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
        raise Absent(f"torch {torch.__version__} has no CUDA here")
    return torch


CONTENDERS = {
    "onnxruntime_cpu": Contender(onnxruntime_cpu, needs_gpu=False),
    "torch_cpu": Contender(torch_cpu, needs_gpu=False, runs_network=True),
    "onnxruntime_cuda": Contender(onnxruntime_cuda, needs_gpu=True),
    "torch_cuda": Contender(torch_cuda, needs_gpu=True, runs_network=True),
    "torch_cuda_compiled": Contender(torch_cuda_compiled, needs_gpu=True, runs_network=True),
    "tensorrt_graph": Contender(tensorrt_graph, needs_gpu=True),
    "tensorrt_enqueue": Contender(tensorrt_enqueue, needs_gpu=True),
    "tensorrt_rtx": Contender(tensorrt_rtx, needs_gpu=True),
}
