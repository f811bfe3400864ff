"""An arm that follows another program's targets: limits, faults and endings, on simulated servos in lock-step."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.control.clock import ManualClock
from sefa_edge.edge.control.paced import Follower, PacedFollower, start_following
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.errors import ArmFault
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import connect_feetech_arm, open_feetech_arm
from sefa_edge.firmware_bridge.host.messages import JointGoal
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.bus_port import BusPort
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.units import NS_PER_S, period_ns
from tests.faults.arm_judge import ArmJudge
from tests.faults.wire_limits import wire_limits
from tests.rigs.simulated_arm import prefer_servos

PROFILE = load_arm_profile("so101_sim")
PERIOD_NS = period_ns(PROFILE.control_rate_hz)
LIMITS = PROFILE.limit_table()
N = len(PROFILE.joints)
ELBOW = 2
PATIENT = PROFILE.model_copy(
    update={
        "control_rate_hz": 20.0,
        "goal_timeout_ms": 5000.0,
        "safety": PROFILE.safety.model_copy(update={"planned_tracking_ms": 2000.0}),
    }
)
"""For real ports: a slow rate gives answers more time on a busy machine."""


class SentGoals:
    """An arm, and every goal that went to it."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.goals_deg: list[np.ndarray] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._arm, name)

    def send(self, goal: JointGoal) -> None:
        self.goals_deg.append(goal.joint_deg)
        self._arm.send(goal)


class Bench:
    """A follower on a manual clock."""

    def __init__(self) -> None:
        self.clock = ManualClock(NS_PER_S)
        plant = KinematicPlant.of_arm(PROFILE, self.clock.now_ns)
        self.bus = SimulatedBus.of_arm(PROFILE, plant)
        self.judge = ArmJudge(self.bus, plant, wire_limits(PROFILE), self.clock.now_ns, exact_time=True)
        self.port = BusPort(self.bus, self.clock)
        self.sent = SentGoals(connect_feetech_arm(PROFILE, self.port.open(), None))
        self.follower = Follower(lambda: self.sent, PROFILE, self.clock)  # pyright: ignore[reportArgumentType]
        self.follower.switch_on()
        self.follower.tick_until(lambda report: report.mode is Mode.RUNNING)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * PROFILE.control_rate_hz)):
            self.report = self.follower.tick()

    @property
    def stands(self) -> bool:
        """Whether the last goals did not move."""
        return bool((np.abs(np.diff(self.sent.goals_deg[-2:], axis=0)) < 1e-6).all())

    def torque(self) -> list[int]:
        return [servo.register(reg.TORQUE_ENABLE) for servo in self.bus.servos]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """No limit of it may be broken, whatever a test does."""
    made = Bench()
    yield made
    made.judge.assert_clean()


def test_stands_at_its_present_pose_until_it_is_led(bench: Bench) -> None:
    before_deg = bench.follower.state.joint_deg
    bench.run(0.5)
    assert np.abs(np.array(bench.sent.goals_deg) - before_deg).max() < 1e-6
    assert bench.torque() == [reg.TORQUE_ON] * N


@pytest.mark.slow
def test_a_far_target_is_reached_inside_the_limits(bench: Bench) -> None:
    goal_deg = bench.follower.set_target(np.array([80.0, -60.0, 70.0, 40.0, -90.0, 90.0]))
    bench.run(2.0)
    sent_deg = np.array(bench.sent.goals_deg)
    period_s = PERIOD_NS / NS_PER_S
    velocity = np.diff(sent_deg, axis=0) / period_s
    acceleration = np.diff(velocity, axis=0) / period_s
    assert (np.abs(velocity) <= LIMITS.max_velocity_deg_s + 1e-6).all()
    assert (np.abs(acceleration) <= LIMITS.max_acceleration_deg_s2 + 1e-3).all()
    np.testing.assert_allclose(sent_deg[-1], goal_deg, atol=1e-6)
    np.testing.assert_allclose(bench.follower.state.joint_deg, goal_deg, atol=0.5)


