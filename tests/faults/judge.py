"""The arm that faults are put into, and when it came to a stand by the goals on the wire."""

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
"""No goal for so long: nothing is commanded any more."""


def quick_profile(
    control_rate_hz: float = 100.0, move_velocity_deg_s: float = 90.0, goal_timeout_ms: float = 500.0
) -> ArmProfile:
    """The simulated arm with a park pose nearby, so that parking takes a second."""
    usual = load_arm_profile("so101_sim").model_dump()
    quick = {
        "control_rate_hz": control_rate_hz,
        "goal_timeout_ms": goal_timeout_ms,
        "move_velocity_deg_s": move_velocity_deg_s,
        "park_pose_deg": [0.0, -60.0, 20.0, 10.0, 0.0, 10.0],
        "safety": usual["safety"] | {"park_velocity_deg_s": move_velocity_deg_s, "emergency_retry_ms": 3000.0},
    }
    return ArmProfile.model_validate(usual | quick)


class LoadedPlant(KinematicPlant):
    """Joints that somebody may move while they are limp, and whose motors may be made to strain."""

    def __init__(self, profile: ArmProfile, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        middle = [(joint.range_min_ticks + joint.range_max_ticks) / 2 for joint in profile.joints]
        super().__init__(middle, clock_ns)
        self.burden = [0.0] * len(profile.joints)
        """Share of the stall torque that something takes from each motor; 0: only its own motion does."""

    def load_fraction(self, index: int) -> float:
        return self.burden[index] or super().load_fraction(index)

    def place(self, index: int, ticks: float) -> None:
        """Somebody moves a joint that has no torque."""
        self._position_ticks[index] = self._goal_ticks[index] = ticks


@dataclass(frozen=True, slots=True)
class Rest:
    """When an arm came to a stand, and how many packets with goals that took."""

    stamp_ns: int
    packets: int


def first_rest(packets: Sequence[GoalPacket], since_ns: int, period_ns: int) -> Rest:
    """The first goal packet from `since_ns` on after which the goals stood for two periods, or no more came.

    Goals are whole ticks: a single packet without a change may be a slow motion.
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
