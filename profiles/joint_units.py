"""The unit of joint values, as far as the values themselves show it.

LeRobot has two modes for body joints, degrees and -100..100 over the calibrated range, and does not record which one a
dataset or a checkpoint uses. Its percentages are clipped, so a value beyond their bounds proves degrees; values inside
prove nothing.
"""

from __future__ import annotations

from typing import Literal

from sefa_edge.profiles.schema import UNIT_BOUNDS, WHOLE_TURN_DEG, JointProfile, JointUnit

FLOAT32_SLACK = 1e-3
"""Datasets hold float32, whose 100 may be 100.00001."""
SQUEEZED_PERCENT = 50.0
"""How far an unclipped gripper may be beyond its ends."""
RAW = "raw encoder readings are 0..4095"


def zero_of(unit: JointUnit) -> Literal["range_middle", "range_end"]:
    """Position of a unit's zero in the calibrated range."""
    return "range_end" if unit == "percent" else "range_middle"


def unit_impossible(unit: JointUnit, lowest: float, highest: float) -> str:
    """Why values that span `lowest..highest` cannot be in this unit; empty: they can.

    LeRobot clips to -100..100. Degrees of an encoder that counts one turn are within a turn of zero, wherever zero is.
    A simulated gripper is not clipped and may be squeezed slightly beyond its ends.
    """
    spread = f"values of {lowest:g}..{highest:g}"
    if unit == "range_percent" and max(-lowest, highest) > UNIT_BOUNDS["range_percent"][1] + FLOAT32_SLACK:
        return f"{spread} are not in LeRobot's -100..100, to which it clips"
    if unit == "degrees" and max(-lowest, highest) > WHOLE_TURN_DEG + FLOAT32_SLACK:
        return f"{spread} are not degrees: an encoder of one turn stays within -360..360 ({RAW})"
    if unit == "percent" and not (lowest >= -SQUEEZED_PERCENT and highest <= 100 + SQUEEZED_PERCENT):
        return f"{spread} are not percent of a gripper, 0..100 ({RAW})"
    return ""


def unit_doubtful(joint: JointProfile, lowest: float, highest: float) -> str:
    """Why values of a joint that should be in degrees look like LeRobot's -100..100; empty: they do not.

    Values that reach exactly 100 or -100 and never exceed it look clipped.
    """
    ends = max(abs(lowest), abs(highest))
    if joint.unit != "degrees" or abs(ends - 100) > FLOAT32_SLACK:
        return ""
    return f"{joint.name} reaches {ends:g} and never exceeds it: that looks like LeRobot's -100..100, not degrees"
