"""The whole loop tick by tick on a manual clock and a simulated plant: no process, no port, no wall clock."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sefa_edge.edge.control.arming import Arming
from sefa_edge.edge.control.chunks import ChunkPlayer
from sefa_edge.edge.control.clock import ManualClock, Pacer
from sefa_edge.edge.control.handover_settings import HAND_OVER_MODES, HandOver, HandOverMode
from sefa_edge.edge.control.links import DirectLinks
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.motion import Motion, MotionSettings
from sefa_edge.edge.control.safety import Envelope
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import NONE_NS, TickReport, Torque
from sefa_edge.edge.ipc.vocabulary import Command, Event, Mode
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.plant_arm import PlantArm
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns, period_ns

STEP_NS = ms_to_ns(100)
HORIZON = 16


class Bench:
    """A loop, its world and what it reported."""

    def __init__(self) -> None:
        self.profile: ArmProfile = load_arm_profile("so101_sim")
        self.clock, self.links = ManualClock(NS_PER_S), DirectLinks()
        self.plant = KinematicPlant.of_arm(self.profile, self.clock.now_ns)
        self.arm = PlantArm(self.profile, self.plant, self.clock.now_ns)
        self.period_ns = period_ns(self.profile.control_rate_hz)
        self.loop: ControlLoop = ControlLoop(
            self.clock,
            self.links,
            Motion.connect(lambda: self.arm, self.profile, self.period_ns, settings=MotionSettings(Arming.IMMEDIATELY)),
        )
        self.pacer = Pacer(self.clock, self.period_ns)
        self.reports: list[TickReport] = []

    def tick(self) -> TickReport:
        self.reports.append(self.loop.tick(self.pacer.wait()))
        return self.reports[-1]

    def ask(self, event: Event) -> TickReport:
        self.links.waiting_events.append(event)
        return self.tick()

    def until(self, condition: Callable[[TickReport], bool], ticks: int = 2000) -> TickReport:
        for _ in range(ticks):
            if condition(self.tick()) or self.loop.state.finished:
                return self.reports[-1]
        raise AssertionError(f"still {self.reports[-1]}")

    def arm_and_run(self) -> None:
        self.ask(Command.ARM)
        self.until(lambda report: report.settled)
        assert self.ask(Command.RUN).mode is Mode.RUNNING

    def offer(self, chunk_id: int, pose_deg: np.ndarray) -> ActionChunk:
        """A straight way from where the arm was sent to a pose, observed now."""
        here = self.loop.motion.commanded.joint_deg
        share = np.linspace(1 / HORIZON, 1, HORIZON)[:, None]
        path = (here + share * (pose_deg - here)).astype(np.float32)
        now_ns = self.clock.now_ns()
        chunk = ActionChunk(chunk_id, now_ns, now_ns + STEP_NS, STEP_NS, path, 0)
        self.links.waiting_chunks.append(chunk)
        return chunk

    def assert_limits_kept(self) -> None:
        """Every run of commands without a pause in it keeps position, velocity and acceleration."""
        envelope = Envelope.of(self.profile.limit_table(), self.period_ns)
        goals = np.array([report.goal_deg for report in self.reports])
        goals = goals[~np.isnan(goals).any(axis=1)]
        steps = np.diff(goals, axis=0)
        assert (goals >= envelope.min_deg - 1e-9).all()
        assert (goals <= envelope.max_deg + 1e-9).all()
        assert (np.abs(steps) <= envelope.step_deg + 1e-9).all()
        assert (np.abs(np.diff(steps, axis=0)) <= envelope.change_deg + 1e-9).all()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_moves_and_no_torque_changes_before_arm(bench: Bench) -> None:
    report = bench.tick()
    assert report.mode is Mode.IDLE
    assert np.isnan(report.goal_deg).all()
    assert bench.loop.arm.torque is Torque.UNTOUCHED
    bench.ask(Command.STOP)
    assert bench.loop.state.finished
    assert bench.loop.arm.torque is Torque.UNTOUCHED
    assert bench.loop.state.exit_code == 0


def test_arm_moves_to_the_start_pose(bench: Bench) -> None:
    bench.ask(Command.ARM)
    report = bench.until(lambda report: report.settled)
    assert report.mode is Mode.ARMED
    np.testing.assert_allclose(report.goal_deg, bench.profile.start_pose_deg, atol=1e-6)
    np.testing.assert_allclose(report.joint_deg, bench.profile.start_pose_deg, atol=0.5)
    bench.assert_limits_kept()


def test_a_chunk_is_reached_step_by_step_at_its_times(bench: Bench) -> None:
    bench.arm_and_run()
    pose = np.array([20.0, -15.0, 10.0, 5.0, -20.0, 40.0])
    chunk = bench.offer(1, pose)
    goals = {}
    for _ in range(HORIZON * 10):
        report = bench.tick()
        goals[bench.clock.now_ns()] = report.goal_deg
    for row in range(1, HORIZON):
        np.testing.assert_allclose(goals[chunk.first_step_ns + row * STEP_NS], chunk.joint_deg[row], atol=0.2)
    assert bench.reports[-1].chunk_id == 1
    bench.assert_limits_kept()


def test_ages_are_those_of_the_playing_chunk(bench: Bench) -> None:
    bench.arm_and_run()
    assert bench.tick().chunk_age_ns == NONE_NS
    chunk = bench.offer(1, np.array(bench.profile.start_pose_deg))
    bench.tick()
    report = bench.tick()
    assert report.frame_age_ns == bench.clock.now_ns() - chunk.observed_ns
    assert report.chunk_age_ns == bench.period_ns


@pytest.mark.slow
def test_stop_parks_releases_and_ends(bench: Bench) -> None:
    bench.arm_and_run()
    bench.offer(1, np.array([60.0, 40.0, -40.0, 30.0, 90.0, 80.0]))
    for _ in range(40):
        bench.tick()
    assert bench.ask(Command.STOP).mode is Mode.HOLD
    report = bench.until(lambda report: bench.loop.state.finished)
    assert report.mode is Mode.RELEASED
    assert bench.loop.state.parked
    assert bench.loop.arm.torque is Torque.OFF
    assert bench.loop.state.exit_code == 0
    np.testing.assert_allclose(report.joint_deg, bench.profile.park_pose_deg, atol=0.5)
    bench.assert_limits_kept()


@pytest.mark.slow
def test_episodes_follow_each_other(bench: Bench) -> None:
    for episode in range(3):
        bench.arm_and_run()
        bench.offer(episode, np.array([10.0 * episode, 10, 10, 10, 10, 10]))
        for _ in range(30):
            assert bench.tick().mode is Mode.RUNNING
        bench.ask(Command.HOLD)
        bench.until(lambda report: report.mode is Mode.HOLD and report.settled)
    assert bench.loop.state.fault is Fault.NONE
    bench.assert_limits_kept()


def test_a_chunk_from_before_the_run_is_not_played(bench: Bench) -> None:
    bench.ask(Command.ARM)
    bench.until(lambda report: report.settled)
    old = bench.offer(1, np.full(6, 50.0))
    bench.links.waiting_chunks.clear()
    bench.ask(Command.RUN)
    bench.tick()
    bench.links.waiting_chunks.append(old)
    assert bench.tick().chunk_id == NONE_NS
    np.testing.assert_allclose(bench.reports[-1].goal_deg, bench.profile.start_pose_deg, atol=1e-6)


@pytest.mark.slow
def test_an_obstructed_planned_move_gives_way(bench: Bench) -> None:
    bench.ask(Command.ARM)
    bench.until(lambda report: report.settled)
    bench.ask(Command.PARK)
    bench.until(lambda report: report.mode is Mode.PARK)
    bench.plant.set_torque(1, False)  # the shoulder does not move any more, as if it were held
    report = bench.until(lambda report: report.mode is Mode.HOLD)
    assert report.fault is Fault.FOLLOWING_ERROR
    assert report.fault_joints == 0b10
    report = bench.until(lambda report: report.settled)
    assert report.mode is Mode.HOLD
    assert abs(report.goal_deg[1] - report.joint_deg[1]) < 0.5
    bench.assert_limits_kept()
    bench.ask(Command.STOP)  # tries once more, is blocked again, and then leaves the arm holding
    bench.until(lambda report: bench.loop.state.finished)
    assert bench.loop.state.mode is Mode.FAULT
    assert bench.loop.arm.torque is Torque.ON
    bench.assert_limits_kept()


@pytest.mark.slow
def test_a_gripper_that_grips_is_no_obstruction(bench: Bench) -> None:
    bench.ask(Command.ARM)
    bench.until(lambda report: report.settled)
    bench.plant.set_torque(5, False)
    bench.ask(Command.RUN)
    bench.offer(1, np.array([0, 0, 0, 0, 0, 90.0]))
    for _ in range(150):
        assert bench.tick().fault is Fault.NONE
    bench.ask(Command.STOP)
    assert bench.until(lambda report: bench.loop.state.finished).mode is Mode.RELEASED
    assert bench.loop.state.exit_code == 0


@pytest.mark.slow
def test_a_joint_that_does_not_follow_for_long_ends_the_run(bench: Bench) -> None:
    bench.arm_and_run()
    bench.plant.set_torque(0, False)
    bench.offer(1, np.array([60.0, 0, 0, 0, 0, 9.0]))
    report = bench.until(lambda report: report.mode is not Mode.RUNNING)
    assert (report.fault, report.fault_joints) == (Fault.FOLLOWING_ERROR, 1)
    bench.plant.set_torque(0, True)
    bench.until(lambda report: bench.loop.state.finished)
    assert (bench.loop.state.mode, bench.loop.state.exit_code) == (Mode.RELEASED, 3)
    bench.assert_limits_kept()


@pytest.mark.slow
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_chunk_moves_nothing(bench: Bench, bad: float) -> None:
    bench.arm_and_run()
    chunk = bench.offer(1, np.full(6, 20.0))
    chunk.joint_deg[7, 3] = bad
    report = bench.tick()
    assert report.fault is Fault.BAD_CHUNK
    np.testing.assert_allclose(report.goal_deg, bench.profile.start_pose_deg, atol=1e-6)
    bench.until(lambda report: bench.loop.state.finished)
    assert (bench.loop.state.mode, bench.loop.state.exit_code) == (Mode.RELEASED, 3)


@pytest.mark.slow
def test_no_chunks_any_more_means_hold_then_park(bench: Bench) -> None:
    bench.arm_and_run()
    chunk = bench.offer(1, np.array([60.0, 40.0, -40.0, 30.0, 90.0, 80.0]))
    report = bench.until(lambda report: report.mode is not Mode.RUNNING)
    assert report.fault is Fault.CHUNK_TIMEOUT
    starved_ns = bench.clock.now_ns() - chunk.last_step_ns
    assert abs(starved_ns - bench.profile.limit_table().goal_timeout_ns) <= bench.period_ns
    bench.until(lambda report: bench.loop.state.finished)
    assert (bench.loop.state.mode, bench.loop.state.exit_code) == (Mode.RELEASED, 3)
    bench.assert_limits_kept()


@pytest.mark.slow
def test_a_run_without_a_first_chunk_stands_still_and_ends(bench: Bench) -> None:
    bench.arm_and_run()
    report = bench.until(lambda report: report.mode is not Mode.RUNNING)
    assert report.fault is Fault.CHUNK_TIMEOUT
    running = [report.goal_deg for report in bench.reports if report.mode is Mode.RUNNING]
    np.testing.assert_allclose(running, [bench.profile.start_pose_deg] * len(running), atol=1e-6)


def test_a_first_chunk_may_come_late(bench: Bench) -> None:
    bench.arm_and_run()
    for _ in range(100):
        bench.tick()
    bench.offer(1, np.full(6, 20.0))
    assert bench.tick().fault is Fault.NONE
    assert bench.tick().chunk_id == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", HAND_OVER_MODES)
def test_every_hand_over_keeps_the_limits(bench: Bench, mode: HandOverMode) -> None:
    bench.loop.motion.source = ChunkPlayer(HandOver(mode))
    bench.arm_and_run()
    random = np.random.default_rng(3)
    for chunk_id in range(12):
        bench.offer(chunk_id, random.uniform(0, 60, 6))
        for _ in range(40):
            bench.tick()
    bench.assert_limits_kept()
    assert bench.reports[-1].chunk_id == 11


@pytest.mark.slow
def test_long_stalls_are_skipped_and_then_a_fault(bench: Bench) -> None:
    bench.arm_and_run()
    bench.clock.sleep_until(bench.clock.now_ns() + ms_to_ns(95))
    assert bench.tick().skipped_ticks == 9
    assert bench.loop.state.fault is Fault.NONE
    bench.clock.sleep_until(bench.clock.now_ns() + bench.profile.limit_table().goal_timeout_ns)
    assert bench.tick().fault is Fault.LOOP_OVERRUN
    bench.until(lambda report: bench.loop.state.finished)
    assert (bench.loop.state.mode, bench.loop.state.exit_code) == (Mode.RELEASED, 3)
    bench.assert_limits_kept()


@pytest.mark.slow
def test_wild_chunks_never_break_limits(bench: Bench) -> None:
    bench.arm_and_run()
    random = np.random.default_rng(7)
    for chunk_id in range(60):
        chunk = bench.offer(chunk_id, np.zeros(6))
        chunk.joint_deg[:] = random.uniform(-400, 400, chunk.joint_deg.shape)
        for _ in range(int(random.integers(1, 20))):
            bench.tick()
    assert any(report.clipped_bits for report in bench.reports)
    bench.assert_limits_kept()


@pytest.mark.slow
def test_an_arm_found_outside_its_limits_is_led_back_in(bench: Bench) -> None:
    bench.plant.set_torque(0, True)
    bench.plant.set_goal_ticks(0, 3400)
    for _ in range(200):
        bench.tick()
    assert bench.arm.read_state().joint_deg[0] > bench.profile.joints[0].max_deg
    bench.ask(Command.ARM)
    report = bench.until(lambda report: report.settled)
    assert report.fault is Fault.NONE
    np.testing.assert_allclose(report.goal_deg, bench.profile.start_pose_deg, atol=1e-6)


def test_a_release_on_demand_says_that_it_was_not_parked(bench: Bench) -> None:
    bench.ask(Command.ARM)
    bench.until(lambda report: report.settled)
    bench.ask(Command.RELEASE)
    bench.until(lambda report: report.mode is Mode.RELEASED)
    assert bench.loop.arm.torque is Torque.OFF
    assert not bench.loop.state.parked
    bench.ask(Command.STOP)
    assert bench.loop.state.finished


class PatchyArm(PlantArm):
    """An arm whose joint 1 can lose its plug: it keeps its place, hears nothing and says nothing."""

    plugged = True
    last_deg = 0.0

    def read_state(self) -> JointState:
        state = super().read_state()
        if self.plugged:
            self.last_deg = state.joint_deg[1]
        state.joint_deg[1], state.valid_mask[1] = self.last_deg, self.plugged
        return state


def patchy_bench() -> tuple[Bench, PatchyArm]:
    bench = Bench()
    arm = PatchyArm(bench.profile, bench.plant, bench.clock.now_ns)
    motion = Motion.connect(lambda: arm, bench.profile, bench.period_ns, settings=MotionSettings(Arming.IMMEDIATELY))
    bench.loop = ControlLoop(bench.clock, bench.links, motion)
    return bench, arm


@pytest.mark.slow
def test_while_a_joint_is_silent_the_whole_arm_comes_to_a_stand() -> None:
    bench, arm = patchy_bench()
    bench.arm_and_run()
    bench.offer(1, np.array([20.0, 40.0, 10, 10, 10, 50]))
    moving = [bench.tick().goal_deg for _ in range(50)]
    arm.plugged = False
    braking = [bench.tick().goal_deg for _ in range(15)]
    waiting = [bench.tick().goal_deg for _ in range(20)]
    np.testing.assert_allclose(waiting, np.broadcast_to(braking[-1], (20, 6)), atol=1e-6)
    assert braking[-1][0] > moving[-1][0]
    assert bench.loop.state.fault is Fault.NONE
    bench.until(lambda report: bench.loop.state.finished)
    assert (bench.loop.state.fault, bench.loop.state.mode) == (Fault.ARM_TIMEOUT, Mode.FAULT)
    assert bench.loop.motion.fault_joints == 0b10


def test_a_joint_that_is_heard_again_goes_on_from_the_goal_that_it_holds() -> None:
    bench, arm = patchy_bench()
    bench.arm_and_run()
    bench.offer(1, np.array([0.0, 40.0, 0, 0, 0, 10]))
    for _ in range(50):
        bench.tick()
    arm.plugged = False
    for _ in range(30):
        bench.tick()
    held_deg = arm.read_command().goal_deg[1]
    bench.plant.set_torque(1, False)  # it is held back, so that its place and its goal differ
    bench.plant.set_goal_ticks(1, 1900)
    arm.plugged = True
    reports = [bench.tick() for _ in range(3)]
    change_deg = bench.loop.motion.envelope.change_deg[1]
    assert abs(reports[0].goal_deg[1] - held_deg) <= change_deg + 1e-9
    assert [report.fault for report in reports] == [Fault.NONE] * 3
