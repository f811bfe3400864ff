"""`sefa-edge run` never asks: where LeRobot would wait for ENTER, it ends with the way out."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.calibration import nominal_calibration
from sefa_edge.firmware_bridge.host.calibration_files import save_calibration
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from tests.rigs.simulated_arm import SimulatedArm

ROOT = Path(__file__).resolve().parents[3]
PROFILE = load_arm_profile("so101")
TYPED = b"\n\nc\nyes\n"


@pytest.mark.slow
@pytest.mark.parametrize("is_calibrated", [False, True])
def test_a_calibration_that_does_not_fit_ends_the_run_with_the_way_out(
    reach_engine: Path, tmp_path: Path, is_calibrated: bool
) -> None:
    arm = SimulatedArm(PROFILE, tmp_path / "arm", KinematicPlant.of_arm(PROFILE))
    arm.bus.servos[1].write(55, b"\0")
    arm.bus.servos[1].write(9, b"\0\0\xff\x0f" if not is_calibrated else b"\x10\0\xff\x0f")
    arguments = ["--engine", str(reach_engine), "--arm", "so101", "--camera", "test", "--video", "none"]
    if is_calibrated:
        save_calibration(tmp_path / "robots" / "so101_follower" / "black.json", PROFILE, nominal_calibration(PROFILE))
        arguments += ["--calibration", "black"]
    keyboard, typing = os.pipe()
    os.write(typing, TYPED)
    with arm:
        done = subprocess.run(
            [sys.executable, "-m", "sefa_edge", "run", *arguments, "--port", arm.port.path],
            stdin=keyboard, capture_output=True, text=True, check=False,
            env={**os.environ, "HF_LEROBOT_CALIBRATION": str(tmp_path)},
        )  # fmt: skip
    os.close(typing)
    left = os.read(keyboard, 100)
    os.close(keyboard)
    assert done.returncode == 2, done.stderr
    assert left == TYPED, "the keyboard must not be read"
    if is_calibrated:
        assert "the calibration says min_position_limit 910 for shoulder_lift, its servo says 16 (register 9)" in (
            done.stderr
        )
        assert "sefa-edge calibrate --arm so101 --port PORT --restore FILE --write-eeprom" in done.stderr
    else:
        assert "servo 2 (shoulder_lift) is not calibrated: its position limits are 0..4095" in done.stderr
        assert "sefa-edge calibrate --arm so101" in done.stderr


@pytest.mark.slow
def test_an_unknown_id_lists_those_that_exist(reach_engine: Path, tmp_path: Path) -> None:
    save_calibration(tmp_path / "robots" / "so_follower" / "white.json", PROFILE, nominal_calibration(PROFILE))
    arguments = ["--engine", str(reach_engine), "--arm", "so101", "--port", "/dev/null", "--camera", "test"]
    done = subprocess.run(
        [sys.executable, "-m", "sefa_edge", "run", *arguments, "--calibration", "black"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={**os.environ, "HF_LEROBOT_CALIBRATION": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert f"LeRobot has no calibration 'black' below {tmp_path}" in done.stderr
    assert "existing: white (so_follower)" in done.stderr


@pytest.mark.slow
def test_no_file_of_the_run_names_the_keyboard() -> None:
    asking = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("edge", "firmware_bridge", "profiles")
        for path in (ROOT / folder).rglob("*.py")
        if "service" not in path.parts  # what a person does with an arm outside a run
        and path.name != "console.py"  # puts the null device where standard input is closed
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Name) and node.id == "input")
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.stdin")
    ]
    assert asking == []