@pytest.mark.slow
def test_a_target_outside_the_limits_is_brought_inside(bench: Bench) -> None:
    clipped_deg = bench.follower.set_target(np.full(N, 500.0))
    np.testing.assert_array_equal(clipped_deg, LIMITS.max_deg)
    bench.run(3.0)
    np.testing.assert_allclose(bench.sent.goals_deg[-1], LIMITS.max_deg, atol=1e-6)


def test_a_target_that_is_no_number_changes_nothing(bench: Bench) -> None:
    with pytest.raises(InputError, match="nan"):
        bench.follower.set_target(np.array([np.nan] * N))
    bench.run(0.2)
    assert bench.follower.fault is None


def test_hold_brakes_and_stays(bench: Bench) -> None:
    bench.follower.set_target(np.full(N, 60.0))
    bench.run(0.2)
    begun_ns = bench.clock.now_ns()
    bench.follower.hold()
    assert bench.clock.now_ns() - begun_ns < NS_PER_S
    assert bench.stands
    assert bench.sent.goals_deg[-1][ELBOW] < 60.0


@pytest.mark.slow
def test_park_goes_to_the_park_pose(bench: Bench) -> None:
    begun_ns = bench.clock.now_ns()
    bench.follower.park()
    assert bench.clock.now_ns() - begun_ns < 8 * NS_PER_S
    assert bench.torque() == [reg.TORQUE_OFF] * N
    np.testing.assert_allclose(bench.sent.goals_deg[-1], PROFILE.park_pose_deg, atol=1e-6)


@pytest.mark.slow
def test_heat_is_a_fault_that_names_the_joint_and_holds(bench: Bench) -> None:
    bench.follower.set_target(np.full(N, 60.0))
    bench.run(0.1)
    bench.bus.servos[ELBOW].temperature_c = 80
    bench.run(2.0)
    assert bench.follower.fault is not None
    assert "elbow_flex" in str(bench.follower.fault)
    assert "torque still on" in str(bench.follower.fault)
    assert bench.follower.fault.hint
    with pytest.raises(ArmFault):
        bench.follower.set_target(np.zeros(N))
    assert bench.stands
    assert bench.torque() == [reg.TORQUE_ON] * N


def test_a_target_set_beside_a_fault_does_not_move_the_arm(bench: Bench) -> None:
    bench.bus.servos[ELBOW].temperature_c = 80
    bench.run(1.0)
    resting_deg = bench.sent.goals_deg[-1]
    bench.follower._targets.set_target(np.full(N, 40.0))  # as `set_target` of another thread may do at the same time
    bench.run(0.5)
    np.testing.assert_array_equal(bench.sent.goals_deg[-1], resting_deg)


def test_a_servo_that_falls_asleep_is_sent_nothing_more(bench: Bench) -> None:
    bench.bus.servos[ELBOW].connected = False
    bench.run(1.0)
    assert bench.follower.finished
    assert "elbow_flex" in str(bench.follower.fault)
    sent = len(bench.sent.goals_deg)
    bench.bus.servos[ELBOW].connected = True
    bench.run(1.0)
    assert len(bench.sent.goals_deg) == sent


@pytest.mark.slow
def test_a_damaged_answer_is_no_fault(bench: Bench) -> None:
    bench.bus.disturb = lambda data: data[:-1]
    bench.run(0.02)
    bench.bus.disturb = lambda data: data
    bench.run(1.0)
    assert bench.follower.fault is None


def test_a_pulled_cable_is_a_fault(bench: Bench) -> None:
    bench.port.unplug()
    bench.run(0.1)
    assert bench.follower.finished
    assert "port disappeared" in str(bench.follower.fault)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[tuple[PtyPort, SimulatedBus]]:
    plant = KinematicPlant.of_arm(PROFILE)
    bus = SimulatedBus.of_arm(PROFILE, plant)
    judge = ArmJudge(bus, plant, wire_limits(PATIENT), time.monotonic_ns, exact_time=False)
    with PtyPort(bus, tmp_path / "arm") as served:
        yield served, bus
        with served.lock:
            judge.assert_clean()


