"""What every fault is judged by: the goals that reached the motors, and the ticks that the loop reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from sefa_edge.edge.records import TickReport
from sefa_edge.edge.safety import Envelope
from sefa_edge.firmware_bridge.host.calibration import joint_scale, nominal_calibration
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.schema import ArmProfile, load_arm_profile
from sefa_edge.profiles.units import period_ns

HERE_DEG = 0.1
"""How far a goal that starts anew where its joint is may lie from the reading, beside its first step."""

TARDINESS_TICKS = 3.0
"""How many periods later than its predecessor a goal may arrive on a busy machine."""

STANDING_DEG = 1e-4


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


class RecordingPlant(KinematicPlant):
    """Keeps every goal that reached a motor, joint by joint, and how far from the joint it was."""

    def __init__(self, profile: ArmProfile, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        middle = [(joint.range_min_ticks + joint.range_max_ticks) / 2 for joint in profile.joints]
        super().__init__(middle, clock_ns)
        self.goals: list[list[float]] = [[] for _ in profile.joints]
        self.ways: list[list[float]] = [[] for _ in profile.joints]
        self.arrived_ns: list[list[int]] = [[] for _ in profile.joints]
        self.burden = [0.0] * len(profile.joints)
        """Share of the stall torque that something takes from each motor; 0: only its own motion does."""

    def load_fraction(self, index: int) -> float:
        return self.burden[index] or super().load_fraction(index)

    def place(self, index: int, ticks: float) -> None:
        """Somebody moves a joint that has no torque."""
        self._position_ticks[index] = self._goal_ticks[index] = ticks

    def set_goal_ticks(self, index: int, ticks: float) -> None:
        self.goals[index].append(ticks)
        self.arrived_ns[index].append(self._clock_ns())
        self.ways[index].append(ticks - self.position_ticks(index))
        super().set_goal_ticks(index, ticks)


def assert_limits_kept(
    profile: ArmProfile, reports: Sequence[TickReport], plant: RecordingPlant, tardiness_ticks: float = 0.0
) -> None:
    """No goal broke a limit: as the loop made it, and as it arrived at the motors in whole ticks.

    A motor that missed goals may be given the sum of what it missed: its velocity keeps the limit all the same.
    """
    period = period_ns(profile.control_rate_hz)
    envelope = Envelope.of(profile.limit_table(), period)
    for stretch in _unbroken(reports):
        _assert_stretch(stretch, envelope)
    for index, (joint, entry) in enumerate(zip(profile.joints, nominal_calibration(profile).joints, strict=True)):
        if not plant.goals[index]:
            continue
        scale = joint_scale(joint, entry)
        arrived = np.array([scale.to_joint(ticks) for ticks in plant.goals[index]])
        tick_deg = abs(scale.joint_per_tick)
        first_step_ticks = (envelope.change_deg[index] + HERE_DEG) / tick_deg + 1
        where_it_is = np.abs(plant.ways[index]) <= first_step_ticks  # torque on, again: goal = present
        inside = (arrived >= joint.min_deg - tick_deg) & (arrived <= joint.max_deg + tick_deg)
        coming_in = np.abs(arrived - np.clip(arrived, joint.min_deg, joint.max_deg))
        assert (inside | where_it_is | (np.diff(coming_in, prepend=np.inf) <= 0)).all(), f"{joint.name} left its range"
        periods = np.maximum(np.diff(plant.arrived_ns[index]) / period, 1.0) + tardiness_ticks
        near_the_last = np.abs(np.diff(arrived)) <= envelope.step_deg[index] * periods + 2 * tick_deg
        assert (near_the_last | where_it_is[1:]).all(), f"{joint.name} was told to jump"


def _assert_stretch(stretch: Sequence[TickReport], envelope: Envelope) -> None:
    goals = np.array([report.goal_deg for report in stretch], np.float64)
    joints = np.array([report.joint_deg for report in stretch], np.float64)
    anew = np.abs(goals - joints) < envelope.change_deg + HERE_DEG  # a servo woke up, or torque came on
    steps = np.diff(goals, axis=0)
    changes = np.abs(np.diff(steps, axis=0))
    assert ((np.abs(steps) <= envelope.step_deg + 1e-3) | anew[1:]).all(), "too fast"
    assert ((changes <= envelope.change_deg + 1e-3) | anew[1:-1] | anew[2:]).all(), "too sudden"


def _unbroken(reports: Sequence[TickReport]) -> list[list[TickReport]]:
    """Consecutive ticks with a goal; a lost record or a tick without a goal ends a stretch."""
    stretches: list[list[TickReport]] = [[]]
    for before, report in zip([None, *reports], reports, strict=False):
        lost = before is not None and report.dropped_records != before.dropped_records
        if lost or np.isnan(report.goal_deg).any():
            stretches.append([])
        else:
            stretches[-1].append(report)
    return [stretch for stretch in stretches if len(stretch) > 2]


def first_rest(reports: Sequence[TickReport]) -> TickReport | None:
    """The first tick in which the arm stood, or was not commanded any more."""
    before_deg = np.full_like(reports[0].goal_deg, np.inf)
    for report in reports:
        if np.isnan(report.goal_deg).any() or (np.abs(report.goal_deg - before_deg) <= STANDING_DEG).all():
            return report
        before_deg = report.goal_deg
    return None
