"""An arm in LeRobot's other unit: body joints in -100..100 over their calibrated range instead of degrees."""

from __future__ import annotations

from sefa_edge.profiles.schema import UNIT_BOUNDS, ArmProfile, JointProfile
from sefa_edge.profiles.units import LEROBOT_TICKS_PER_TURN

ENDING = "_percent"
"""`so101_percent` is `so101` in this unit."""


def in_range_percent(arm: ArmProfile) -> ArmProfile:
    """The same arm for a policy that was trained in -100..100.

    Limits are converted with the nominal ranges. Speeds and lags that apply to all joints are converted with the factor
    of the joint for which they become strictest.
    """
    factors = [_percent_per_deg(joint) for joint in arm.joints]
    joints = [_converted(joint, factor) for joint, factor in zip(arm.joints, factors, strict=True)]
    strictest = min(factors)
    park_velocity = arm.safety.park_velocity_deg_s * strictest
    return arm.model_copy(
        update={
            "name": arm.name + ENDING,
            "safety": arm.safety.model_copy(update={"park_velocity_deg_s": park_velocity}),
            "move_velocity_deg_s": arm.move_velocity_deg_s * strictest,
            "tracking_error_deg": arm.tracking_error_deg * strictest,
            "start_pose_deg": _pose(arm.start_pose_deg, joints, factors),
            "park_pose_deg": _pose(arm.park_pose_deg, joints, factors),
            "joints": joints,
        }
    )


def _percent_per_deg(joint: JointProfile) -> float:
    """1 for a joint that is already in percent."""
    if joint.unit != "degrees":
        return 1.0
    half_range_ticks = (joint.range_max_ticks - joint.range_min_ticks) / 2
    return 100 * LEROBOT_TICKS_PER_TURN / 360 / half_range_ticks


def _converted(joint: JointProfile, factor: float) -> JointProfile:
    if joint.unit != "degrees":
        return joint
    lowest, highest = UNIT_BOUNDS["range_percent"]
    return joint.model_copy(
        update={
            "unit": "range_percent",
            "min_deg": max(joint.min_deg * factor, lowest),
            "max_deg": min(joint.max_deg * factor, highest),
            "max_velocity_deg_s": joint.max_velocity_deg_s * factor,
            "max_acceleration_deg_s2": joint.max_acceleration_deg_s2 * factor,
        }
    )


def _pose(pose_deg: list[float], joints: list[JointProfile], factors: list[float]) -> list[float]:
    return [
        min(max(value * factor, joint.min_deg), joint.max_deg)
        for value, joint, factor in zip(pose_deg, joints, factors, strict=True)
    ]