def open_on(path: str) -> PacedFollower:
    return start_following(PATIENT, lambda: open_feetech_arm(PATIENT, path, None))


def lead_to(follower: PacedFollower, target_deg: np.ndarray) -> None:
    """Until the arm is there; a fault, which `set_target` raises, ends the wait."""
    while np.abs(follower.state.joint_deg - follower.set_target(target_deg)).max() > 1.0:
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "torque"), [("hold", reg.TORQUE_ON), ("park", 0), ("release", 0)])
def test_endings_on_a_real_port(port: tuple[PtyPort, SimulatedBus], ending: str, torque: int) -> None:
    served, bus = port
    follower = open_on(served.path)
    lead_to(follower, np.full(N, 15.0))
    if ending == "release":
        with served.lock:
            assert isinstance(bus.tap, ArmJudge)
            bus.tap.ask_for_release()
    getattr(follower, ending)()
    pose_deg = follower._follower.state.joint_deg
    follower.close()
    with served.lock:
        assert [servo.register(reg.TORQUE_ENABLE) for servo in bus.servos] == [torque] * N
    expected_deg = np.array(PROFILE.park_pose_deg) if ending == "park" else np.full(N, 15.0)
    np.testing.assert_allclose(pose_deg, expected_deg, atol=1.5)


@pytest.mark.slow
def test_an_arm_that_stands_stays_standing(port: tuple[PtyPort, SimulatedBus]) -> None:
    served, bus = port
    first = open_on(served.path)
    lead_to(first, np.full(N, 15.0))
    first.hold()
    first.close()
    torques: list[int] = []
    bus.disturb = lambda data: (torques.extend(servo.register(reg.TORQUE_ENABLE) for servo in bus.servos), data)[1]
    second = open_on(served.path)
    np.testing.assert_allclose(second.state.joint_deg, np.full(N, 15.0), atol=1.5)
    second.hold()
    second.close()
    assert set(torques) == {reg.TORQUE_ON}


@pytest.mark.slow
def test_one_program_owns_the_arm(port: tuple[PtyPort, SimulatedBus]) -> None:
    served, _ = port
    first = open_on(served.path)
    with pytest.raises(MissingError, match="in use"):
        open_on(served.path)
    first.close()
    open_on(served.path).close()


@pytest.mark.slow
def test_a_lost_arm_ends_the_following_and_leaves_the_port_free(port: tuple[PtyPort, SimulatedBus]) -> None:
    served, _ = port
    follower = open_on(served.path)
    served.unplug()
    with pytest.raises(ArmFault, match="disappeared"):
        lead_to(follower, np.full(N, 90.0))
    follower.hold()
    follower.close()
    served.replug()
    open_on(served.path).close()


@pytest.mark.slow
def test_a_silent_servo_makes_the_whole_arm_stand_and_go_on(bench: Bench) -> None:
    bench.follower.set_target(np.full(N, 60.0))
    bench.run(0.2)
    bench.bus.servos[ELBOW].connected = False
    bench.run(0.3)
    standing_deg = bench.sent.goals_deg[-1]
    bench.bus.servos[ELBOW].connected = True
    bench.run(0.05)
    np.testing.assert_allclose(bench.sent.goals_deg[-1], standing_deg, atol=0.1)
    bench.run(3.0)
    assert bench.follower.fault is None
    np.testing.assert_allclose(bench.sent.goals_deg[-1], 60.0, atol=1e-6)


def test_an_arm_that_lost_its_power_is_not_switched_on(bench: Bench) -> None:
    bench.follower.set_target(np.full(N, 60.0))
    bench.run(0.2)
    for supply_mv in (0, 7400):
        for servo in bench.bus.servos:
            servo.supply_mv = supply_mv
        bench.run(0.2)
    assert bench.follower.finished
    assert "the arm lost its power and is limp" in str(bench.follower.fault)
    assert bench.torque() == [reg.TORQUE_OFF] * N


