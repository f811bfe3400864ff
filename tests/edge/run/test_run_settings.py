"""`sefa-edge run` on a user's own arm file: what it does to the servos' settings, prints and records."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from sefa_edge.edge.pictures import write_picture
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from tests.rigs.simulated_arm import SimulatedArm

PATIENCE_S = 120.0  # only ever waited for when something is broken
GRIPPER = 5


class Unit(SimulatedArm[KinematicPlant]):
    """A simulated arm, its profile in a file, and a folder of pictures as its camera."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.arm_file = folder, folder / "mine.yaml"
        content = load_arm_profile("so101_sim").model_dump()
        content["name"], content["goal_timeout_ms"] = "mine", 3000.0
        content["park_pose_deg"] = list(content["start_pose_deg"])  # no alias in the file
        content["servo"]["p_gain"] = 16
        content["joints"][GRIPPER]["servo"]["torque_limit_pct"] = 50.0
        self.arm_file.write_text(yaml.safe_dump(content), encoding="utf-8")
        profile = load_arm_profile(str(self.arm_file))
        super().__init__(profile, folder / "arm", KinematicPlant.of_arm(profile))
        (folder / "pictures").mkdir()
        for number in range(30):
            picture = np.random.default_rng(number).integers(0, 255, (96, 96, 3), np.uint8)
            write_picture(folder / "pictures" / f"{number:03}.png", picture)

    def run(self, engine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        arm = ["--arm", str(self.arm_file), "--port", self.port.path, "--camera", f"images:{self.folder / 'pictures'}"]
        command = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(engine), "--video", "none", *arm]
        return subprocess.run(
            [*command, *arguments, "--seconds", "0.3"],
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=PATIENCE_S,
            check=False,
        )


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    with Unit(tmp_path) as made:
        yield made


@pytest.mark.slow
def test_it_writes_what_a_power_cut_undoes_and_says_what_it_leaves(unit: Unit, reach_engine: Path) -> None:
    done = unit.run(reach_engine, "--record", str(unit.folder / "runs"))
    assert done.returncode == 0, done.stderr
    written = "servo settings written: torque_limit_pct 100 -> 50 (gripper)"
    left = "note: not written to the servos' EEPROM (servo -> profile): p_gain 32 -> 16 (all joints)"
    assert written in done.stderr
    assert left in done.stderr
    assert unit.bus.servos[GRIPPER].register(reg.TORQUE_LIMIT) == 500
    assert unit.bus.servos[0].register(reg.P_COEFFICIENT) == 32
    assert settings_of(next((unit.folder / "runs").glob("*.mcap"))) == [
        written,
        f"{left}; see `sefa-edge arm configure`",
    ]


def settings_of(path: Path) -> list[str]:
    from sefa_edge.edge.ipc.record_json import from_json
    from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
    from sefa_edge.edge.recording.mcap_file import StoredMessage, read_mcap
    from sefa_edge.edge.recording.topics import EVENT

    events = [
        from_json(stored.content, RunEvent, EVENT)
        for stored in read_mcap(path)
        if isinstance(stored, StoredMessage) and stored.topic == EVENT
    ]
    return [event.text for event in events if event.stage is RunStage.SETTINGS]


@pytest.mark.slow
def test_it_does_not_move_an_arm_that_would_not_protect_itself(unit: Unit, reach_engine: Path) -> None:
    unit.bus.servos[2].set_register(reg.UNLOAD_CONDITION, 0)
    done = unit.run(reach_engine)
    assert done.returncode == 2
    error, hint = done.stderr.strip().splitlines()[-2:]
    assert "error: servo 3 (elbow_flex) does not protect itself against temperature, current, overload" in error
    assert "arm configure --write-eeprom" in hint
    assert not any(servo.register(reg.TORQUE_ENABLE) for servo in unit.bus.servos)
    assert unit.bus.servos[GRIPPER].register(reg.TORQUE_LIMIT) == 1000


@pytest.mark.slow
def test_an_arm_that_is_only_measured_is_left_as_it_is(unit: Unit, reach_engine: Path) -> None:
    arguments = ["--engine", str(reach_engine), "--arm", str(unit.arm_file), "--port", unit.port.path, "--seconds", "1"]
    command = [sys.executable, "-m", "sefa_edge", "bench-loop", *arguments, "--realtime-priority", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "servo settings" not in done.stderr
    assert unit.bus.servos[GRIPPER].register(reg.TORQUE_LIMIT) == 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("p_gain: 16", "p_gain: 999", "servo.p_gain"),
        ("p_gain: 16", "p_gian: 16", "did you mean 'p_gain'?"),
        ("- overload", "- overlord", "servo.unload_on"),
        ("joints:", "joints: [", "not valid YAML"),
    ],
)
def test_a_bad_arm_file_is_one_line(unit: Unit, reach_engine: Path, old: str, new: str, message: str) -> None:
    unit.arm_file.write_text(unit.arm_file.read_text().replace(old, new, 1))
    done = unit.run(reach_engine)
    assert done.returncode == 2
    assert message in done.stderr
    assert str(unit.arm_file) in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


@pytest.mark.slow
def test_an_engine_for_other_joints_is_refused_in_one_line(unit: Unit, reach_engine: Path) -> None:
    content = yaml.safe_load(unit.arm_file.read_text())
    content["joints"].pop()
    content["start_pose_deg"].pop()
    content["park_pose_deg"].pop()
    unit.arm_file.write_text(yaml.safe_dump(content))
    done = unit.run(reach_engine)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) <= 2
