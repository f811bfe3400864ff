"""Only `open_arm` knows the kinds of bus; one that another distribution provides works in a complete run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.open_arm import bus_of
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.schema import FeetechBus

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = (ROOT / "profiles/arms/so101_sim.yaml").read_text()
FEETECH = "bus: {kind: feetech, baud: 1000000}\n"
DISTRIBUTION = """
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.plant_arm import PlantArm
import time


class Outside:
    def open(self, profile, port, calibration, emergency):
        with open(port, "a") as file:
            file.write(f"opened with {profile.bus.settings}\\n")
        return PlantArm(profile, KinematicPlant.of_arm(profile), time.monotonic_ns)

    def read_torque(self, profile, port):
        return TorqueReading(())

    def release(self, profile, port):
        pass


bus = Outside()
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages in which another distribution provides the bus `outside`."""
    folder = tmp_path / "site"
    info = folder / "outside_arm-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "outside_arm.py").write_text(DISTRIBUTION)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-arm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sefa_edge.buses]\noutside = outside_arm:bus\n")
    return folder


def write_profile(folder: Path, bus: str) -> Path:
    path = folder / "my_arm.yaml"
    path.write_text(SHIPPED.replace(FEETECH, bus))
    return path


@pytest.mark.once
@pytest.mark.sim
def test_a_bus_of_another_distribution_works_in_a_run(site: Path, tmp_path: Path, reach_engine: Path) -> None:
    profile = write_profile(tmp_path, "bus: {kind: outside, settings: {channel: 3}}\n")
    port = tmp_path / "port"
    arguments = ["--engine", str(reach_engine), "--arm", str(profile), "--port", str(port), "--camera", "test:"]
    done = subprocess.run(
        [sys.executable, "-m", "sefa_edge", "run", *arguments, "--seconds", "1"],
        env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arm parked and released" in done.stdout + done.stderr
    assert port.read_text() == "opened with {'channel': 3}\n"


def test_a_kind_that_is_not_installed_is_named(tmp_path: Path) -> None:
    profile = load_arm_profile(str(write_profile(tmp_path, "bus: {kind: can_bus}\n")))
    with pytest.raises(MissingError, match="a bus of kind 'can_bus', which is not installed"):
        bus_of(profile)
    with pytest.raises(InputError, match="on a bus of kind 'can_bus', not on Feetech servos"):
        _ = profile.feetech


def test_the_older_spelling_is_equivalent(tmp_path: Path) -> None:
    older = load_arm_profile(str(write_profile(tmp_path, "bus: feetech\nbaud: 500000\nregister_7: reserved\n")))
    assert older.bus == FeetechBus(kind="feetech", baud=500_000, register_7="reserved")


@pytest.mark.parametrize(
    ("bus", "message"),
    [
        ("bus: {kind: feetech, baud: 1000001}\n", "baud"),
        ("bus: {kind: feetech, boud: 1000000}\n", "boud"),
        ("bus: {kind: FEETECH}\n", "kind"),
        ("bus: {kind: outside, settings: {deep: {er: 1}}}\n", "settings"),
        ("bus: {kind: outside, baud: 1000000}\n", "baud"),
        ("bus: {kind: feetech, baud: 1000000}\nbaud: 1000000\n", "baud"),
        ("bus: 3\n", "bus"),
        ("bus: []\n", "bus"),
    ],
)
def test_an_invalid_bus_is_refused(bus: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_arm_profile(str(write_profile(tmp_path, bus)))