def test_a_servo_that_lost_its_power_is_left_out_while_the_others_hold(bench: Bench) -> None:
    bench.follower.set_target(np.full(N, 60.0))
    bench.run(0.2)
    for supply_mv in (0, 7400):
        bench.bus.servos[ELBOW].supply_mv = supply_mv
        bench.run(0.3)
    assert "a servo lost its power and was not switched on again (elbow_flex)" in str(bench.follower.fault)
    assert bench.torque() == [reg.TORQUE_OFF if joint == ELBOW else reg.TORQUE_ON for joint in range(N)]
    assert bench.stands


def test_positions_that_cannot_be_true_are_a_fault_of_their_joint(bench: Bench) -> None:
    bench.follower.set_target(np.full(N, 20.0))
    places = iter(range(0, 4096, 37))
    bench.bus.servos[ELBOW].report_position = lambda _: next(places) * 29 % 4096
    bench.run(0.5)
    assert "positions that its joint cannot have reached (elbow_flex)" in str(bench.follower.fault)
    assert bench.stands


PATIENCE_S = 60.0
PROGRAM = """
import resource, signal, sys, threading, time
import numpy as np
from sefa_edge.edge.control.paced import start_following
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import open_feetech_arm
from sefa_edge.profiles.arms import load_arm_profile

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
profile, emergency, path, doing = load_arm_profile("so101_sim"), Emergency(), *sys.argv[1:]

def follow():
    follower = start_following(profile, lambda: open_feetech_arm(profile, path, None, emergency), emergency)
    follower.set_target(np.array([60.0, -40.0, 40.0, 20.0, 30.0, 80.0]))
    return follower

if doing == "handling":
    signal.signal(signal.SIGQUIT, lambda *_: print("handled", flush=True))
if doing == "thread":
    made = []
    thread = threading.Thread(target=lambda: made.append(follow()))
    thread.start()
    thread.join()
    follower = made[0]
else:
    follower = follow()
if doing == "closed":
    follower.hold()
    follower.close()
print("follows", flush=True)
if doing == "parking":
    follower.park()
while True:
    time.sleep(0.01)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("doing", "lets_go"),
    [("leading", True), ("parking", True), ("closed", False), ("thread", False), ("handling", False)],
)
def test_sigquit_of_a_program_that_leads_an_arm(tmp_path: Path, doing: str, lets_go: bool) -> None:
    """Torque off first, then the end by SIGQUIT; a program that handles SIGQUIT itself keeps its own way."""
    plant = KinematicPlant.of_arm(PROFILE)
    bus = SimulatedBus.of_arm(PROFILE, plant)
    judge = ArmJudge(bus, plant, wire_limits(PROFILE), time.monotonic_ns, exact_time=False)
    with PtyPort(bus, tmp_path / "arm") as served:
        prefer_servos()
        words = [sys.executable, "-c", PROGRAM, served.path, doing]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as program, ended(program):
            assert program.stdout is not None
            assert program.stdout.readline() == "follows\n"
            time.sleep(0.2)
            if lets_go:
                with served.lock:
                    judge.ask_for_release()
            program.send_signal(signal.SIGQUIT)
            if doing == "handling":
                assert program.stdout.readline() == "handled\n"
                program.kill()
            assert program.wait(PATIENCE_S) == (-signal.SIGKILL if doing == "handling" else -signal.SIGQUIT)
        while bus_is_behind(served, bus, lets_go):
            time.sleep(0.01)
        with served.lock:
            torque = [servo.register(reg.TORQUE_ENABLE) for servo in bus.servos]
            judge.assert_clean()
    assert torque == [reg.TORQUE_OFF if lets_go else reg.TORQUE_ON] * N


@contextmanager
def ended(program: subprocess.Popen[str]) -> Iterator[None]:
    """Nothing that a failed test has started goes on."""
    try:
        yield
    finally:
        program.kill()


def bus_is_behind(served: PtyPort, bus: SimulatedBus, lets_go: bool) -> bool:
    """Whether the servos, played by a thread of this program, have yet to take what the program sent last."""
    with served.lock:
        return lets_go and any(servo.register(reg.TORQUE_ENABLE) for servo in bus.servos)
