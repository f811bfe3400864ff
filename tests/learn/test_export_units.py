"""Demonstrations in another unit than the arm's are refused before an export begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from sefa_edge.models.checkpoint import load_checkpoint
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.fitness import check_moves, unit_notes

CHECKPOINT = Path(__file__).resolve().parents[2] / "models/results/lift"
NAMES = load_arm_profile("so101").joint_names


def ranges_with(lowest: float, highest: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The ranges of the shipped checkpoint, with this one for shoulder_lift."""
    _, info = load_checkpoint(CHECKPOINT)
    low, high = list(info.trained_min_deg), list(info.trained_max_deg)
    for index in range(5):
        low[index], high[index] = -50.0, 50.0
    low[1], high[1] = lowest, highest
    return tuple(low), tuple(high)


def test_values_beyond_100_cannot_be_lerobots_percent() -> None:
    degrees, percent = load_arm_profile("so101"), load_arm_profile("so101_percent")
    check_moves(NAMES, *ranges_with(-104.0, 20.0), degrees)
    check_moves(NAMES, *ranges_with(-100.0, 99.0), percent)
    with pytest.raises(InputError, match=r"shoulder_lift: values of -104\.\.20 are not in LeRobot") as caught:
        check_moves(NAMES, *ranges_with(-104.0, 20.0), percent)
    assert "--arm so101 is degrees" in caught.value.hint


def test_degrees_that_end_at_exactly_100_get_a_note() -> None:
    degrees, percent = load_arm_profile("so101"), load_arm_profile("so101_percent")
    (note,) = unit_notes(*ranges_with(-100.0, 98.0), degrees)
    assert note.startswith("shoulder_lift reaches 100")
    assert unit_notes(*ranges_with(-100.0, 98.0), percent) == []
    assert unit_notes(*ranges_with(-99.0, 98.0), degrees) == []
