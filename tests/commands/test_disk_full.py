"""A full disk, or a limit on the size of files: one line, an exit code, and nothing half-written, in every command."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sefa_edge.edge.pictures import VideoFile
from sefa_edge.profiles.errors import InputError
from tests.replay.conftest import recorded
from tests.rigs.bench_arm import ARM, arm_on_the_bench

pytestmark = pytest.mark.once

SHIPPED = Path(__file__).resolve().parents[2] / "edge/shipped/lift/model.onnx"
CHECKPOINT = Path(__file__).resolve().parents[2] / "models/results/lift"
LIMIT_BYTES = 300
ROOM_BYTES = 64 << 10
FILLER = "filler"
__all__ = ["recorded"]


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on a file system without room for a page."""
    folder = tmp_path / "full"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM_BYTES}", "none", str(folder)])
    if mounted.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        with (folder / FILLER).open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def assert_full(words: Sequence[str], folder: Path) -> None:
    """A command on a full disk ends with one line, and leaves nothing."""
    command = [sys.executable, "-m", "sefa_edge", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].endswith("cannot be written: No space left on device")
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.iterdir()] == [FILLER], "something was left behind"


@pytest.mark.parametrize("words", [("scan",), ("status", "--arm", ARM), ("configure", "--arm", ARM)], ids=" ".join)
def test_arm_status(words: tuple[str, ...], full: Path, tmp_path: Path) -> None:
    """The only report of `configure` is standard output."""
    with arm_on_the_bench(tmp_path) as bench:
        words = ("arm", *words, "--port", bench.port.path)
        if "configure" not in words:
            assert_full([*words, "--json", "report.json"], full)
        with open("/dev/full", "wb") as nowhere:
            done = subprocess.run(
                [sys.executable, "-m", "sefa_edge", *words], stdout=nowhere, stderr=subprocess.PIPE, text=True
            )
    assert "error: standard output cannot be written: No space left on device" in done.stderr or done.returncode == 1
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr


def test_a_calibration(full: Path, tmp_path: Path) -> None:
    """The servos keep their numbers when the file cannot be written."""
    with arm_on_the_bench(tmp_path) as bench:
        before = bench.registers()
        ranges = tmp_path / "ranges.json"
        middle = {joint.name: (joint.range_min_ticks, joint.range_max_ticks) for joint in bench.profile.joints}
        ranges.write_text(json.dumps(middle))
        words = ["calibrate", "--arm", ARM, "--port", bench.port.path, "--headless", "--middle-now"]
        assert_full([*words, "--ranges", str(ranges), "-o", "arm.json"], full)
        assert bench.registers() == before


@pytest.mark.sim
def test_a_full_disk_stops_the_simulated_world(full: Path) -> None:
    """Written to through a mapping, a file on a full disk would kill the process by SIGBUS."""
    assert_full(["sim", "--link", "arm"], full)


@pytest.mark.parametrize("words", [("-o", "dataset"), ("-o", "a/b/dataset")], ids=" ".join)
def test_a_dataset_of_runs(words: tuple[str, ...], full: Path, recorded: Path) -> None:
    assert_full(["dataset", "from-runs", str(recorded), *words], full)


def test_a_replay(full: Path, recorded: Path) -> None:
    assert_full(["replay", str(recorded), "--part", "commands", "--json", "report.json"], full)


@pytest.mark.sim
def test_a_profile(full: Path, reach_engine: Path) -> None:
    assert_full(["profile", "--engine", str(reach_engine), "--samples", "3", "--out", "a/out"], full)


def test_a_loop_benchmark(full: Path, reach_engine: Path) -> None:
    words = ["bench-loop", "--seconds", "1", "--engine", str(reach_engine)]
    assert_full([*words, "--json", "report.json", "--picture", "late.png"], full)


def assert_reported(words: Sequence[str], folder: Path, **how: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sefa_edge", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"XDG_CACHE_HOME": str(folder.parent / "cache")},
        **how,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert "cannot be written: File too large" in lines[0] or "No space left on device" in lines[0]
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.iterdir()] == [], "something was left behind"


def test_inspect(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert_reported(["inspect", str(SHIPPED), "--json", "report.json"], folder, preexec_fn=limited)


@pytest.mark.sim
@pytest.mark.parametrize(
    "words",
    [
        ("record", "--expert", "lift", "--episodes", "1", "-o", "dataset"),
        ("eval", "--engine", str(SHIPPED), "--seeds", "0:1", "--json", "report.json"),
    ],
    ids=["record", "eval"],
)
def test_commands_with_the_simulated_world(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert_reported(words, folder, preexec_fn=limited)


@pytest.mark.sim
def test_verify(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    words = ["verify", str(SHIPPED), str(SHIPPED), "--dataset", str(recordings), "--samples", "4"]
    assert_reported([*words, "--json", "report.json"], folder, preexec_fn=limited)
    assert_reported([*words, "--worst-pictures", "worst"], folder, preexec_fn=limited)


@pytest.mark.sim
@pytest.mark.learn
def test_train_and_export(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    steps = ["--base-steps", "1", "--student-steps", "1"]
    assert_reported(
        ["train", "--dataset", str(recordings), "-o", "made/checkpoint", *steps], folder, preexec_fn=limited
    )
    assert_reported(["export", str(CHECKPOINT), "-o", "made/export"], folder, preexec_fn=limited)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_file_system_without_room(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM_BYTES}", "none", str(folder)])
    if done.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        filler = folder / "report.json"
        filler.write_bytes(b"x" * ROOM_BYTES)
        words = [sys.executable, "-m", "sefa_edge", "inspect", str(SHIPPED), "--json", str(filler)]
        printed = subprocess.run(words, capture_output=True, text=True)
        assert printed.returncode == 2
        assert "report.json cannot be written: No space left on device" in printed.stderr
        assert filler.read_bytes() == b"x" * ROOM_BYTES
        assert [path.name for path in folder.iterdir()] == ["report.json"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".webm"])
def test_a_video_with_missing_pictures_is_reported(ending: str, tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    video = VideoFile(tmp_path / f"run{ending}", 10.0, 96, 96)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES * 20, before[1]))
    try:
        for _ in range(20):
            video.append(rng.integers(0, 255, (96, 96, 3), np.uint8))
        with pytest.raises(InputError, match="of 20 pictures could be written"):
            video.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".webm"])
def test_a_complete_video_is_accepted(ending: str, tmp_path: Path) -> None:
    import numpy as np

    video = VideoFile(tmp_path / f"run{ending}", 10.0, 96, 96)
    for number in range(7):
        video.append(np.full((96, 96, 3), 30 * number, np.uint8))
    video.close()
