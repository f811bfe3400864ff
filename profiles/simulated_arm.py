"""The simulated arm: the word that a person types for it, and the arm profile behind that word."""

from __future__ import annotations

SIMULATED = "sim"
SIMULATED_ARM = "so101_sim"


def arm_profile_name(arm: str) -> str:
    """The profile, or the path of one, that the value of `--arm` names."""
    return SIMULATED_ARM if arm == SIMULATED else arm
