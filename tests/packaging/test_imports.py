"""Import rules, tested by importing in a process; and that the import contracts detect a violation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("edge", "export", "firmware_bridge", "models", "profiles")
HEAVY = ("torch", "onnx", "safetensors", "onnxruntime", "tensorrt", "cv2", "mujoco", "av", "pyarrow", "lerobot")
LEARNING = ("torch", "onnx", "safetensors")


@pytest.mark.parametrize(
    ("module", "kept_out"),
    [
        ("sefa_edge.cli", (*HEAVY, "numpy", "pydantic", "yaml")),
        ("sefa_edge.edge.control.control_process", (*HEAVY, "logging", "asyncio")),
        ("sefa_edge.edge.run.supervisor", (*HEAVY, "yaml", "logging", "asyncio")),
        ("sefa_edge.edge.cameras.camera_process", (*HEAVY, "yaml", "logging", "asyncio")),
        ("sefa_edge.edge.policy.policy_process", (*HEAVY, "yaml", "logging", "asyncio")),
        ("sefa_edge.edge.control.safety", HEAVY),
        ("sefa_edge.edge.tools.arm_moves.command", (*HEAVY, "numpy", "pydantic", "serial")),
        ("sefa_edge.edge.control.paced", HEAVY),
        ("sefa_edge.edge.run.command", HEAVY),
        ("sefa_edge.edge.tools.inspection.command", HEAVY),
        ("sefa_edge.profiles.latency.page", HEAVY),
        ("sefa_edge.profiles.recording.windows", HEAVY),
        ("sefa_edge.profiles.verification", HEAVY),
    ],
)
def test_import_stays_light(module: str, kept_out: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*({set(kept_out)!r} & set(sys.modules)))"
    assert _python(program).split() == []


def test_running_half_imports_without_the_learning_libraries() -> None:
    modules = [
        "sefa_edge." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in ("edge", "firmware_bridge", "profiles")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (path.parent / "__init__.py").exists() and not path.name.startswith("__")
        if not {"_root", "lerobot_robot"} & set(path.parts)
    ]
    program = f"""
import importlib, sys
for name in {LEARNING!r}:
    sys.modules[name] = None  # any import of it fails
for name in {modules!r}:
    importlib.import_module(name)
print(len({modules!r}))
"""
    assert int(_python(program)) > 30


def test_type_checker_links_equal_the_folders() -> None:
    links = [path for path in (ROOT / ".typing" / "sefa_edge").iterdir() if path.name != "__pycache__"]
    expected = {*FOLDERS, *(path.name for path in (ROOT / "edge" / "_root").iterdir() if path.is_file())}
    assert {path.name for path in links} == expected
    assert all(path.is_symlink() and path.exists() for path in links)
    for path in links:
        home = ROOT / (path.name if path.name in FOLDERS else f"edge/_root/{path.name}")
        assert path.resolve() == home.resolve()


def test_only_package_folders_are_packages() -> None:
    assert not (ROOT / "__init__.py").exists()
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_module_shadows_a_library() -> None:
    taken = set(sys.stdlib_module_names) | {
        "onnx",
        "torch",
        "serial",
        "yaml",
        "cv2",
        "mujoco",
        "av",
        "numpy",
        "tensorrt",
    }
    own = {path.stem for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not path.stem.startswith("__")}
    assert own & taken == set()


def test_contracts_are_kept() -> None:
    done = _lint_imports(ROOT / ".typing", ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.once
@pytest.mark.parametrize(
    ("home", "line"),
    [
        ("edge/control/safety.py", "import torch"),
        ("edge/control/safety.py", "import cv2"),
        ("edge/control/paced.py", "import lerobot"),
        ("edge/control/safety.py", "from sefa_edge.models import flow"),
        ("models/flow.py", "from sefa_edge.edge.control import safety"),
        ("profiles/units.py", "from sefa_edge.edge.control import safety"),
        ("firmware_bridge/host/arm.py", "from sefa_edge.edge.control import safety"),
        ("edge/ipc/transport.py", "from sefa_edge.edge.control import loop"),  # a room of a higher layer
        ("edge/control/loop.py", "from sefa_edge.edge.run import watch"),
        ("edge/cameras/camera.py", "from sefa_edge.edge.cameras import opening"),  # a cycle inside a room
        ("firmware_bridge/host/arm.py", "from sefa_edge.firmware_bridge.service import scan"),
        ("firmware_bridge/simulation/bus.py", "from sefa_edge.firmware_bridge.service import scan"),
        ("profiles/errors.py", "from sefa_edge.profiles import schema"),
    ],
)
def test_contracts_detect_a_violation(tmp_path: Path, home: str, line: str) -> None:
    package = tmp_path / "path" / "sefa_edge"
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, package / folder, ignore=shutil.ignore_patterns("__pycache__", "_root", "*.onnx")
        )
    (package / "__init__.py").touch()
    with (package / home).open("a") as file:
        file.write(f"\n{line}\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = _lint_imports(tmp_path / "path", tmp_path)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout


def _lint_imports(python_path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("importlinter")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(python_path)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def _python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
