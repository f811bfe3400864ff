"""NVIDIA's real bindings and libraries, downloaded once into .cache/, and C stubs for what needs a GPU."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
CACHE = ROOT / ".cache" / "tensorrt"
STUB_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")
RTX = (("tensorrt-rtx-cu13-bindings", "1.7.1.116"), ("tensorrt-rtx-cu13-libs", "1.7.1.116"))
Command = Callable[..., "subprocess.CompletedProcess[str]"]
Package = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def package() -> Package:
    """The folder of an unpacked registry package of this version."""
    if platform.machine() != "x86_64":
        pytest.skip("these packages are for x86_64")

    def unpacked(name: str, version: str) -> Path:
        with _filling_cache():
            return _unpacked(name, version)

    return unpacked


@pytest.fixture(scope="session")
def rtx(package: Package) -> Path:
    """A folder for PYTHONPATH with TensorRT-RTX: parser, compiler and bindings."""
    site = CACHE / f"rtx-{RTX[0][1]}-cp{sys.version_info[0]}{sys.version_info[1]}"
    folders = [package(name, version) for name, version in RTX]
    with _filling_cache():
        if not site.exists():
            partial = site.with_name(site.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            for folder in folders:
                shutil.copytree(folder, partial, dirs_exist_ok=True, copy_function=os.link)
            partial.replace(site)
    return site


@pytest.fixture(scope="session")
def stub_libraries(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A folder of stub libraries with the soname of a major version."""

    def build(major: int) -> Path:
        folder = tmp_path_factory.mktemp(f"stubs-{major}-")
        for name in STUB_LIBRARIES:
            _compile(HERE / "stub_libraries.c", folder / f"lib{name}.so.{major}")
        return folder

    return build


@pytest.fixture(scope="session")
def stub_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the libcuda.so.1 of an Orin."""
    folder = tmp_path_factory.mktemp("cuda")
    _compile(HERE / "stub_cuda.c", folder / "libcuda.so.1")
    return folder


@pytest.fixture(scope="session")
def stand_in_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libcuda.so.1 whose device is the host."""
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    _compile(ROOT / "tests/rigs/stub_libcuda.c", library)
    return library


@contextmanager
def _filling_cache() -> Iterator[None]:
    """Lets only one worker of a test run download and unpack at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpacked(name: str, version: str) -> Path:
    wheel = _wheel(name, version)
    folder = CACHE / wheel.stem
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(partial)
        partial.replace(folder)
    return folder


def _wheel(name: str, version: str) -> Path:
    wheels = CACHE / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    tags = (f"cp{sys.version_info[0]}{sys.version_info[1]}", "py3")
    patterns = [f"{name.replace('-', '_')}-{version}-{tag}-*.whl" for tag in tags]
    found = [path for pattern in patterns for path in wheels.glob(pattern)]
    if not found:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
        options = ["--no-deps", "--only-binary=:all:", "--dest", str(wheels), f"{name}=={version}"]
        done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
        found = [path for pattern in patterns for path in wheels.glob(pattern)]
        if done.returncode != 0 or not found:
            _skip_or_fail(f"{name} {version} is not in {wheels} and cannot be fetched: {done.stderr.strip()[-300:]}")
    return found[0]


def _compile(source: Path, library: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        _skip_or_fail("no C compiler for the stub libraries")
        return
    command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)


def _skip_or_fail(reason: str) -> None:
    """Skips here, but fails in continuous integration, where these tests must not go missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def sefa_edge() -> Command:
    """Runs `sefa-edge ARGUMENTS` to its end, with additions to the paths of Python and of the loader."""

    def run(*arguments: str | Path, python: tuple[Path, ...] = (), libraries: tuple[Path, ...] = ()):
        environment = environment_with(python, libraries)
        command = [sys.executable, "-m", "sefa_edge", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


def environment_with(python: tuple[Path, ...], libraries: tuple[Path, ...]) -> dict[str, str]:
    paths = {"PYTHONPATH": python, "LD_LIBRARY_PATH": libraries}
    joined = {
        name: os.pathsep.join([*map(str, added), *filter(None, [os.environ.get(name, "")])])
        for name, added in paths.items()
    }
    return {**os.environ, **{name: value for name, value in joined.items() if value}}


@pytest.fixture(scope="session")
def with_paths() -> Callable[[tuple[Path, ...], tuple[Path, ...]], dict[str, str]]:
    return environment_with
