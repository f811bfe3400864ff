"""An arm of simulated servos on a pseudo-terminal, to which other projects' clients connect."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from tests.clients.environments import client_environment
from tests.rigs.simulated_arm import SimulatedArm

HERE = Path(__file__).parent
PROFILE = load_arm_profile("so101_sim")
SERVO_IDS = [joint.servo_id for joint in PROFILE.joints]
PATIENCE_S = 120


class Stand(SimulatedArm[KinematicPlant]):
    """The arm, and the bytes that it received."""

    def __init__(self, port_path: Path) -> None:
        super().__init__(PROFILE, port_path, KinematicPlant.of_arm(PROFILE))
        self.sent = b""
        """All bytes that the host sent."""
        self.bus.disturb_request = self._record

    def run_client(self, client: str, script: str, task: str) -> dict[str, object]:
        """Run a script on the arm in the client's environment; returns its result."""
        return json.loads(self.output(client, script, task))

    def output(self, client: str, script: str, task: str) -> str:
        """Like `run_client`, but returns the output as printed."""
        python = client_environment(client) / "python"
        return self.run([str(python), str(HERE / script), self.port.path, task]).stdout

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end. Fails when the program does."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def _record(self, data: bytes) -> bytes:
        self.sent += data
        return data


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path / "arm") as stand:
        yield stand
