"""`FeetechArm` end to end: a real pseudo-terminal, packet-level servos behind it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.calibration import nominal_calibration
from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmFault, ArmTimeout
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import FeetechArm, open_feetech_arm
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.messages import JointGoal, JointState
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.schema import FeetechBus
from sefa_edge.profiles.servo_models import servo_model
from tests.rigs.simulated_arm import SimulatedArm

PROFILE = load_arm_profile("so101_sim").model_copy(update={"control_rate_hz": 20.0})
"""A slow rate gives answers more time on a busy machine."""

N = len(PROFILE.joints)
ATTEMPTS = 1000
PATIENCE_S = 60.0
STALLED_GOALS = 4000
"""More than the 64 KiB that a pseudo-terminal holds."""


class RecordingPlant(KinematicPlant):
    """Records the goals that it receives."""

    def __init__(self, start_ticks: list[float]) -> None:
        super().__init__(start_ticks)
        self.goals: list[tuple[int, float]] = []

    def set_goal_ticks(self, index: int, ticks: float) -> None:
        self.goals.append((index, ticks))
        super().set_goal_ticks(index, ticks)

    def carry(self, index: int, ticks: float) -> None:
        """Move a limp joint by hand."""
        self._position_ticks[index] = ticks


class Stand(SimulatedArm[RecordingPlant]):
    """The simulated side of a test."""

    def open(self) -> FeetechArm:
        return open_feetech_arm(PROFILE, self.port.path, None)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(PROFILE, tmp_path / "arm", RecordingPlant([2000.0, 1500.0, 2500.0, 2100.0, 1900.0, 2500.0])) as made:
        yield made


@pytest.fixture
def arm(stand: Stand) -> Iterator[FeetechArm]:
    opened = stand.open()
    yield opened
    opened.close()


def read_until(arm: Arm, wanted: Callable[[JointState], bool]) -> JointState:
    """The first reading that satisfies `wanted`; replies may be late on a busy machine."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            state = arm.read_state()
        except ArmTimeout:
            continue
        if wanted(state):
            return state
    raise AssertionError("no reading satisfied the condition")


def complete(state: JointState) -> bool:
    return bool(state.valid_mask.all())


def goal(joint_deg: np.ndarray) -> JointGoal:
    return JointGoal(1, 0, 0, joint_deg)


def scan_until(port: str, servo_ids: range, wanted: list[int]) -> None:
    link = Link.open(port, PROFILE.feetech.baud)
    try:
        assert any(ServoBus(link).scan(servo_ids) == wanted for _ in range(ATTEMPTS))
    finally:
        link.close()


def test_scan_finds_the_servos(stand: Stand) -> None:
    scan_until(stand.port.path, range(8), [1, 2, 3, 4, 5, 6])


def test_a_reading_is_complete_and_in_joint_units(stand: Stand, arm: FeetechArm) -> None:
    state = read_until(arm, complete)
    assert arm.joint_names == PROFILE.joint_names
    assert state.joint_deg[0] == pytest.approx((2000 - 2047.5) * 360 / 4095)
    assert state.joint_deg[5] == pytest.approx((2500 - 1934) / (3186 - 1934) * 100)
    assert state.supply_mv == 7400
    assert state.temperature_c.tolist() == [30.0] * N
    assert state.status_bits.tolist() == [0] * N
    assert state.age_ns.tolist() == [0] * N
    later = read_until(arm, complete)
    assert later.sequence > state.sequence
    assert later.stamp_ns > state.stamp_ns


def test_opening_and_closing_change_nothing(stand: Stand) -> None:
    stand.bus.servo(3).set_register(reg.TORQUE_ENABLE, 1)
    stand.open().close()
    assert stand.torque() == [0, 0, 1, 0, 0, 0]
    assert stand.plant.goals == []


@pytest.mark.slow
def test_the_arm_moves_to_a_goal_and_releases(stand: Stand, arm: FeetechArm) -> None:
    target = np.array([10.0, -20.0, 30.0, 5.0, -40.0, 60.0])
    arm.enable_torque()
    assert stand.torque() == [1] * N
    arm.send(goal(target))
    state = read_until(arm, lambda s: bool(np.abs(s.joint_deg - target).max() < 0.1))
    assert complete(state)
    arm.release_torque()
    assert stand.torque() == [0] * N


