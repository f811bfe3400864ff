"""Arm profiles by name: shipped ones, the same in LeRobot's percent, and users' files."""

from __future__ import annotations

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.range_percent import ENDING, in_range_percent
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.shipped import load_named, shipped_names


def shipped_arms() -> list[str]:
    """Names of the arm profiles that come with the package."""
    return shipped_names("arms")


def load_arm_profile(name_or_path: str) -> ArmProfile:
    """An arm profile, shipped (`so101`; `so101_percent` in LeRobot's -100..100) or a user's file (`my_arm.yaml`).

    Raises:
        InputError: unknown name, or a file that does not hold a valid profile.
    """
    name_in_degrees = name_or_path.removesuffix(ENDING)
    if name_in_degrees != name_or_path and name_in_degrees in shipped_arms():
        return in_range_percent(load_arm_profile(name_in_degrees))
    profile = load_named(name_or_path, "arms", ArmProfile)
    if profile is None:
        raise InputError(
            f"no arm is called '{name_or_path}'",
            f"known arms: {', '.join(shipped_arms())}; or give a .yaml file",
        )
    return profile
