"""Joint values in LeRobot's units: `<joint>.pos`, in degrees or in percent of the range; gripper 0..100."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sefa_edge.firmware_bridge.host.calibration import Calibration, JointCalibration, joint_scale
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile, JointProfile

SUFFIX = ".pos"


class JointUnits:
    """Converts between the arm's arrays [n] (degrees, gripper 0..100) and LeRobot's dictionaries."""

    def __init__(self, profile: ArmProfile, percent: Calibration | None) -> None:
        """`percent`: body joints in -100..100 of the ranges of this calibration; None: in degrees."""
        self._names = profile.joint_names
        self._per_degree = np.ones(len(self._names))
        is_gripper = np.array([joint.unit == "percent" for joint in profile.joints])
        widest = np.inf if percent is None else 100.0
        self._highest = np.where(is_gripper, 100.0, widest)
        self._lowest = np.where(is_gripper, 0.0, -widest)
        if percent is not None:
            pairs = zip(profile.joints, percent.joints, strict=True)
            self._per_degree = np.array([_percent_per_joint_unit(joint, entry) for joint, entry in pairs])

    @property
    def keys(self) -> tuple[str, ...]:
        """LeRobot's names of the joints."""
        return tuple(name + SUFFIX for name in self._names)

    def to_lerobot(self, joint_deg: np.ndarray) -> dict[str, float]:
        """Joint values under LeRobot's names; like LeRobot, values that have a range are clipped to it."""
        values = np.clip(joint_deg * self._per_degree, self._lowest, self._highest)
        return dict(zip(self.keys, values.tolist(), strict=True))

    def to_deg(self, action: Mapping[str, float], otherwise_deg: np.ndarray) -> np.ndarray:
        """Joint values [n] of an action; joints that it does not name keep `otherwise_deg`.

        Raises:
            InputError: it names a joint that the arm does not have.
        """
        unknown = [key for key in action if key not in self.keys]
        if unknown:
            raise InputError(
                f"the action names {', '.join(unknown)}", f"the joints of this arm are {', '.join(self.keys)}"
            )
        named = [index for index, key in enumerate(self.keys) if key in action]
        values = np.array([float(action[self.keys[index]]) for index in named])
        joint_deg = otherwise_deg.copy()
        joint_deg[named] = np.clip(values, self._lowest[named], self._highest[named]) / self._per_degree[named]
        return joint_deg


def _percent_per_joint_unit(joint: JointProfile, calibration: JointCalibration) -> float:
    """Ratio of LeRobot's RANGE_M100_100 to the unit of the joint."""
    if joint.unit == "percent":
        return 1.0
    in_percent = joint.model_copy(update={"unit": "range_percent"})
    return joint_scale(in_percent, calibration).joint_per_tick / joint_scale(joint, calibration).joint_per_tick