@pytest.mark.slow
def test_enabling_torque_first_sets_the_goal_to_the_present_pose(stand: Stand, arm: FeetechArm) -> None:
    arm.enable_torque()
    arm.send(goal(np.full(N, 20.0)))
    read_until(arm, lambda s: bool(np.abs(s.joint_deg - 20.0).max() < 0.1))
    arm.release_torque()
    with stand.port.lock:
        for index in range(N):
            stand.plant.carry(index, 2200.0 + index)
        stand.plant.goals.clear()
    arm.enable_torque()
    assert {index for index, _ in stand.plant.goals} == set(range(N))
    assert all(ticks == 2200 + index for index, ticks in stand.plant.goals)


def test_goals_beyond_the_encoder_are_clipped(stand: Stand, arm: FeetechArm) -> None:
    arm.send(goal(np.array([900.0, -900.0, 0.0, 0.0, 0.0, 130.0])))
    read_until(arm, complete)
    goals = [servo.register(reg.GOAL_POSITION) for servo in stand.bus.servos]
    assert goals[:2] == [4095, 0]
    assert goals[5] == PROFILE.joints[5].range_max_ticks


@pytest.mark.parametrize("not_finite", [np.nan, np.inf])
def test_a_goal_that_is_not_finite_is_refused(stand: Stand, arm: FeetechArm, not_finite: float) -> None:
    with pytest.raises(ArmFault, match="goal 1 holds"):
        arm.send(goal(np.array([0, 0, not_finite, 0, 0, 0])))
    read_until(arm, complete)
    assert stand.plant.goals == []


def test_a_silent_servo_is_marked_invalid_and_its_age_grows(stand: Stand, arm: FeetechArm) -> None:
    before = read_until(arm, complete)
    stand.bus.servo(4).connected = False
    state = read_until(arm, lambda s: bool(s.valid_mask[[0, 1, 2, 4, 5]].all()))
    assert state.valid_mask.tolist() == [True, True, True, False, True, True]
    assert state.age_ns[3] >= state.stamp_ns - before.stamp_ns > 0
    assert state.joint_deg[3] == before.joint_deg[3]
    assert read_until(arm, lambda s: bool(s.valid_mask.any())).age_ns[3] > state.age_ns[3]
    stand.bus.servo(4).connected = True
    assert read_until(arm, complete).age_ns[3] == 0


def test_a_read_without_any_reply_is_a_timeout(stand: Stand, arm: FeetechArm) -> None:
    for servo in stand.bus.servos:
        servo.connected = False
    with pytest.raises(ArmTimeout, match="no servo answered"):
        arm.read_state()


@pytest.mark.slow
def test_torque_that_is_not_confirmed_is_a_fault(stand: Stand, arm: FeetechArm) -> None:
    arm.enable_torque()
    stand.bus.servo(2).connected = False
    with pytest.raises(ArmFault, match="shoulder_lift did not switch its torque off"):
        arm.release_torque()
    assert stand.torque() == [0, 1, 0, 0, 0, 0]
    with pytest.raises(ArmFault, match="shoulder_lift did not report its position"):
        arm.enable_torque()
    assert stand.torque() == [0, 1, 0, 0, 0, 0]


def test_status_bits_are_reported(stand: Stand, arm: FeetechArm) -> None:
    stand.bus.servo(3).fault_bits = StatusBits.OVERLOAD
    stand.bus.servo(5).supply_mv = 3600
    stand.bus.servo(6).temperature_c = 80
    state = read_until(arm, complete)
    assert state.status_bits.tolist() == [0, 0, 0x20, 0, 0x01, 0x04]
    assert state.supply_mv == 3600
    assert state.temperature_c[5] == 80


def test_a_damaged_reply_invalidates_only_its_own_joint(stand: Stand, arm: FeetechArm) -> None:
    def flip_bit_of_third_answer(data: bytes) -> bytes:
        return data[:50] + bytes((data[50] ^ 4,)) + data[51:] if len(data) == 126 else data

    stand.bus.disturb = flip_bit_of_third_answer
    state = read_until(arm, lambda s: bool(s.valid_mask.any()))
    assert state.valid_mask.tolist() == [True, True, False, True, True, True]


