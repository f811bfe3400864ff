"""The cache of optimised graphs: it may speed up a start, and may never change or stop one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.engines import cache as engine_cache
from sefa_edge.edge.engines.engine import EngineOptions
from sefa_edge.edge.engines.opening import open_engine

KEY = engine_cache.cache_key("a" * 64, "onnxruntime 1.2.3", "CPU")
ALWAYS, NEVER = EngineOptions(cache_above_ms=0.0), EngineOptions(cache_above_ms=float("inf"))
EngineMaker = Callable[[Path], Path]


def writer(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of stored graphs, once there is one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sefa-edge" / "onnxruntime"


def chunk(engine: Path, options: EngineOptions) -> np.ndarray:
    opened = open_engine(engine, options)
    images = {"front": np.full((1, 96, 96, 3), 77, np.uint8)}
    found = opened.infer(images, np.full((1, 6), 3.0, np.float32), np.ones((16, 6), np.float32)).copy()
    opened.close()
    return found


def test_returns_what_was_stored_and_nothing_else(folder: Path) -> None:
    assert engine_cache.load(KEY) is None
    assert not folder.exists()  # loading creates nothing
    engine_cache.store(KEY, writer(b"a graph"))
    assert engine_cache.load(KEY) == b"a graph"
    assert folder.stat().st_mode & 0o077 == 0
    assert [file.name for file in folder.iterdir()] == [f"{KEY}.graph"]


@pytest.mark.parametrize(
    "facts",
    [
        ("b" * 64, "onnxruntime 1.2.3", "CPU"),
        ("a" * 64, "onnxruntime 1.2.4", "CPU"),
        ("a" * 64, "onnxruntime 1.2.3", ""),
    ],
)
def test_another_engine_version_or_option_is_another_key(folder: Path, facts: tuple[str, str, str]) -> None:
    engine_cache.store(KEY, writer(b"a graph"))
    other = engine_cache.cache_key(*facts)
    assert engine_cache.load(other) is None
    (folder / f"{KEY}.graph").rename(folder / f"{other}.graph")
    assert engine_cache.load(other) is None  # a file under another key's name


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 32, b"\0" * 39])
def test_damaged_file_is_ignored(folder: Path, damage: bytes) -> None:
    engine_cache.store(KEY, writer(b"a graph"))
    (folder / f"{KEY}.graph").write_bytes(damage)
    assert engine_cache.load(KEY) is None


@pytest.mark.parametrize("position", [0, 31, 32, -1])
def test_one_flipped_bit_is_damage(folder: Path, position: int) -> None:
    engine_cache.store(KEY, writer(b"a graph"))
    path = folder / f"{KEY}.graph"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert engine_cache.load(KEY) is None


def test_a_folder_that_others_can_write_to_is_not_trusted(folder: Path) -> None:
    engine_cache.store(KEY, writer(b"a graph"))
    folder.chmod(0o777)
    assert engine_cache.load(KEY) is None
    engine_cache.store(KEY, writer(b"another"))
    folder.chmod(0o700)
    assert engine_cache.load(KEY) == b"a graph"


def test_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    engine_cache.store(KEY, writer(b"a graph"))
    assert engine_cache.load(KEY) is None


def test_writer_that_fails_leaves_nothing(folder: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    engine_cache.store(KEY, full)
    assert list(folder.iterdir()) == []


def test_a_large_graph_is_not_stored(folder: Path) -> None:
    def large(path: Path) -> None:
        path.touch()
        os.truncate(path, engine_cache.MAX_BYTES + 1)

    engine_cache.store(KEY, large)
    assert list(folder.iterdir()) == []


def test_oldest_graphs_are_forgotten(folder: Path) -> None:
    keys = [engine_cache.cache_key(f"{number:064x}", "", "") for number in range(engine_cache.MAX_FILES + 2)]
    for age, key in enumerate(keys):
        engine_cache.store(key, writer(b"a graph"))
        os.utime(folder / f"{key}.graph", (age, age))
    engine_cache.store(KEY, writer(b"the newest"))
    assert len(list(folder.iterdir())) == engine_cache.MAX_FILES
    assert engine_cache.load(keys[0]) is None
    assert engine_cache.load(KEY) == b"the newest"


def test_xdg_home_and_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says to ignore it
    engine_cache.store(KEY, writer(b"a graph"))
    assert (tmp_path / ".cache" / "sefa-edge" / "onnxruntime" / f"{KEY}.graph").is_file()
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    engine_cache.store(KEY, writer(b"a graph"))
    assert engine_cache.load(KEY) is None


@pytest.mark.slow
def test_writers_at_the_same_time(folder: Path) -> None:
    program = (
        "import sys; from sefa_edge.edge.engines import cache as engine_cache\n"
        "for _ in range(50):\n"
        "    engine_cache.store(sys.argv[1], lambda path: path.write_bytes(sys.argv[2].encode() * 20_000))\n"
        "    content = engine_cache.load(sys.argv[1])\n"
        "    assert content is not None and content[:1] * 20_000 == content, 'mixed'\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, KEY, letter]) for letter in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert [file.name for file in folder.iterdir()] == [f"{KEY}.graph"]


def test_engine_acts_the_same_from_the_cache(folder: Path, reach_engine: Path) -> None:
    expected = chunk(reach_engine, NEVER)
    assert not folder.exists()
    np.testing.assert_array_equal(chunk(reach_engine, ALWAYS), expected)
    (kept,) = folder.iterdir()
    written_ns = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(chunk(reach_engine, ALWAYS), expected)
    assert kept.stat().st_mtime_ns == written_ns  # found, hence not made again


def test_a_damaged_cache_is_replaced(folder: Path, reach_engine: Path) -> None:
    expected = chunk(reach_engine, ALWAYS)
    (kept,) = folder.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1])
    np.testing.assert_array_equal(chunk(reach_engine, ALWAYS), expected)
    assert engine_cache.load(kept.stem) is not None


def test_a_valid_cache_file_without_a_graph_does_no_harm(folder: Path, reach_engine: Path) -> None:
    expected = chunk(reach_engine, ALWAYS)
    (kept,) = folder.iterdir()
    engine_cache.store(kept.stem, writer(b"whole, and nonsense"))
    np.testing.assert_array_equal(chunk(reach_engine, ALWAYS), expected)


@pytest.mark.slow
def test_engine_opens_on_a_full_disk(folder: Path, reach_engine: Path) -> None:
    # A limit on file sizes makes every write fail as a full disk does, in ONNX Runtime's code too.
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from sefa_edge.edge.engines.engine import EngineOptions\n"
        "from sefa_edge.edge.engines.opening import open_engine\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
        "open_engine(Path(sys.argv[1]), EngineOptions(cache_above_ms=0.0)).close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(reach_engine)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_engine_opens_beside_a_read_only_cache(folder: Path, reach_engine: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    expected = chunk(reach_engine, NEVER)
    np.testing.assert_array_equal(chunk(reach_engine, ALWAYS), expected)
    assert list(folder.iterdir()) == []
