"""A simulated arm for LeRobot, calibrated as in a file in LeRobot's folder, and LeRobot's own Python.

The environment is made by tests/lerobot/run.sh; without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from sefa_edge.firmware_bridge.host.calibration import JointCalibration, joint_scale
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from tests.rigs.simulated_arm import SimulatedArm

ROOT = Path(__file__).resolve().parents[2]
LEROBOT_PYTHON = Path(os.environ.get("LEROBOT_PYTHON", ROOT / ".venv-lerobot/bin/python"))
STAND_IN = ROOT / "tests/lerobot/stand_in"
ATTEMPTS = 4
PATIENCE_S = 600
"""Importing LeRobot alone takes 5 to 10 s, longer on a busy machine."""

PROFILE = load_arm_profile("so101_sim").model_copy(update={"control_rate_hz": 50.0, "goal_timeout_ms": 5000.0})
"""A lower rate and longer timeouts, for a busy machine."""
N = len(PROFILE.joints)
OFFSETS_TICKS = (0, 300, -250, 17, 0, -1100)
"""Homing offsets like those of an arm assembled by hand."""

needs_lerobot = pytest.mark.skipif(
    not LEROBOT_PYTHON.exists(), reason=f"{LEROBOT_PYTHON} does not exist: `make test-lerobot` creates it"
)


class ServedArm(SimulatedArm["RecordingPlant"]):
    """Six servos. Hold `port.lock` to access their goals and torques."""

    def joint_deg(self) -> np.ndarray:
        """Where the joints are, as LeRobot's calibration counts."""
        return np.array(
            [
                joint_scale(joint, entry).to_joint(ticks)
                for joint, entry, ticks in zip(
                    PROFILE.joints, calibration_of_arm(), self.each(reg.PRESENT_POSITION), strict=True
                )
            ]
        )

    def place(self, joint_deg: np.ndarray) -> None:
        """Move limp joints by hand."""
        entries = calibration_of_arm()
        with self.port.lock:
            for index, (joint, entry) in enumerate(zip(PROFILE.joints, entries, strict=True)):
                ticks = joint_scale(joint, entry).to_ticks(float(joint_deg[index]))
                self.plant.place(index, ticks + entry.homing_offset)


class RecordingPlant(KinematicPlant):
    """Records the goals and torque switches of every motor."""

    def __init__(self) -> None:
        entries = calibration_of_arm()
        super().__init__(
            [(entry.range_min_ticks + entry.range_max_ticks) / 2 + entry.homing_offset for entry in entries]
        )
        self.goals_ticks: list[list[float]] = [[] for _ in entries]
        self.torques: list[list[bool]] = [[] for _ in entries]

    def place(self, index: int, ticks: float) -> None:
        self._position_ticks[index] = self._goal_ticks[index] = ticks

    def set_goal_ticks(self, index: int, ticks: float) -> None:
        self.goals_ticks[index].append(ticks)
        super().set_goal_ticks(index, ticks)

    def set_torque(self, index: int, on: bool) -> None:
        self.torques[index].append(on)
        super().set_torque(index, on)


def calibration_of_arm() -> list[JointCalibration]:
    return [
        JointCalibration(joint.servo_id, 0, offset, joint.range_min_ticks, joint.range_max_ticks)
        for joint, offset in zip(PROFILE.joints, OFFSETS_TICKS, strict=True)
    ]


@contextmanager
def served_arm(link: Path) -> Iterator[ServedArm]:
    """An arm in the middle of its ranges, torque off."""
    arm = ServedArm(PROFILE, link, RecordingPlant())
    for servo, entry in zip(arm.bus.servos, calibration_of_arm(), strict=True):
        servo.set_register(reg.HOMING_OFFSET, entry.homing_offset)
        servo.power_cycle()  # its goal becomes its present position
    with arm:
        yield arm


def write_profile(home: Path) -> Path:
    """`PROFILE` as a user's file."""
    path = home / "patient.yaml"
    path.write_text(yaml.safe_dump(PROFILE.model_dump()))
    return path


def write_calibration(home: Path, where: str, arm_id: str) -> Path:
    """LeRobot's file of that arm: `where` is `robots/so_follower` or `teleoperators/so_leader`."""
    path = home / "calibration" / where / f"{arm_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        joint.name: {
            "id": entry.servo_id,
            "drive_mode": entry.drive_mode,
            "homing_offset": entry.homing_offset,
            "range_min": entry.range_min_ticks,
            "range_max": entry.range_max_ticks,
        }
        for joint, entry in zip(PROFILE.joints, calibration_of_arm(), strict=True)
    }
    path.write_text(json.dumps(content, indent=4))
    return path


@dataclass(frozen=True)
class LeRobot:
    """LeRobot's Python with a separate home folder, without network access and without key presses."""

    home: Path

    def run(
        self,
        *arguments: str,
        meanwhile: Callable[[subprocess.Popen[str]], None] | None = None,
        writes: Path | None = None,
    ) -> Finished:
        """Run `python arguments…`; `meanwhile` is called once, with the process, while it runs; `writes` is a folder
        that must not exist before.

        LeRobot waits 50 ms for a servo's answer and gives up at the first late one. On a busy machine the
        simulated servos may be late: then it is restarted.
        """
        finished = Finished(-1, "never started")
        for _ in range(ATTEMPTS):
            if writes is not None:
                shutil.rmtree(writes, ignore_errors=True)
            finished = self._run_once(arguments, meanwhile)
            if finished.exit_code == 0 or "status packet" not in finished.output:
                break
        return finished

    def _run_once(
        self, arguments: tuple[str, ...], meanwhile: Callable[[subprocess.Popen[str]], None] | None
    ) -> Finished:
        environment = os.environ | {
            "HF_HOME": str(self.home / "hf"),
            "HF_LEROBOT_HOME": str(self.home),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONFAULTHANDLER": "1",
            "PYTHONPATH": str(STAND_IN) if needs_stand_in() else "",
        }
        with tempfile.TemporaryFile("w+") as printed:  # not a pipe, which would not be read while `meanwhile` runs
            process = subprocess.Popen(
                [str(LEROBOT_PYTHON), *arguments],
                cwd=self.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                if meanwhile is not None:
                    meanwhile(process)
                process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)  # prints a traceback of the hang
                process.wait()
            finally:
                process.kill()
                process.wait()
            printed.seek(0)
            return Finished(process.returncode, printed.read())


@dataclass(frozen=True)
class Finished:
    """Exit code and output of a LeRobot program."""

    exit_code: int
    output: str


def needs_stand_in() -> bool:
    """Whether the environment is that of run.sh, whose torchvision lacks its compiled part."""
    return "LEROBOT_PYTHON" not in os.environ
