"""Which unit do joint values speak? Told as far as the values themselves can tell.

LeRobot has two modes for body joints, degrees and -100..100 over the calibrated range, and writes down nowhere which
one a dataset or a checkpoint is in. Its percentages never leave their bounds (they are clipped), so one value beyond
settles it; the other way round there is only suspicion.
"""

from __future__ import annotations

from typing import Literal

from sefa_edge.profiles.schema import UNIT_BOUNDS, JointProfile, JointUnit

FLOAT32_SLACK = 1e-3
"""Datasets hold float32, whose 100 may be 100.00001."""


def zero_of(unit: JointUnit) -> Literal["range_middle", "range_end"]:
    """Where the calibrated range has the zero of a unit."""
    return "range_end" if unit == "percent" else "range_middle"


def unit_impossible(unit: JointUnit, lowest: float, highest: float) -> str:
    """Why values that span `lowest..highest` cannot be in this unit; empty: they can.

    Only -100..100 can be told: degrees may be anything, and a gripper is in the same unit in both modes (a simulated
    one, which nobody clips, may be squeezed a little beyond its ends).
    """
    bound = UNIT_BOUNDS["range_percent"][1] + FLOAT32_SLACK
    if unit != "range_percent" or max(-lowest, highest) <= bound:
        return ""
    return f"values of {lowest:g}..{highest:g} are not in LeRobot's -100..100, which is never left"


def unit_doubtful(joint: JointProfile, lowest: float, highest: float) -> str:
    """Why values of a joint that is said to be in degrees look like LeRobot's -100..100; empty: they do not.

    Values that reach an end of -100..100 to the digit and never pass it look clipped there.
    """
    ends = max(abs(lowest), abs(highest))
    if joint.unit != "degrees" or abs(ends - 100) > FLOAT32_SLACK:
        return ""
    return f"{joint.name} reaches {ends:g} and never passes it: that looks like LeRobot's -100..100, not degrees"
