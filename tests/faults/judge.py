"""The arm that faults are injected into, and when it came to rest by the goals on the wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.schema import ArmProfile
from tests.faults.wire_rules import GoalPacket

STILL_PACKETS = 2
PAUSE_PERIODS = 10
"""After this many periods without a goal, nothing is commanded any more."""


def quick_profile(
    control_rate_hz: float = 100.0, move_velocity_deg_s: float = 90.0, goal_timeout_ms: float = 500.0
) -> ArmProfile:
    """The simulated arm with a nearby park pose, so that parking takes a second."""
    shipped = load_arm_profile("so101_sim").model_dump()
    quick = {
        "control_rate_hz": control_rate_hz,
        "goal_timeout_ms": goal_timeout_ms,
        "move_velocity_deg_s": move_velocity_deg_s,
        "park_pose_deg": [0.0, -60.0, 20.0, 10.0, 0.0, 10.0],
        "safety": shipped["safety"] | {"park_velocity_deg_s": move_velocity_deg_s, "emergency_retry_ms": 3000.0},
    }
    return ArmProfile.model_validate(shipped | quick)


class LoadedPlant(KinematicPlant):
    """Joints that a test can move while they are limp, and whose motors it can load."""

    def __init__(self, profile: ArmProfile, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        middle = [(joint.range_min_ticks + joint.range_max_ticks) / 2 for joint in profile.joints]
        super().__init__(middle, clock_ns)
        self.external_load = [0.0] * len(profile.joints)
        """External load of each motor, as a share of its stall torque; 0: only its own motion loads it."""

    def load_fraction(self, index: int) -> float:
        return self.external_load[index] or super().load_fraction(index)

    def place(self, index: int, ticks: float) -> None:
        """Move a joint that has no torque."""
        self._position_ticks[index] = self._goal_ticks[index] = ticks


@dataclass(frozen=True, slots=True)
class Rest:
    """When an arm came to rest, and after how many packets with goals."""

    stamp_ns: int
    packets: int


def first_rest(packets: Sequence[GoalPacket], since_ns: int, period_ns: int) -> Rest:
    """The first goal packet from `since_ns` on after which the goals did not change for two periods, or none followed.

    Goals are whole ticks, so a single packet without a change may be part of a slow motion.
    """
    after = [packet for packet in packets if packet.stamp_ns >= since_ns]
    last = Rest(since_ns, 0)
    still = 0
    for count, packet in enumerate(after, 1):
        still = 0 if packet.moves else still + 1
        if still == STILL_PACKETS or packet.stamp_ns - last.stamp_ns > PAUSE_PERIODS * period_ns:
            return last
        if packet.moves:
            last = Rest(packet.stamp_ns, count)
    return last
