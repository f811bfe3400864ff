"""Slow moves in lock-step: through the limiter, stopped, blocked, with faults, and the final state of the arm."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from sefa_edge.edge.control.clock import ManualClock
from sefa_edge.edge.tools.arm_moves.center import pose_to
from sefa_edge.edge.tools.arm_moves.slow_move import SlowMove, Stopped, slowed
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import connect_feetech_arm
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.bus_port import BusPort
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import FaultError, InputError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.stopping import StopSignals
from tests.faults.arm_judge import ArmJudge
from tests.faults.wire_limits import wire_limits

pytestmark = pytest.mark.once

PROFILE = load_arm_profile("so101_sim")
SPEED_DEG_S = 20.0
OFF_TICKS = 228
"""20 degrees."""
ELBOW = 2
HALFWAY_NS = 2_700_000_000
"""During a move of 5.5 s; the gripper moves farthest."""


class Plant(KinematicPlant):
    """Records every goal with its time; can block a joint, and send a signal at a given time."""

    def __init__(self, clock: ManualClock, ticks: list[float]) -> None:
        super().__init__(ticks, clock.now_ns)
        self.goals: list[tuple[int, int, float]] = []
        self.switched: list[tuple[int, bool]] = []
        self.blocked = False
        self.signal_halfway: signal.Signals | None = None

    def set_goal_ticks(self, index: int, ticks: float) -> None:
        self.goals.append((self._clock_ns(), index, ticks))
        super().set_goal_ticks(index, self.position_ticks(index) if self.blocked and index == ELBOW else ticks)
        if self.signal_halfway is not None and self._clock_ns() > self.goals[0][0] + HALFWAY_NS:
            number, self.signal_halfway = self.signal_halfway, None
            os.kill(os.getpid(), number)

    def set_torque(self, index: int, on: bool) -> None:
        self.switched.append((index, on))
        super().set_torque(index, on)

    def speeds_deg_s(self, index: int) -> np.ndarray:
        """The goals that were sent to one motor."""
        times, ticks = np.array([(time, goal) for time, joint, goal in self.goals if joint == index]).T
        new = np.diff(times) > 0
        return np.diff(ticks)[new] * 360 / 4095 / (np.diff(times)[new] / 1e9)


@dataclass
class Rig:
    """An arm in lock-step."""

    profile: ArmProfile = field(default_factory=lambda: slowed(PROFILE, SPEED_DEG_S))
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        middles = [(joint.range_min_ticks + joint.range_max_ticks) / 2 for joint in self.profile.joints]
        self.plant = Plant(self.clock, [ticks + OFF_TICKS for ticks in middles])
        self.bus = SimulatedBus.of_arm(self.profile, self.plant)
        limits = wire_limits(self.profile)
        self.judge = ArmJudge(self.bus, self.plant, limits, self.clock.now_ns, exact_time=True)
        self.port = BusPort(self.bus, self.clock)

    @contextmanager
    def move(self) -> Iterator[SlowMove]:
        def open_arm():
            return connect_feetech_arm(self.profile, self.port.open(), None)

        with StopSignals() as signals, closing(SlowMove(self.profile, open_arm, self.clock, signals)) as move:
            yield move

    def torque(self) -> set[int]:
        return {servo.register(reg.TORQUE_ENABLE) for servo in self.bus.servos}

    def joint_deg(self, index: int) -> float:
        joint = self.profile.joints[index]
        middle = (joint.range_min_ticks + joint.range_max_ticks) / 2
        return (self.plant.position_ticks(index) - middle) * 360 / 4095


@pytest.fixture
def rig() -> Iterator[Rig]:
    """No test may exceed its limits."""
    made = Rig()
    yield made
    made.judge.assert_clean()


def test_the_check_before_a_move_sends_nothing_and_lasts_as_long_as_the_slowest_limit(rig: Rig) -> None:
    with rig.move() as move:
        began = rig.clock.now_ns()
        assert move.check_readings() is None
        assert rig.clock.now_ns() - began >= 1_000_000_000
        assert move.outcome == "arm not touched"
    assert (rig.plant.goals, rig.torque()) == ([], {0})


@pytest.mark.slow
def test_it_moves_slowly_and_holds(rig: Rig) -> None:
    with rig.move() as move:
        assert move.to_start_pose() is None
        assert np.allclose(move.joint_deg[:5], PROFILE.start_pose_deg[:5], atol=0.3)
    assert rig.torque() == {1}
    for index in range(5):
        assert np.abs(rig.plant.speeds_deg_s(index)).max() < SPEED_DEG_S * 1.2  # the goals are whole ticks


@pytest.mark.slow
def test_torque_is_switched_on_at_the_present_pose(rig: Rig) -> None:
    for servo in rig.bus.servos:
        servo.set_register(reg.GOAL_POSITION, 1000)  # from long ago
    with rig.move() as move:
        move.to_start_pose()
    first = {index: ticks for _, index, ticks in reversed(rig.plant.goals)}
    starts = [(joint.range_min_ticks + joint.range_max_ticks) / 2 + OFF_TICKS for joint in PROFILE.joints]
    assert all(abs(first[index] - start) <= 1 for index, start in enumerate(starts))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_decelerates_and_holds(rig: Rig, number: signal.Signals) -> None:
    rig.plant.signal_halfway = number
    with rig.move() as move:
        stopped = move.to_start_pose()
    assert isinstance(stopped, Stopped)
    assert stopped.exit_code == 128 + number
    assert stopped.message.endswith("arm left holding its last goal, torque still on")
    assert rig.torque() == {1}
    assert 1.0 < rig.joint_deg(ELBOW) < 19.0  # moving
    speeds = rig.plant.speeds_deg_s(ELBOW)
    assert abs(speeds[-1]) < 5.0


def test_a_stop_before_torque_on_does_not_touch_the_arm(rig: Rig) -> None:
    with rig.move() as move:
        os.kill(os.getpid(), signal.SIGINT)
        stopped = move.check_readings()
    assert stopped == Stopped("stopped by Ctrl-C: arm not touched", 130)
    assert (rig.plant.goals, rig.torque()) == ([], {0})


@pytest.mark.slow
def test_the_emergency_stop_releases_at_once(rig: Rig) -> None:
    rig.judge.ask_for_release()
    rig.plant.signal_halfway = signal.SIGQUIT
    with rig.move() as move, pytest.raises(FaultError, match="emergency stop: arm released where it stood"):
        move.to_start_pose()
    assert rig.torque() == {0}


@pytest.mark.slow
def test_the_arm_gives_way_to_an_obstacle(rig: Rig) -> None:
    rig.plant.blocked = True
    with rig.move() as move, pytest.raises(FaultError) as caught:
        move.to_start_pose()
    assert str(caught.value) == (
        "the arm does not follow its goal (elbow_flex): arm left holding its last goal, torque still on"
    )
    assert caught.value.exit_code == 3
    assert "support the arm" in caught.value.hint
    assert rig.torque() == {1}
    last = [ticks for _, index, ticks in rig.plant.goals if index == ELBOW][-1]
    assert abs(last - rig.plant.position_ticks(ELBOW)) < 25  # the goal came back to where the joint is
    assert rig.joint_deg(0) > 1.0  # it moved neither to the start pose nor to the park pose


@pytest.mark.slow
def test_a_blocked_move_to_the_park_pose_ends_holding(rig: Rig) -> None:
    rig.plant.blocked = True
    with rig.move() as move, pytest.raises(FaultError, match=r"elbow_flex\): arm left holding"):
        move.to_park_pose()
    assert rig.torque() == {1}


@pytest.mark.parametrize(
    ("trouble", "caught"),
    [
        ({"supply_mv": 4300}, "supply voltage is out of range: arm not touched"),
        ({"temperature_c": 68}, r"too hot \(.*\): arm not touched"),
        ({"fault_bits": 0x20}, r"overload.*: arm not touched"),
    ],
)
def test_an_arm_with_a_fault_is_not_touched(rig: Rig, trouble: dict[str, int], caught: str) -> None:
    for servo in rig.bus.servos:
        for name, value in trouble.items():
            setattr(servo, name, value)
    with rig.move() as move, pytest.raises(FaultError, match=caught):
        move.check_readings()
    assert (rig.plant.goals, rig.torque()) == ([], {0})


@pytest.mark.slow
def test_a_servo_that_gets_hot_on_the_way_ends_as_in_a_run(rig: Rig) -> None:
    with rig.move() as move:
        move.to_start_pose()
        rig.bus.servos[ELBOW].temperature_c = 68
        with pytest.raises(FaultError, match=r"too hot \(elbow_flex\): arm parked and released"):
            move.to_park_pose()
    assert rig.torque() == {0}


def test_a_port_that_vanishes_ends_holding(rig: Rig) -> None:
    with rig.move() as move:
        move.check_readings()
        rig.port.unplug()
        with pytest.raises(FaultError, match=r"port disappeared|not confirm"):
            move.to_start_pose()


@pytest.mark.slow
def test_parking_ends_released(rig: Rig) -> None:
    with rig.move() as move:
        assert move.check_readings() is None
        assert move.to_park_pose() is None
        assert move.outcome == "arm parked and released"
    assert rig.torque() == {0}
    assert abs(rig.joint_deg(ELBOW) - PROFILE.park_pose_deg[ELBOW]) < 0.5


@pytest.mark.slow
def test_an_arm_whose_profile_says_so_stays_at_the_park_pose() -> None:
    safety = PROFILE.safety.model_copy(update={"after_park": "hold"})
    rig = Rig(slowed(PROFILE.model_copy(update={"safety": safety}), SPEED_DEG_S))
    with rig.move() as move:
        assert move.to_park_pose() is None
        assert move.outcome == "arm parked, torque still on"
    assert rig.torque() == {1}


@pytest.mark.slow
def test_a_move_may_be_followed_by_parking_or_release(rig: Rig) -> None:
    with rig.move() as move:
        assert move.to_start_pose() is None
        rig.judge.ask_for_release()
        assert move.release() is None
        assert move.outcome == "arm released where it stood"
    assert rig.torque() == {0}
    with rig.move() as move:
        assert move.to_start_pose() is None
        assert move.to_park_pose() is None
    assert rig.torque() == {0}


@pytest.mark.parametrize("speed_deg_s", [0.0, -1.0, 61.0, float("nan"), float("inf")])
def test_an_invalid_speed_is_refused(speed_deg_s: float) -> None:
    with pytest.raises(InputError, match="out of range"):
        slowed(PROFILE, speed_deg_s)


def test_a_slow_arm_is_nowhere_faster() -> None:
    profile = slowed(PROFILE, 15.0)
    assert max(joint.max_velocity_deg_s for joint in profile.joints) == 15.0
    assert (profile.move_velocity_deg_s, profile.safety.park_velocity_deg_s) == (15.0, 15.0)
    assert profile.tracking_error_deg == 10.0


def test_one_joint_moves_and_the_others_stay_inside_their_limits() -> None:
    here_deg = np.array([10.0, -120.0, 30.0, 5.0, 0.0, 90.0])
    elbow = [PROFILE.joints[ELBOW]]
    assert pose_to(PROFILE, elbow, "middle", here_deg) == [10.0, -100.0, 0.0, 5.0, 0.0, 90.0]
    assert pose_to(PROFILE, PROFILE.joints, "middle", here_deg) == [0.0, 0.0, 0.0, 0.0, 0.0, 50.0]
    assert pose_to(PROFILE, PROFILE.joints, "start", here_deg) == PROFILE.start_pose_deg
