"""The runner with an opened engine: a stand-in library on the stand-in driver."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sefa_edge.profiles.card import PlanSpec, card_path
from sefa_edge.profiles.files import sha256_of

HEADER = b"ftrt" + bytes(20) + bytes([10, 3, 0, 0]) + bytes(36)
TENSORS = {
    "image_front": ("INPUT", "UINT8", [1, 96, 96, 3]),
    "joints": ("INPUT", "FLOAT", [1, 6]),
    "noise": ("INPUT", "FLOAT", [16, 6]),
    "chunk": ("OUTPUT", "FLOAT", [16, 6]),
}
SPEC = PlanSpec(
    onnx_sha256="0" * 64,
    library_version="10.3.0",
    cuda_version="12.6",
    compute_capability="8.7",
    gpu_name="Stand-in",
    board=None,
    l4t=None,
    power_mode=None,
    workspace_mib=256,
    optimisation_level=3,
    build_seconds=1.0,
)
PROGRAM = """
import ctypes, json, os, sys
import numpy as np
from pathlib import Path
from sefa_edge.edge.engines.cuda.device import CudaOptions
from sefa_edge.edge.engines.engine import EngineOptions, PlanOptions
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.profiles.errors import SefaError
plan, launch = sys.argv[1:]
driver = os.environ["STAND_IN_DRIVER"]
device = CudaOptions(library=driver, context_owner="driver")
options = EngineOptions(plan=PlanOptions(device=device, launch=launch, warm_up_runs=3, warm_up_s=0.0))
stub = ctypes.CDLL(driver)
calls = lambda name: stub.stub_calls(name.encode())
printed = {"error": "", "hint": ""}
try:
    engine = open_engine(Path(plan), options)
    enqueued, launched = calls("stub_enqueue_add"), calls("cuGraphLaunch")
    pictures, joints = {"front": np.ones((1, 96, 96, 3), np.uint8)}, np.zeros((1, 6), np.float32)
    differences, answers = [], []
    for seed in range(4):
        noise = np.random.default_rng(seed).standard_normal((16, 6), np.float32)
        answers.append(engine.infer(pictures, joints, noise))
        differences.append(float(np.abs(answers[-1] - (noise + np.float32(0.5))).max()))
    printed |= {
        "largest": max(differences),
        "same_array": all(answer is answers[0] for answer in answers),
        "enqueued": calls("stub_enqueue_add") - enqueued,
        "launched": calls("cuGraphLaunch") - launched,
        "device_ms": engine.device_ms(),
    }
    try:
        engine.infer(pictures, joints.astype(np.float64), noise)
    except SefaError as error:
        printed["wrong_input"] = str(error)
    engine.close()
    printed["after_close"] = float(answers[0].sum())  # the caller can still read it
except SefaError as error:
    printed |= {"error": type(error).__name__ + ": " + str(error), "hint": error.hint}
print(json.dumps({**printed, "live": stub.stub_live(None)}))
"""
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(stand_in_driver: Path, make_reach_engine: Callable[[Path], Path], tmp_path: Path) -> Run:
    """Opens a plan in a separate process, infers four times and closes it."""

    def opened(launch: str = "graph", fails: str = "", tensors: dict = TENSORS, **variables: str) -> dict[str, Any]:
        card = json.loads(card_path(make_reach_engine(tmp_path)).read_text())
        plan = tmp_path / "model.plan"
        plan.write_bytes(HEADER + json.dumps({"tensors": tensors, "fails": fails}).encode())
        printed = {"engine_file": plan.name, "engine_sha256": sha256_of(plan), "format": "tensorrt"}
        card_path(plan).write_text(json.dumps(card | printed | {"plan": SPEC.model_dump()}))
        paths = os.pathsep.join([str(Path(__file__).parent / "stand_in"), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(plan), launch],
            env={**os.environ, "PYTHONPATH": paths, "STAND_IN_DRIVER": str(stand_in_driver), **variables},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout), "notes": done.stderr}

    return opened


@pytest.mark.parametrize("integrated", ["1", ""], ids=["integrated", "discrete"])
@pytest.mark.parametrize("launch", ["graph", "enqueue"])
def test_every_call_returns_the_result_for_its_own_noise(run: Run, launch: str, integrated: str) -> None:
    printed = run(launch, **({"STUB_CUDA_INTEGRATED": integrated} if integrated else {}))
    assert printed["error"] == ""
    assert printed["largest"] == 0
    assert printed["same_array"]
    assert (printed["launched"], printed["enqueued"]) == ((4, 0) if launch == "graph" else (0, 4))
    assert "joints: got float64" in printed["wrong_input"]
    assert printed["live"] == 0  # no driver object is left after close
    assert printed["notes"] == ""


@pytest.mark.parametrize("function", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_failed_capture_is_reported_and_kernels_are_enqueued(run: Run, function: str) -> None:
    printed = run(STUB_CUDA_FAIL=f"{function}:900")
    assert (printed["error"], printed["largest"], printed["launched"], printed["enqueued"]) == ("", 0, 0, 4)
    assert printed["notes"].startswith("note: no CUDA graph, every inference is enqueued kernel by kernel")
    assert printed["live"] == 0


@pytest.mark.parametrize(
    ("fails", "error"),
    [
        ("deserialise", "EngineError: TensorRT rejects .*Version tag does not match"),
        ("context", "FaultError: TensorRT cannot prepare"),
        ("address", "FaultError: TensorRT rejects the address of"),
        ("run 2", "FaultError: TensorRT does not run the plan: an illegal memory access"),
    ],
)
def test_library_errors_are_reported_and_everything_is_released(run: Run, fails: str, error: str) -> None:
    printed = run(fails=fails)
    assert re.match(error, printed["error"]), printed["error"]
    assert printed["live"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"chunk": ("OUTPUT", "HALF", [16, 6])},
            "'chunk' is output DataType.HALF [16, 6], its card says output float32",
        ),
        ({"noise": ("INPUT", "FLOAT", [8, 6])}, "'noise' is input float32 [8, 6], its card says input float32 [16, 6]"),
        ({"extra": ("INPUT", "FLOAT", [1])}, "has tensors ['chunk', 'extra', 'image_front', 'joints', 'noise']"),
    ],
)
def test_a_plan_with_other_tensors_is_refused(run: Run, change: dict, message: str) -> None:
    printed = run(tensors=TENSORS | change)
    assert message in printed["error"]
    assert "build it again" in printed["hint"]
    assert printed["live"] == 0
