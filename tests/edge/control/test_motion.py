"""What the arm's own errors lead to in each mode, and what a setpoint source may change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sefa_edge.edge.control.arming import Arming
from sefa_edge.edge.control.clock import ManualClock, Pacer
from sefa_edge.edge.control.links import DirectLinks
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.modes import AfterFault
from sefa_edge.edge.control.motion import Motion, MotionSettings
from sefa_edge.edge.control.targets import Targets
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import NONE_NS, TickReport, Torque
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.errors import ArmFault
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.plant_arm import PlantArm
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import NS_PER_S, period_ns
from tests.edge.control.failing_arm import GONE, INTERRUPTED, OUTSIDE, TIMEOUT, UNCONFIRMED, FailingArm

PROFILE = load_arm_profile("so101_sim")
N = len(PROFILE.joints)
PERIOD_NS = period_ns(PROFILE.control_rate_hz)


class Bench:
    """A loop around an arm that fails when a test says so."""

    def __init__(self, settings: MotionSettings | None = None, profile: ArmProfile = PROFILE) -> None:
        self.clock, self.links, self.targets = ManualClock(NS_PER_S), DirectLinks(), Targets()
        self.arm = FailingArm(profile, self.clock.now_ns)
        self.motion = Motion.connect(lambda: self.arm, profile, PERIOD_NS, self.targets, settings)
        self.loop = ControlLoop(self.clock, self.links, self.motion)
        self.pacer = Pacer(self.clock, PERIOD_NS)

    def tick(self, *commands: Command) -> TickReport:
        self.links.waiting_events.extend(commands)
        return self.loop.tick(self.pacer.wait())

    def until(self, condition: Callable[[TickReport], bool], ticks: int = 1000) -> TickReport:
        for _ in range(ticks):
            report = self.tick()
            if condition(report) or self.loop.state.finished:
                return report
        raise AssertionError(f"still {self.loop.state}")

    def run(self) -> None:
        self.tick(Command.ARM, Command.RUN)
        assert self.until(lambda report: report.mode is Mode.RUNNING).mode is Mode.RUNNING


class HotArm(PlantArm):
    """Its first reading is bad."""

    def read_state(self) -> JointState:
        state = super().read_state()
        state.temperature_c[0] = 90.0
        return state


def test_a_profile_that_does_not_fit_the_arm_leaves_the_port_free() -> None:
    park_pose_deg = [*PROFILE.park_pose_deg[:-1], 500.0]
    arm = FailingArm(PROFILE, lambda: 0)
    with pytest.raises(InputError):
        Motion.connect(lambda: arm, PROFILE.model_copy(update={"park_pose_deg": park_pose_deg}), PERIOD_NS)
    assert arm.calls[-1] == "close"


def test_the_first_reading_is_judged_before_anything_is_written() -> None:
    assert Bench().motion.first_reading_is_good
    plant = KinematicPlant.of_arm(PROFILE, lambda: 0)
    hot = Motion.connect(lambda: HotArm(PROFILE, plant, lambda: 0), PROFILE, PERIOD_NS)
    assert not hot.first_reading_is_good


def test_a_setpoint_that_is_not_a_number_is_a_fault_and_not_sent() -> None:
    bench = Bench(MotionSettings(Arming.IMMEDIATELY))
    bench.run()
    bench.targets.set_target(np.full(N, np.nan))
    sent = bench.arm.calls.count("send")
    report = bench.tick()
    assert report.fault is Fault.BAD_CHUNK
    assert bench.arm.calls.count("send") == sent


def test_an_emergency_stop_during_the_check_of_the_stance_leaves_the_torque_off() -> None:
    bench = Bench()
    bench.arm.fail("check_position_limits", INTERRUPTED)
    bench.tick(Command.ARM)
    bench.until(lambda _: "check_position_limits" in bench.arm.calls)
    assert bench.loop.state.mode is Mode.IDLE
    assert "enable_torque" not in bench.arm.calls
    assert bench.tick(Command.EMERGENCY).mode is Mode.RELEASED
    assert bench.arm.calls[-1] == "release_torque"


def test_a_stance_that_is_not_allowed_leaves_the_arm_untouched() -> None:
    bench = Bench()
    bench.arm.fail("check_position_limits", OUTSIDE)
    bench.tick(Command.ARM)
    report = bench.until(lambda report: bool(report.fault))
    assert (report.mode, report.fault, report.fault_joints) == (Mode.IDLE, Fault.OUTSIDE_RANGE, 1 << 2)
    assert bench.motion.subjects == (str(OUTSIDE),)
    assert bench.motion.arm.torque is Torque.UNTOUCHED


@pytest.mark.slow
def test_an_arm_that_never_answers_in_full_is_not_armed() -> None:
    """One answer missing now and then: no fault of its own, but the checks never end."""
    bench = Bench()
    ticks, patience_ns = 0, PROFILE.safety.recovery_ms * 1_000_000
    bench.links.waiting_events.append(Command.ARM)
    while not bench.loop.state.finished:
        bench.arm.fail("read_state", TIMEOUT if ticks % 5 == 0 else None)
        bench.tick()
        ticks += 1
    assert (bench.loop.state.mode, bench.loop.state.fault) == (Mode.IDLE, Fault.ARM_TIMEOUT)
    assert 0 <= ticks * PERIOD_NS - patience_ns <= 3 * PERIOD_NS
    assert "enable_torque" not in bench.arm.calls


@pytest.mark.slow
def test_targets_move_the_arm_in_running_alone_and_never_grow_old() -> None:
    bench = Bench(MotionSettings(Arming.IMMEDIATELY))
    bench.targets.set_target(np.full(N, 10.0))
    bench.tick(Command.ARM)
    report = bench.until(lambda report: report.settled)
    np.testing.assert_allclose(report.joint_deg, bench.motion.arm.state.joint_deg)
    assert np.abs(report.goal_deg - 10.0).max() > 1.0, "it moved before RUN"
    bench.tick(Command.RUN)
    for _ in range(300):
        report = bench.tick()
    assert report.fault is Fault.NONE
    assert (report.chunk_id, report.frame_age_ns) == (NONE_NS, NONE_NS)
    np.testing.assert_allclose(report.goal_deg, 10.0, atol=1e-6)


def test_an_arm_that_a_program_leads_holds_after_a_fault_and_ends() -> None:
    bench = Bench(MotionSettings(Arming.IMMEDIATELY, AfterFault.HOLD))
    bench.run()
    bench.targets.set_target(np.full(N, 40.0))
    for _ in range(10):
        bench.tick()
    bench.motion.apply(Fault.OVERHEATED, bench.clock.now_ns())
    bench.until(lambda report: report.mode is Mode.FAULT)
    sent = bench.arm.calls.count("send")
    bench.tick()
    assert (bench.loop.state.mode, bench.loop.state.fault) == (Mode.FAULT, Fault.OVERHEATED)
    assert bench.arm.calls.count("send") == sent
    assert bench.motion.arm.torque is Torque.ON


def test_commands_wait_for_the_checks_and_run_follows_arm() -> None:
    bench = Bench()
    bench.run()
    assert bench.arm.calls.index("check_position_limits") < bench.arm.calls.index("enable_torque")
    assert bench.motion.patience_ticks == PROFILE.goal_timeout_ms * 1_000_000 // PERIOD_NS


def test_a_fault_during_the_checks_drops_the_commands() -> None:
    bench = Bench()
    bench.tick(Command.ARM)
    bench.links.waiting_events.append(Fault.POLICY_LOST)
    report = bench.tick()
    assert (report.mode, report.fault) == (Mode.IDLE, Fault.POLICY_LOST)
    for _ in range(100):
        bench.tick()
    assert "enable_torque" not in bench.arm.calls


def test_another_command_replaces_those_that_wait() -> None:
    bench = Bench()
    bench.tick(Command.ARM)
    bench.tick(Command.HOLD)
    for _ in range(100):
        bench.tick()
    assert "enable_torque" not in bench.arm.calls


@pytest.mark.parametrize(("error", "fault"), [(TIMEOUT, Fault.TORQUE_REFUSED), (INTERRUPTED, Fault.NONE)])
def test_torque_that_does_not_come_on_starts_no_move(error: ArmFault, fault: Fault) -> None:
    bench = Bench(MotionSettings(Arming.IMMEDIATELY))
    bench.arm.fail("enable_torque", *[error] * 5)
    bench.targets.set_target(np.full(N, 40.0))
    assert bench.tick(Command.ARM).fault is fault
    assert bench.motion.arm.torque is Torque.UNKNOWN


def test_an_emergency_stop_is_repeated_until_the_retry_time_is_over() -> None:
    safety = PROFILE.safety.model_copy(update={"emergency_retry_ms": 500.0})
    bench = Bench(MotionSettings(Arming.IMMEDIATELY), PROFILE.model_copy(update={"safety": safety}))
    bench.run()
    retry_ns = 500_000_000
    bench.arm.fail("release_torque", *[UNCONFIRMED] * 10_000)
    begun_ns = bench.tick(Command.EMERGENCY).start_ns
    report = bench.until(lambda report: report.mode is Mode.FAULT)
    assert 0 < report.start_ns - begun_ns - retry_ns <= PERIOD_NS
    assert (report.fault, report.fault_joints) == (Fault.EMERGENCY_STOP, 1 << 2)


@pytest.mark.slow
def test_a_planned_move_continues_after_a_silence() -> None:
    bench = Bench(MotionSettings(Arming.IMMEDIATELY))
    bench.run()
    bench.targets.set_target(np.full(N, 20.0))
    bench.until(lambda report: bool(np.abs(report.goal_deg - 20.0).max() < 1e-6))
    bench.tick(Command.PARK)
    bench.until(lambda report: report.mode is Mode.PARK)
    for _ in range(40):
        bench.tick()
    bench.arm.fail("read_state", *[TIMEOUT] * 5)
    report = bench.until(lambda report: report.mode is Mode.PARK and report.settled)
    assert report.fault is Fault.NONE
    np.testing.assert_allclose(report.goal_deg, PROFILE.park_pose_deg, atol=1e-6)


def test_an_arm_that_is_back_parks_from_where_it_is() -> None:
    bench = Bench(MotionSettings(Arming.IMMEDIATELY))
    bench.run()
    bench.arm.fail("read_state", GONE)
    assert bench.tick().fault is Fault.ARM_DISCONNECTED
    bench.until(lambda report: report.mode is Mode.RELEASED, 3000)
    assert bench.loop.state.parked
