"""An arm profile fitted to one particular arm: limits and poses inside this arm's calibrated range."""

from __future__ import annotations

from dataclasses import dataclass

from sefa_edge.firmware_bridge.host.calibration import (
    Calibration,
    JointCalibration,
    JointScale,
    joint_scale,
    unusual_ranges,
)
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile, JointProfile

MAX_POSE_CLIP = 5.0
"""Degrees (or percent) by which a start or park pose may be moved to fit into the calibrated range. An arm that is
released further than this from its park pose would fall."""


@dataclass(frozen=True, slots=True)
class FittedProfile:
    """A profile that stays inside the range of one arm, and notes for a person about what was changed."""

    profile: ArmProfile
    notes: tuple[str, ...] = ()


def fit_profile(profile: ArmProfile, calibration: Calibration) -> FittedProfile:
    """Narrow the limits of every joint to its calibrated range (registers 9 and 11), and move the poses inside.

    A limit that falls on the same encoder tick as the end of the range stays as it is.

    Raises:
        InputError: a start or park pose lies outside the range by more than MAX_POSE_CLIP.
    """
    joints = [_cut(*pair) for pair in zip(profile.joints, calibration.joints, strict=True)]
    poses: dict[str, list[float]] = {}
    notes = list(unusual_ranges(profile, calibration))
    for field, words in (("start_pose_deg", "start pose"), ("park_pose_deg", "park pose")):
        poses[field] = [
            _placed(profile.name, words, joint, value, notes)
            for joint, value in zip(joints, getattr(profile, field), strict=True)
        ]
    return FittedProfile(profile.model_copy(update={"joints": joints, **poses}), tuple(notes))


def _cut(joint: JointProfile, entry: JointCalibration) -> JointProfile:
    scale = joint_scale(joint, entry)
    ends = sorted(scale.to_joint(ticks) for ticks in (entry.range_min_ticks, entry.range_max_ticks))
    lowest = joint.min_deg if _inside(scale, entry, joint.min_deg) else max(joint.min_deg, ends[0])
    highest = joint.max_deg if _inside(scale, entry, joint.max_deg) else min(joint.max_deg, ends[1])
    if lowest >= highest:
        raise InputError(
            f"{joint.name}: the limits {joint.min_deg:g}..{joint.max_deg:g} and the calibrated range "
            f"{ends[0]:.1f}..{ends[1]:.1f} do not overlap",
            "calibrate again, or correct the arm's profile",
        )
    return joint.model_copy(update={"min_deg": lowest, "max_deg": highest})


def _inside(scale: JointScale, entry: JointCalibration, value: float) -> bool:
    ticks = round(value / scale.joint_per_tick + scale.zero_ticks)
    return entry.range_min_ticks <= ticks <= entry.range_max_ticks


def _placed(arm: str, pose: str, joint: JointProfile, value: float, notes: list[str]) -> float:
    inside = min(max(value, joint.min_deg), joint.max_deg)
    unit = "degrees" if joint.unit == "degrees" else "%"
    outside = abs(value - inside)
    if outside > MAX_POSE_CLIP:
        raise InputError(
            f"this arm cannot reach the {pose} of {arm}: {joint.name} {value:g} is {outside:.1f} {unit} outside "
            f"its range {joint.min_deg:.1f}..{joint.max_deg:.1f}",
            "calibrate again and move every joint from end to end, or give the arm a profile with another pose",
        )
    if outside > 0:
        notes.append(f"the {pose} of {joint.name} is {inside:.1f} {unit} instead of {value:g}: its range ends there")
    return inside
