"""Whether a policy trained on a dataset can be exported for an arm; checked by `train` and by `export`.

A dataset has the names of its joints, but not their unit and zero. This module checks names and values as far as
possible.
"""

from __future__ import annotations

from collections.abc import Sequence

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.joint_units import unit_doubtful, unit_impossible
from sefa_edge.profiles.recording.dataset import RecordedDataset
from sefa_edge.profiles.recording.windows import Choice, choose_frames
from sefa_edge.profiles.schema import ArmProfile

OLD_PREFIX = "main_"
"""Prefix of LeRobot's joint names before June 2025, when zero was the stretched-out arm."""
MIN_SIDE, MAX_SIDE = 16, 2048
"""Size limits of a camera on a policy card, in pixels."""


def check_moves(joint_names: Sequence[str], lowest: Sequence[float], highest: Sequence[float], arm: ArmProfile) -> None:
    """Refuse joints that are not the arm's, or whose values `lowest..highest` cannot be in its units.

    Raises:
        InputError: names the joints, and what to do.
    """
    if tuple(joint_names) != arm.joint_names:
        require_present_zero(joint_names)
        raise _other_joints(joint_names, arm)
    for joint, low, high in zip(arm.joints, lowest, highest, strict=True):
        wrong = unit_impossible(joint.unit, low, high)
        if wrong:
            raise InputError(
                f"{joint.name}: {wrong}",
                "was it recorded in LeRobot's other mode? --arm so101 is degrees, --arm so101_percent is -100..100",
            )


def unit_notes(lowest: Sequence[float], highest: Sequence[float], arm: ArmProfile) -> list[str]:
    """Signs that values `lowest..highest` are in another unit than the arm's."""
    ranges = zip(arm.joints, lowest, highest, strict=True)
    return [doubt for joint, low, high in ranges if (doubt := unit_doubtful(joint, low, high))]


def check_exportable(dataset: RecordedDataset, arm: ArmProfile) -> list[str]:
    """Refuse a dataset from which no policy for this arm could be exported, or which could not calibrate and test it.

    Returns:
        Notes about doubtful units.

    Raises:
        InputError: other joints or units, cameras of different or unsupported size, or only one episode.
    """
    lowest, highest = dataset.joint_deg.min(axis=0).tolist(), dataset.joint_deg.max(axis=0).tolist()
    check_moves(dataset.info.joint_names, lowest, highest, arm)
    _check_cameras(dataset)
    choose_frames(dataset.episode, Choice("calibration", 1))
    return unit_notes(lowest, highest, arm)


def _check_cameras(dataset: RecordedDataset) -> None:
    sizes = {name: (camera.height, camera.width) for name, camera in dataset.info.cameras.items()}
    shown = ", ".join(f"{name} {width}x{height}" for name, (height, width) in sizes.items())
    if len(set(sizes.values())) > 1:
        raise InputError(f"the cameras of the dataset differ in size: {shown}", "record them at one size")
    if not all(MIN_SIDE <= side <= MAX_SIDE for size in sizes.values() for side in size):
        raise InputError(
            f"the images of the dataset are {shown}, expected {MIN_SIDE} to {MAX_SIDE} pixels per side",
            "convert it to another size",
        )


def require_present_zero(joint_names: Sequence[str]) -> None:
    """Refuse joints with the names, and so the zero, of LeRobot's calibration before June 2025. Raises InputError."""
    names = [name if name.isprintable() else "?" for name in joint_names]
    if any(name.startswith(OLD_PREFIX) for name in names):
        raise InputError(
            f"the joints are named {', '.join(names)}: recorded by LeRobot before June 2025, with the old "
            "calibration, whose zero is the stretched-out arm",
            "an arm with a present calibration would move elsewhere: record again, or convert names and values as "
            "LeRobot's page on backward compatibility says (examples/backward_compatibility/replay.py)",
        )


def _other_joints(joint_names: Sequence[str], arm: ArmProfile) -> InputError:
    names = [name if name.isprintable() else "?" for name in joint_names]
    return InputError(
        f"the dataset or checkpoint moves {', '.join(names)}; the arm '{arm.name}' has {', '.join(arm.joint_names)}",
        "give the arm that it was recorded with, --arm (your own profile may have any joints)",
    )
