"""Writing never destroys: files are complete or absent, links are kept, pipes and devices are written directly."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import output_folder, staged, writable, write_atomic


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".sefa-edge")]


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    write_atomic(tmp_path / "report.json", b"new")
    os.umask(before)
    assert stat.S_IMODE((tmp_path / "report.json").stat().st_mode) == 0o640
    assert leftovers(tmp_path) == []


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    path.chmod(0o604)
    write_atomic(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o604)


@pytest.mark.parametrize("exists", [True, False])
def test_links_are_followed(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target.json"
    if exists:
        target.write_text("old")
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.symlink_to("elsewhere/target.json")
    second.symlink_to("first.json")
    write_atomic(writable(second), b"new")
    assert first.is_symlink()
    assert second.is_symlink()
    assert target.read_bytes() == b"new"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "is a folder, not a file"),
        ("loop", "Too many levels of symbolic links"),
        ("nowhere/report.json", "the folder .*nowhere does not exist"),
        ("dangling", "the folder .*nowhere does not exist"),
        ("socket", "is a socket, not a file"),
        ("file/report.json", "does not exist|Not a directory"),
    ],
)
def test_a_path_that_cannot_be_a_file_is_refused_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    import socket

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere/report.json")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(InputError, match=message) as caught:
            writable(tmp_path / name)
        assert caught.value.hint
        with pytest.raises(InputError):
            write_atomic(tmp_path / name, b"new")
    assert (tmp_path / "folder").is_dir()
    assert (tmp_path / "loop").is_symlink()


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_atomic(writable(path), b"x" * 200_000)
    reader.join()
    assert read == [b"x" * 200_000]
    assert path.is_fifo()


@pytest.mark.parametrize("write", [lambda path: write_atomic(path, b"new"), lambda path: write_staged(path)])
def test_devices_are_not_replaced(write) -> None:
    before = os.stat("/dev/full"), os.stat("/dev/null")
    write(Path("/dev/null"))
    with pytest.raises(InputError, match="/dev/full cannot be written: No space left on device"):
        write(Path("/dev/full"))
    after = os.stat("/dev/full"), os.stat("/dev/null")
    assert [(status.st_mode, status.st_ino) for status in before] == [(s.st_mode, s.st_ino) for s in after]


def write_staged(path: Path) -> None:
    with staged(path) as temporary:
        temporary.write_bytes(b"new")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(b"old")
    with suppress(ZeroDivisionError), staged(path) as temporary:
        assert temporary.suffix == ".plan"
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        with pytest.raises(InputError, match="cannot be written: File too large"):
            write_atomic(path, b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_folders_that_stayed_empty_are_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "there" / "a" / "b"):
        raise ZeroDivisionError
    assert list((tmp_path / "there").iterdir()) == []
    with suppress(ZeroDivisionError), output_folder(tmp_path / "kept") as folder:
        (folder / "result").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "kept" / "result").exists()


# -- the option --json of a command ------------------------------------------------------------------------------------


def inspect(engine: Path, report: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "sefa_edge", "inspect", str(engine), "--json", report]
    options: dict[str, Any] = {"capture_output": True} | streams
    return subprocess.run(command, **options)


@pytest.mark.slow
def test_reports_to_dev_stdout_go_where_standard_output_goes(reach_engine: Path, tmp_path: Path) -> None:
    expected = inspect(reach_engine, "-").stdout
    assert expected.startswith(b"{")
    for report in ("/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"):
        done = inspect(reach_engine, report)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    with (tmp_path / "out").open("wb") as output:
        inspect(reach_engine, "/dev/stdout", capture_output=False, stdout=output, check=True)
    assert expected in (tmp_path / "out").read_bytes()
    done = inspect(reach_engine, "/dev/stderr")
    assert done.stderr == expected


@pytest.mark.slow
def test_a_full_device_is_reported_and_kept(reach_engine: Path) -> None:
    done = inspect(reach_engine, "/dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: /dev/full cannot be written: No space left on device\nhint: ")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


@pytest.mark.slow
def test_a_directory_is_refused_before_the_work(reach_engine: Path, tmp_path: Path) -> None:
    done = inspect(reach_engine, str(tmp_path))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is a folder, not a file" in done.stderr