def test_confirmation_survives_a_lost_answer(stand: Stand, arm: FeetechArm) -> None:
    lost = iter([True, False, True])

    def lose_some(data: bytes) -> bytes:
        return data[:20] if next(lost, False) else data

    stand.bus.disturb = lose_some
    arm.enable_torque()
    assert stand.torque() == [1] * N


def test_unplugging_is_distinguished_from_silence_and_replugging_works(stand: Stand) -> None:
    arm = stand.open()
    arm.enable_torque()
    stand.port.unplug()
    with pytest.raises(ArmDisconnected, match="is gone"):
        arm.read_state()
    with pytest.raises(ArmDisconnected, match="is gone"):
        arm.send(goal(np.zeros(N)))
    arm.close()
    with pytest.raises(MissingError, match="there is no serial port"):
        stand.open()
    stand.port.replug()
    again = stand.open()
    assert stand.torque() == [1] * N
    assert complete(read_until(again, complete))
    again.release_torque()
    again.close()


@pytest.mark.slow
def test_an_echoing_adapter_makes_no_difference(stand: Stand) -> None:
    stand.bus.echoes = True
    arm = stand.open()
    arm.enable_torque()
    arm.send(goal(np.full(N, 12.0)))
    read_until(arm, lambda s: complete(s) and bool(np.abs(s.joint_deg - 12.0).max() < 0.1))
    arm.close()


def test_a_voltage_fault_is_not_taken_for_an_echo(stand: Stand) -> None:
    stand.bus.servo(1).supply_mv = 3000
    scan_until(stand.port.path, range(1, 2), [1])


def test_an_arm_in_use_cannot_be_opened_again(stand: Stand, arm: FeetechArm) -> None:
    with pytest.raises(MissingError, match="in use by another program"):
        stand.open()


@pytest.mark.parametrize("path", ["/dev/does-not-exist", "/dev/null"])
def test_a_path_that_is_not_a_serial_port_is_refused(path: str) -> None:
    with pytest.raises(MissingError):
        open_feetech_arm(PROFILE, path, None)


@pytest.mark.slow
def test_no_reply_at_a_wrong_baud_rate_is_reported(stand: Stand) -> None:
    slower = PROFILE.model_copy(update={"bus": FeetechBus(kind="feetech", baud=500_000)})
    with pytest.raises(ArmTimeout, match=r"no servo answers on .* at 500000 baud"):
        open_feetech_arm(slower, stand.port.path, None)


@pytest.mark.slow
def test_a_missing_servo_is_named(stand: Stand) -> None:
    stand.bus.servo(5).connected = False
    with pytest.raises(ArmTimeout, match=r"servo 5 \(wrist_roll\) does not answer"):
        stand.open()


@pytest.mark.parametrize(
    ("register", "value", "message"),
    [
        (reg.MODEL_NUMBER, 1284, "servo 6 .* is SCS0009 .model number 1284., the arm profile allows STS3215"),
        (reg.OPERATING_MODE, 1, "servo 6 .* is in wheel .speed. mode .register 33 is 1"),
        (reg.MIN_POSITION, 4000, "servo 6 .* is not calibrated"),
    ],
)
def test_the_wrong_servo_is_refused(stand: Stand, register: reg.Register, value: int, message: str) -> None:
    stand.bus.servo(6).set_register(register, value)
    with pytest.raises(InputError, match=message):
        stand.open()


@pytest.mark.slow
def test_another_model_is_refused_with_its_data_unless_the_profile_allows_it(stand: Stand) -> None:
    stand.bus.servo(2).set_register(reg.MODEL_NUMBER, 2825)
    with pytest.raises(InputError, match=r"servo 2 \(shoulder_lift\) is STS3250 \(model number 2825\)") as refused:
        stand.open()
    assert "stall torque 50 kg cm at 12 V" in refused.value.hint
    assert "servo_models: [STS3250]" in refused.value.hint
    profile = load_arm_profile("so101")
    allowing = [
        joint.model_copy(update={"servo_models": ("STS3215", "STS3250")}) if joint.servo_id == 2 else joint
        for joint in profile.joints
    ]
    open_feetech_arm(profile.model_copy(update={"joints": allowing}), stand.port.path, None).close()
    stand.bus.servo(3).set_register(reg.MODEL_NUMBER, 2825)
    with pytest.raises(InputError, match=r"servo 3 \(elbow_flex\)"):
        open_feetech_arm(profile.model_copy(update={"joints": allowing}), stand.port.path, None)


