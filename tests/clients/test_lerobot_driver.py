"""LeRobot's own SO-101 follower driver, unmodified, on the simulated servos."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.profiles.units import LEROBOT_TICKS_PER_TURN
from tests.clients.lerobot_rig import (
    PROFILE,
    LeRobot,
    N,
    ServedArm,
    calibration_of_arm,
    needs_lerobot,
    served_arm,
    write_calibration,
)

pytestmark = [needs_lerobot, pytest.mark.once]

SESSION = Path(__file__).with_name("lerobot_driver_session.py")
GRIPPER = N - 1
TICK_DEG = 360 / LEROBOT_TICKS_PER_TURN


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ServedArm]:
    with served_arm(tmp_path / "arm") as served:
        yield served


@pytest.mark.parametrize("unit", ["degrees", "percent"])
def test_it_connects_configures_reads_writes_and_moves_the_arm(tmp_path: Path, arm: ServedArm, unit: str) -> None:
    write_calibration(tmp_path, "robots/so_follower", "bench")
    printed = session(LeRobot(tmp_path), arm, unit, "hold")
    assert printed["calibrated"] is True
    np.testing.assert_allclose(list(printed["before"].values()), [0.0] * GRIPPER + [50.0], atol=0.2)
    assert printed["after"] == pytest.approx(printed["sent"], abs=1.0)
    np.testing.assert_allclose(arm.joint_deg(), goal_deg(unit), atol=1.0)
    assert set(printed["temperature"].values()) == {30}
    assert set(printed["voltage"].values()) <= {73, 74}  # holding motors lower it
    assert set(printed["torque"].values()) == {1}
    assert printed["firmware"] == 777
    assert printed["all"] == {str(joint.servo_id): 777 for joint in PROFILE.joints}
    assert arm.each(reg.TORQUE_ENABLE) == [reg.TORQUE_ON] * N


def test_its_configuration_is_in_the_registers(tmp_path: Path, arm: ServedArm) -> None:
    write_calibration(tmp_path, "robots/so_follower", "bench")
    session(LeRobot(tmp_path), arm, "degrees", "drop")
    assert arm.each(reg.P_COEFFICIENT) == [16] * N
    assert arm.each(reg.I_COEFFICIENT) == [0] * N
    assert arm.each(reg.D_COEFFICIENT) == [32] * N
    assert arm.each(reg.RETURN_DELAY) == [0] * N
    assert arm.each(reg.ACCELERATION) == [254] * N
    assert arm.each(reg.MAX_TORQUE) == [1000] * GRIPPER + [500]
    assert arm.each(reg.PROTECTION_CURRENT) == [500] * GRIPPER + [250]
    assert arm.each(reg.OVERLOAD_TORQUE) == [80] * GRIPPER + [25]
    assert arm.each(reg.TORQUE_ENABLE) == [reg.TORQUE_OFF] * N  # disable_torque_on_disconnect: the arm drops


def test_without_its_file_it_asks_on_standard_input(tmp_path: Path, arm: ServedArm) -> None:
    done = LeRobot(tmp_path).run(str(SESSION), str(arm.port.path), "degrees", "hold")
    assert done.exit_code != 0
    assert "EOFError" in done.output


def session(lerobot: LeRobot, arm: ServedArm, unit: str, ending: str) -> dict[str, dict[str, float]]:
    done = lerobot.run(str(SESSION), str(arm.port.path), unit, ending)
    assert done.exit_code == 0, done.output
    return json.loads(done.output.splitlines()[-1])


def goal_deg(unit: str) -> np.ndarray:
    """Where the joints should be, in our degrees, after the session's target."""
    if unit == "degrees":
        return np.array([20.0] * GRIPPER + [60.0])
    half_range_deg = [(entry.range_max_ticks - entry.range_min_ticks) / 2 * TICK_DEG for entry in calibration_of_arm()]
    return np.array([0.30 * half for half in half_range_deg[:GRIPPER]] + [60.0])
