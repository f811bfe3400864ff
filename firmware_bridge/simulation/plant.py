"""The joints that the servos' motors move, as a protocol."""

from __future__ import annotations

from typing import Protocol


class Plant(Protocol):
    """The joints. Index 0 is the first servo; positions are encoder ticks before the homing offset."""

    def position_ticks(self, index: int) -> float: ...

    def velocity_ticks_s(self, index: int) -> float: ...

    def load_fraction(self, index: int) -> float:
        """Share of the stall torque, -1..1."""
        ...

    def set_goal_ticks(self, index: int, ticks: float) -> None: ...

    def set_torque(self, index: int, on: bool) -> None: ...

    def set_torque_limit(self, index: int, fraction: float) -> None:
        """Limit the torque to this share of the stall torque, 0..1."""
        ...