@pytest.mark.slow
@pytest.mark.parametrize("number", [521, 1289, 2569, 11272, 1029, 3338, 65535])
def test_every_other_model_is_refused_by_its_name(stand: Stand, number: int) -> None:
    stand.bus.servo(1).set_register(reg.MODEL_NUMBER, number)
    with pytest.raises(InputError, match=re.escape(servo_model(number).full_name)) as refused:
        stand.open()
    assert refused.value.hint


def test_a_gripper_that_was_never_calibrated_is_refused(stand: Stand) -> None:
    stand.bus.servo(6).reset()
    with pytest.raises(InputError, match=r"not calibrated: its position limits are 0\.\.4095"):
        stand.open()


def test_a_calibration_that_differs_from_the_servos_is_refused(stand: Stand) -> None:
    calibration = nominal_calibration(PROFILE)
    open_feetech_arm(PROFILE, stand.port.path, calibration).close()
    stand.bus.servo(2).set_register(reg.HOMING_OFFSET, -37)
    with pytest.raises(InputError, match="homing_offset 0 for shoulder_lift, its servo says -37"):
        open_feetech_arm(PROFILE, stand.port.path, calibration)


def test_without_a_file_the_calibration_in_the_servos_is_used(stand: Stand) -> None:
    stand.bus.servo(1).set_register(reg.MIN_POSITION, 1000)
    stand.bus.servo(1).set_register(reg.MAX_POSITION, 3000)
    position = round(stand.plant.position_ticks(0))
    arm = stand.open()
    assert read_until(arm, complete).joint_deg[0] == pytest.approx((position - 2000) * 360 / 4095)
    arm.close()


def test_speed_counts_follow_the_phase_register(stand: Stand) -> None:
    for servo_id, phase in ((1, reg.PHASE_FINE_SPEED), (2, 0)):
        stand.bus.servo(servo_id).set_register(reg.PHASE, phase | reg.PHASE_ZERO_IS_FULL_SPEED)
    arm = stand.open()
    arm.enable_torque()
    arm.send(goal(np.full(N, 20.0)))
    speed = np.zeros(N)
    for swing in range(ATTEMPTS):
        arm.send(goal(np.full(N, 20.0 + 40.0 * (-1) ** swing)))
        speed = read_until(arm, complete).velocity_deg_s
        if np.abs(speed[:2]).min() > 0:
            break
    assert 0.5 < speed[0] / speed[1] < 2
    arm.close()


@pytest.mark.slow
def test_old_goals_are_not_queued_while_the_server_stalls(stand: Stand, arm: FeetechArm) -> None:
    with stand.port.lock:
        for step in range(STALLED_GOALS):
            arm.send(goal(np.full(N, step % 30)))
    for _ in range(ATTEMPTS):
        arm.send(goal(np.full(N, 33.0)))  # the first ones are dropped as well while the line is full
        if np.abs(read_until(arm, complete).joint_deg - 33.0).max() < 0.1:
            break
    newest = set(stand.plant.goals[-N:])
    older = [sent for sent in stand.plant.goals if sent not in newest]
    assert len(older) < STALLED_GOALS * N
    np.testing.assert_allclose(read_until(arm, complete).joint_deg, 33.0, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("phase", [0, reg.PHASE_FINE_SPEED, reg.PHASE_ZERO_IS_FULL_SPEED, reg.PHASE.factory])
def test_a_goal_carries_the_fastest_speed_of_the_profile_and_moves_every_servo(stand: Stand, phase: int) -> None:
    """Including a servo that takes speed 0 as a stop."""
    for servo in stand.bus.servos:
        servo.set_register(reg.PHASE, phase)
    arm = stand.open()
    arm.send(goal(np.full(N, 12.0)))
    read_until(arm, lambda s: bool(np.abs(s.joint_deg - 12.0).max() < 0.1))
    arm.close()
    ticks_s = PROFILE.joints[0].max_velocity_deg_s * 4095 / 360
    unit = 1 if phase & reg.PHASE_FINE_SPEED else reg.COARSE_SPEED_TICKS_S
    assert ticks_s <= stand.bus.servo(1).register(reg.GOAL_SPEED) * unit < ticks_s + unit
    assert stand.bus.servo(1).register(reg.ACCELERATION) == 0
