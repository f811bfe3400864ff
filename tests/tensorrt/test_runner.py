"""The runner with the real TensorRT-RTX on a stand-in driver: errors of NVIDIA's library are reported, memory released.

The library needs more driver functions than the stand-in has and reports that; no more is possible without a GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sefa_edge.profiles.card import card_path, load_card, save_card

PROGRAM = """
import ctypes, json, sys
from pathlib import Path
from sefa_edge.edge.engines.cuda.device import CudaOptions
from sefa_edge.edge.engines.engine import EngineOptions, PlanOptions
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.profiles.errors import SefaError
plan, driver = sys.argv[1:]
device = CudaOptions(library=driver, context_owner="driver")
try:
    open_engine(Path(plan), EngineOptions(plan=PlanOptions(device=device)))
except SefaError as error:
    output = {"kind": type(error).__name__, "message": str(error), "hint": error.hint, "exit_code": error.exit_code}
try:
    output["live"] = ctypes.CDLL(driver).stub_live(None)
except OSError:
    output["live"] = 0
print(json.dumps(output))
"""
Open = Callable[[Path, Path], dict[str, object]]


@pytest.fixture
def plan(
    sefa_edge: Callable[..., subprocess.CompletedProcess[str]],
    rtx: Path,
    make_reach_engine: Callable[[Path], Path],
    tmp_path: Path,
) -> Path:
    built = tmp_path / "model.plan"
    options = ("--backend", "tensorrt-rtx", "--compute-capability", "SM86")
    done = sefa_edge("build", make_reach_engine(tmp_path), "-o", built, *options, python=(rtx,))
    assert done.returncode == 0, done.stderr
    card = load_card(
        built
    )  # changed to the stand-in's GPU, which TensorRT-RTX cannot build for, so that the plan is opened
    assert card.plan is not None
    save_card(card.model_copy(update={"plan": card.plan.model_copy(update={"gpu_name": "SM87"})}), built)
    return built


@pytest.fixture
def open_plan(rtx: Path, with_paths: Callable[..., dict[str, str]]) -> Open:
    def run(plan: Path, driver: Path) -> dict[str, object]:
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(plan), str(driver)]
        done = subprocess.run(
            command, env=with_paths((rtx,), ()), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{done.returncode}: {done.stderr}"  # negative: it crashed
        return json.loads(done.stdout)

    return run


def test_the_librarys_reason_is_reported_and_everything_released(
    open_plan: Open, plan: Path, stand_in_driver: Path
) -> None:
    output = open_plan(plan, stand_in_driver)
    assert (output["kind"], output["exit_code"], output["live"]) == ("EngineError", 2, 0)
    assert "TensorRT rejects" in str(output["message"])
    assert "CUDA driver version is insufficient" in str(output["message"])
    assert "sefa-edge build" in str(output["hint"])


def test_without_a_driver_the_library_is_never_called(open_plan: Open, plan: Path) -> None:
    output = open_plan(plan, Path("libcuda-absent.so.1"))
    assert (output["kind"], output["exit_code"]) == ("MissingError", 4)
    assert "no NVIDIA GPU: the NVIDIA driver is not installed" in str(output["message"])


def test_another_version_and_another_card_are_refused_before_the_library(
    open_plan: Open, plan: Path, stand_in_driver: Path
) -> None:
    card = json.loads(card_path(plan).read_text())
    content = plan.read_bytes()
    card["plan"]["library_version"] = "1.6.0.10"
    card_path(plan).write_text(json.dumps(card))
    assert "its card says 1.6.0.10" in str(open_plan(plan, stand_in_driver)["message"])
    plan.write_bytes(content[:-1])
    assert "not the file that its card describes" in str(open_plan(plan, stand_in_driver)["message"])
