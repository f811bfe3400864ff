"""The wheel contains the package and nothing else, and works anywhere without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("edge", "export", "firmware_bridge", "models", "profiles")
PLUGIN = "edge/lerobot_robot"
DATA_SUFFIXES = (".yaml", ".json", ".html", ".css", ".typed", ".c", ".rules")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that no `build/` of an earlier one leaks in."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    source.mkdir()
    for name in (*FOLDERS, ".typing"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it."""
    target = tmp_path_factory.mktemp("site")
    _pip("install", "--no-deps", "--target", str(target), str(wheel))
    return target


def test_the_wheel_contains_exactly_the_sources(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in shipped} == {"sefa_edge"}
    code = {name for name in shipped if name.endswith(".py")}
    assert code == _expected_code()
    foreign = {name for name in shipped - code if not name.endswith(DATA_SUFFIXES)}
    assert {Path(name).suffix for name in foreign} <= {".onnx"}


def test_the_wheel_contains_the_data_files_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = archive.namelist()
    expected = {
        f"sefa_edge/{path.relative_to(ROOT).as_posix()}"
        for pattern in (
            "profiles/**/*.yaml",
            "profiles/**/*.json",
            "profiles/**/*.html",
            "edge/tools/bench_loop/*.c",
            "firmware_bridge/udev/*.rules",
            "edge/shipped/**/*.onnx",
            "edge/shipped/**/*.json",
        )
        for path in ROOT.glob(pattern)
    }
    assert expected <= set(shipped)
    licences = {Path(name).name for name in shipped if ".dist-info/" in name}
    assert {"LICENSE", "NOTICE"} <= licences


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_installed_command_works_from_elsewhere(site: Path, arguments: list[str]) -> None:
    command = _run([str(site / "bin" / "sefa-edge"), *arguments], site)
    assert "sefa-edge" in command.stdout
    module = _run([sys.executable, "-m", "sefa_edge", *arguments], site)
    assert module.stdout == command.stdout


def test_installed_package_is_the_one_that_runs(site: Path) -> None:
    shown = _run([sys.executable, "-c", "import sefa_edge.profiles as p; print(p.__file__)"], site)
    assert Path(shown.stdout.strip()).is_relative_to(site)


def test_installed_package_finds_its_data_files(site: Path) -> None:
    program = "from sefa_edge.profiles import arms as s; print(*map(s.load_arm_profile, s.shipped_arms()))"
    assert "so101" in _run([sys.executable, "-c", program], site).stdout


@pytest.mark.parametrize("name", [*FOLDERS, "_root", "setup", "tests"])
def test_no_top_level_name_leaks(site: Path, name: str) -> None:
    program = f"import importlib.util as u; s = u.find_spec({name!r}); print(s and s.origin)"
    origin = _run([sys.executable, "-c", program], site).stdout.strip()
    assert not origin.startswith((str(site), str(ROOT)))


def test_lerobot_plugin_is_a_separate_distribution(tmp_path: Path) -> None:
    """LeRobot finds distributions by name and imports the module of the same name: underscores must be kept."""
    shutil.copytree(ROOT / PLUGIN, tmp_path / "plugin", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(tmp_path / "plugin"))
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    assert "Name: lerobot_robot_sefa_edge\n" in metadata
    assert "Requires-Dist: sefa-edge\n" in metadata
    code = {name for name in names if ".dist-info/" not in name}
    assert code == {path.relative_to(ROOT / PLUGIN).as_posix() for path in (ROOT / PLUGIN).glob("lerobot_*/*.py")}


def _expected_code() -> set[str]:
    """Every module of every package folder; `profiles/benchmarks` contains programs, which are not installed, and the
    LeRobot plugin is a separate distribution."""
    root = {f"sefa_edge/{path.name}" for path in (ROOT / "edge" / "_root").glob("*.py")}
    modules = {
        f"sefa_edge/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if (path.parent / "__init__.py").exists() and not {"_root", "lerobot_robot"} & set(path.parts)
    }
    return root | modules


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _run(command: list[str], site: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done
