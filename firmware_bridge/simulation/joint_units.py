"""Joint angles of the simulated SO-101 in the units of policies: degrees, gripper 0 (closed) .. 100 (open)."""

from __future__ import annotations

import numpy as np

from sefa_edge.firmware_bridge.simulation.world import CENTRE_TICKS, TICKS_PER_RADIAN
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM
from sefa_edge.profiles.units import LEROBOT_TICKS_PER_TURN

_JOINTS = load_arm_profile(SIMULATED_ARM).joints
_LOW = np.array([joint.range_min_ticks for joint in _JOINTS], np.float64)
_HIGH = np.array([joint.range_max_ticks for joint in _JOINTS], np.float64)
_IS_PERCENT = np.array([joint.unit == "percent" for joint in _JOINTS])


def degrees_of_radians(joint_radians: np.ndarray) -> np.ndarray:
    """Radians [6] -> joint values that a calibrated LeRobot arm would report, float32 [6]."""
    ticks = joint_radians * TICKS_PER_RADIAN + CENTRE_TICKS
    degrees = (ticks - (_LOW + _HIGH) / 2) * 360 / LEROBOT_TICKS_PER_TURN
    percent = (ticks - _LOW) / (_HIGH - _LOW) * 100
    return np.where(_IS_PERCENT, percent, degrees).astype(np.float32)


def goal_ticks_of_radians(joint_radians: np.ndarray) -> np.ndarray:
    """Radians [6] -> whole servo ticks [6], as a goal register holds them."""
    return np.rint(joint_radians * TICKS_PER_RADIAN + CENTRE_TICKS)


def radians_of_degrees(joint_deg: np.ndarray) -> np.ndarray:
    """Degrees (gripper 0..100) [6] -> radians [6]."""
    ticks = np.where(
        _IS_PERCENT,
        _LOW + joint_deg / 100 * (_HIGH - _LOW),
        (_LOW + _HIGH) / 2 + joint_deg * LEROBOT_TICKS_PER_TURN / 360,
    )
    return (ticks - CENTRE_TICKS) / TICKS_PER_RADIAN
