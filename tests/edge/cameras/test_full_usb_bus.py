"""A camera whose stream the kernel refuses for lack of USB bandwidth ends a run before the arm is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.exit_codes import ExitCode
from tests.rigs.simulated_arm import SimulatedArm, WriteLog

SOURCE = Path(__file__).with_name("full_usb_bus.c")
PROFILE = load_arm_profile("so101")


@pytest.fixture
def full_bus(tmp_path: Path) -> Path:
    """A library that simulates a kernel without USB bandwidth."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path / "full_usb_bus.so"
    words = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "videodev2.h" in done.stderr:
        pytest.skip("needs linux/videodev2.h")
    assert done.returncode == 0, done.stderr
    return library


@pytest.mark.slow
def test_missing_usb_bandwidth_is_reported_before_the_arm_is_touched(
    reach_engine: Path, tmp_path: Path, full_bus: Path
) -> None:
    camera = tmp_path / "video0"
    camera.write_bytes(bytes(4096))
    arm = SimulatedArm(PROFILE, tmp_path / "arm", KinematicPlant.of_arm(PROFILE))
    log = WriteLog(arm.bus)
    words = ["--engine", str(reach_engine), "--arm", "so101", "--camera", f"v4l2:{camera}", "--video", "none"]
    with arm:
        done = subprocess.run(
            [sys.executable, "-m", "sefa_edge", "run", *words, "--port", arm.port.path],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env={**os.environ, "LD_PRELOAD": str(full_bus)},
        )  # fmt: skip
    assert done.returncode == ExitCode.MISSING, done.stderr
    assert f"error: camera {camera} delivers no pictures: No space left on device" in done.stderr
    assert (
        "hint: the USB bus has no bandwidth left: use MJPG, a smaller size, a lower rate, or another port"
        in done.stderr
    )
    assert log.packets == []
