"""The simulated arm: its name on the command line, and its arm profile."""

from __future__ import annotations

SIMULATED = "sim"
SIMULATED_ARM = "so101_sim"


def arm_profile_name(arm: str) -> str:
    """Name or path of the profile for a value of `--arm`."""
    return SIMULATED_ARM if arm == SIMULATED else arm
