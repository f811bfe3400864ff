"""Every call of our builder and our runner exists, with that signature, in every supported TensorRT."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
CHECKER = Path(__file__).with_name("api_use.py")
SOURCES = (ROOT / "export/plan/tensorrt_builder.py", ROOT / "edge/engines/tensorrt_plan.py")
VERSIONS = {
    "8.6.1": "tensorrt-bindings",
    "10.3.0": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu12-bindings",
    "11.0.0.114": "tensorrt-cu13-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
NEWEST_PYTHON_OF = {"8.6.1": (3, 11)}
"""JetPack 6.0 has it for Python 3.10; the registry has no newer one."""
CAPABILITIES = {  # strongly typed, weakly typed
    "8.6.1": (False, True),
    "10.3.0": (True, True),
    "10.16.1.11": (True, True),
    "11.0.0.114": (True, False),
    "11.4.0.106": (True, False),
}
BREAKS = [
    ("config.set_memory_pool_limit(", "config.set_memory_pool_limits(", "has no 'set_memory_pool_limits'"),
    ("config.set_timing_cache(cache, False)", "config.set_timing_cache(cache)", "no overload takes these arguments"),
    ("trt.OnnxParser(network, logger)", "trt.OnnxParser(network)", "no overload takes these arguments"),
    ("config.builder_optimization_level = ", "config.max_workspace_size = ", "has no 'max_workspace_size'"),
    ("parser.num_errors", "parser.num_error", "has no 'num_error'"),
    ("def step_complete(", "def step_completed(", "has no 'step_completed'"),
    ('"FP16", ', "", "BuilderFlag has no 'FP16'"),
    ("network = builder.create_network(", "network = unknown().create_network(", "cannot determine what"),
]
"""Deliberate mistakes in the builder, and the expected messages with TensorRT 11.4."""

available = [
    version for version in VERSIONS if sys.version_info[:2] <= NEWEST_PYTHON_OF.get(version, sys.version_info[:2])
]
Report = dict[str, Any]
Check = Callable[..., Report]


@pytest.fixture(scope="module")
def check(
    package: Callable[[str, str], Path],
    stub_libraries: Callable[[int], Path],
    with_paths: Callable[..., dict[str, str]],
) -> Check:
    """Runs the checker on sources with the bindings of one version."""

    @cache
    def run(version: str, *arguments: Path | str) -> Report:
        bindings = package(VERSIONS[version], version)
        stubs = stub_libraries(int(version.split(".")[0]))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(CHECKER), *map(str, arguments)],
            env=with_paths((bindings,), (stubs,)), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["version"] == version
        return report

    return run


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", available)
def test_every_use_exists_with_its_signature(check: Check, version: str, source: Path) -> None:
    assert check(version, *SOURCES)[source.name]["problems"] == []


@pytest.mark.parametrize("version", available)
def test_the_check_follows_the_builder_to_its_end(check: Check, version: str) -> None:
    used = set(check(version, *SOURCES)["tensorrt_builder.py"]["used"])
    assert {"ILogger.log", "OnnxParser.parse", "IBuilderConfig.set_timing_cache", "ITimingCache.serialize"} <= used


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_optional_features_are_in_some_versions_and_not_in_others(
    check: Check, rtx: Path, with_paths: Callable[..., dict[str, str]], source: Path
) -> None:
    reports = [check(version, *SOURCES)[source.name] for version in available]
    done = subprocess.run(
        [sys.executable, str(CHECKER), str(source)],
        env=with_paths((rtx,), ()), capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    reports.append(json.loads(done.stdout)[source.name])
    assert reports[-1]["problems"] == []
    present, absent = (
        {name.split("_bindings.")[-1] for report in reports for name in report[key]}
        for key in ("optional_present", "optional_absent")
    )
    assert absent - present == set()
    if len(available) == len(VERSIONS):
        assert present - absent == set()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_misspelling_is_noticed(check: Check, source: Path) -> None:
    report = check("10.3.0", source, "--misspell")
    assert report[source.name]["unnoticed"] == []


@pytest.mark.parametrize(("right", "wrong", "message"), BREAKS, ids=lambda text: text[:40])
def test_mistakes_are_found(check: Check, tmp_path: Path, right: str, wrong: str, message: str) -> None:
    source = SOURCES[0].read_text(encoding="utf-8")
    assert right in source
    broken = tmp_path / "broken.py"
    broken.write_text(source.replace(right, wrong), encoding="utf-8")
    problems = check("11.4.0.106", broken)["broken.py"]["problems"]
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize("version", available)
def test_the_features_of_a_version_are_found_without_its_number(
    package: Callable[[str, str], Path],
    stub_libraries: Callable[[int], Path],
    with_paths: Callable[..., dict[str, str]],
    version: str,
) -> None:
    program = """
from sefa_edge.export.plan.tensorrt_builder import describe_library, load_library
print(describe_library(load_library("tensorrt")).model_dump_json())
"""
    paths = with_paths((package(VERSIONS[version], version),), (stub_libraries(int(version.split(".")[0])),))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=paths, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    typed, weak = CAPABILITIES[version]
    assert json.loads(done.stdout) == {
        "kind": "library",
        "version": version,
        "strongly_typed": typed,
        "weakly_typed": weak,
        "compute_capabilities": [],
    }


@pytest.mark.parametrize("version", available)
def test_the_command_runs_up_to_the_missing_gpu(
    package: Callable[[str, str], Path],
    stub_libraries: Callable[[int], Path],
    stub_cuda: Path,
    sefa_edge: Callable[..., subprocess.CompletedProcess[str]],
    reach_engine: Path,
    tmp_path: Path,
    version: str,
) -> None:
    """The whole command with real bindings: the driver is a stub, so TensorRT must fail with a one-line error."""
    done = sefa_edge(
        "build", reach_engine.parent, "-o", tmp_path / "model.plan",
        python=(package(VERSIONS[version], version),),
        libraries=(stub_libraries(int(version.split(".")[0])), stub_cuda),
    )  # fmt: skip
    if version == "8.6.1":  # reads opset 17 at most, and this engine has 18: refused before anything is built
        assert done.returncode == 2
        assert "error: TensorRT 8.6.1 can build nothing from model.onnx, not fp32" in done.stderr
        assert "opset 17" in done.stderr
    else:
        assert done.returncode == 4
        assert "error: TensorRT cannot use the GPU of this machine" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model.plan").exists()
