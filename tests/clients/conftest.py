"""An arm of simulated servos on a pseudo-terminal, and a way to let a client of others at it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.schema import load_arm_profile
from tests.clients.environments import client_environment

HERE = Path(__file__).parent
PROFILE = load_arm_profile("so101_sim")
PATIENCE_S = 120


class Stand:
    """The arm, and every packet that the host sent since it was last asked."""

    def __init__(self, port_path: Path) -> None:
        self.plant = KinematicPlant.of_arm(PROFILE)
        self.bus = SimulatedBus.of_arm(PROFILE, self.plant)
        self.port = PtyPort(self.bus, port_path)
        self.requests: list[bytes] = []
        self.bus.disturb_request = self._overhear

    def visit(self, client: str, script: str, *words: str) -> dict[str, object]:
        """Let a script loose on the arm in the client's environment; what it printed, one JSON object."""
        python = client_environment(client) / "python"
        return json.loads(self.run([str(python), str(HERE / script), self.port.path, *words]).stdout)

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """A program to its end. Fails when the program does."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def _overhear(self, data: bytes) -> bytes:
        self.requests.append(data)
        return data


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(tmp_path / "arm")
    with stand.port:
        yield stand
