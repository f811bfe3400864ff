"""The servos' settings over a real pseudo-terminal: what is written and when, and the final state of every servo."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sefa_edge.edge.control.watched_arm import RETRY_NS, WatchedArm
from sefa_edge.edge.ipc.vocabulary import Progress
from sefa_edge.edge.tools.arm_moves import command
from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmTimeout, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.eeprom import EepromLeftOpen
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import open_feetech_arm
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.protocol import Instruction, Packet
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.feetech.settings import compare, prepare, write_eeprom, write_volatile
from sefa_edge.firmware_bridge.host.messages import NOT_PREPARED, JointGoal, Preparation
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile, JointProfile
from sefa_edge.profiles.units import s_to_ns
from tests.rigs.simulated_arm import SimulatedArm, WriteLog

PROFILE = load_arm_profile("so101").model_copy(update={"control_rate_hz": 20.0})
GRIPPER = 5


class Stand(SimulatedArm[KinematicPlant]):
    """The simulated arm of a profile, and every write packet that it received."""

    def __init__(self, profile: ArmProfile, link: Path) -> None:
        super().__init__(profile, link, KinematicPlant.of_arm(profile))
        self.log = WriteLog(self.bus)

    def match_the_profile(self) -> None:
        with self.port.lock:
            for servo, settings in zip(self.bus.servos, self.profile.servo_settings(), strict=True):
                servo.set_register(reg.P_COEFFICIENT, settings.p_gain or 0)
        self.set(reg.MAX_TORQUE, 500, GRIPPER)
        self.set(reg.TORQUE_LIMIT, 500, GRIPPER)
        self.set(reg.PROTECTION_CURRENT, 250, GRIPPER)
        self.set(reg.OVERLOAD_TORQUE, 25, GRIPPER)

    def written(self) -> set[tuple[int, int]]:
        """Address and servo id of every register that was written."""
        pairs: set[tuple[int, int]] = set()
        for packet in self.log.packets:
            assert packet.code == Instruction.SYNC_WRITE
            address, count = packet.parameters[:2]
            pairs |= {(address, servo_id) for servo_id in packet.parameters[2 :: count + 1]}
        return pairs


@dataclass
class Opened:
    bus: ServoBus

    def __enter__(self) -> ServoBus:
        return self.bus

    def __exit__(self, *_: object) -> None:
        self.bus.link.close()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(PROFILE, tmp_path / "arm") as made:
        yield made


def opened(stand: Stand) -> Opened:
    return Opened(ServoBus(Link.open(stand.port.path, stand.profile.feetech.baud)))


def write_everything(stand: Stand) -> None:
    with opened(stand) as bus:
        comparison = compare(bus, stand.profile)
        write_volatile(bus, comparison.volatile)
        write_eeprom(bus, comparison)


def matches_the_profile(stand: Stand) -> bool:
    with opened(stand) as bus:
        return not compare(bus, stand.profile).differences


# -- what a run does -----------------------------------------------------------------------------------------


def test_nothing_is_written_when_every_setting_matches_the_profile(stand: Stand) -> None:
    stand.match_the_profile()
    with opened(stand) as bus:
        assert prepare(bus, PROFILE) == NOT_PREPARED
    write_everything(stand)
    assert stand.log.packets == []


def test_the_simulated_arm_matches_its_profile(tmp_path: Path) -> None:
    made = Stand(load_arm_profile("so101_sim"), tmp_path / "arm")
    with made, opened(made) as bus:
        assert prepare(bus, made.profile) == NOT_PREPARED
        assert made.log.packets == []


def test_a_run_writes_volatile_settings_and_reports_the_rest(stand: Stand) -> None:
    with opened(stand) as bus:
        done = prepare(bus, PROFILE)
    assert stand.written() == {(reg.TORQUE_LIMIT.address, 6)}
    assert stand.register(GRIPPER, reg.TORQUE_LIMIT) == 500
    assert done.written == "servo settings written: torque_limit_pct 100 -> 50 (gripper)"
    assert "max_torque_pct 100 -> 50 (gripper), p_gain 32 -> 16 (all joints)" in done.left
    assert stand.register(0, reg.P_COEFFICIENT) == 32


def test_an_eeprom_that_was_left_open_is_locked(stand: Stand) -> None:
    stand.match_the_profile()
    stand.set(reg.LOCK, 0)
    with opened(stand) as bus:
        assert prepare(bus, PROFILE).written == "servo settings written: lock 0 -> 1 (all joints)"
    assert all(stand.locked())


def test_a_servo_that_would_not_protect_itself_is_refused_before_anything_is_written(stand: Stand) -> None:
    stand.set(reg.UNLOAD_CONDITION, 0b001100, joint=2)
    with opened(stand) as bus, pytest.raises(InputError, match=r"servo 3 \(elbow_flex\) .* against overload"):
        prepare(bus, PROFILE)
    assert stand.log.packets == []


@pytest.mark.slow
def test_more_protection_than_asked_for_is_accepted(stand: Stand) -> None:
    stand.match_the_profile()
    stand.set(reg.UNLOAD_CONDITION, 0b111111)  # bit 4 has no name and is not changed
    with opened(stand) as bus:
        assert (
            "unload_on voltage+encoder+temperature+current+overload -> temperature+current+overload (all"
            in prepare(bus, PROFILE).left
        )
    write_everything(stand)
    assert stand.register(0, reg.UNLOAD_CONDITION) == 0b111100


def test_a_holding_arm_gets_volatile_settings_and_keeps_its_torque(stand: Stand) -> None:
    stand.set(reg.TORQUE_ENABLE, 1)
    with opened(stand) as bus:
        prepare(bus, PROFILE)
        assert compare(bus, PROFILE).holding == PROFILE.joint_names
    assert stand.written() == {(reg.TORQUE_LIMIT.address, 6)}
    assert stand.register(GRIPPER, reg.TORQUE_ENABLE) == 1


def test_the_summary_fits_into_a_record_however_much_differs(stand: Stand) -> None:
    for joint in range(6):
        for register in (reg.P_COEFFICIENT, reg.D_COEFFICIENT, reg.I_COEFFICIENT, reg.RETURN_DELAY):
            stand.set(register, 100 + joint, joint)
    with opened(stand) as bus:
        summary = prepare(bus, PROFILE).left
    assert len(summary.encode()) <= 240
    assert " more; see `sefa-edge arm configure`" in summary


@pytest.mark.slow
def test_a_silent_servo_is_named(stand: Stand) -> None:
    stand.bus.servos[3].connected = False
    with opened(stand) as bus, pytest.raises(ArmTimeout, match=r"servo 4 \(wrist_flex\) does not report"):
        prepare(bus, PROFILE)


def test_a_servo_that_does_not_keep_its_limit_is_named(stand: Stand) -> None:
    servo = stand.bus.servos[GRIPPER]
    write = servo.write
    servo.write = lambda address, data: None if address == reg.TORQUE_LIMIT.address else write(address, data)
    with opened(stand) as bus, pytest.raises(ArmUnconfirmed, match="gripper did not keep its torque_limit"):
        prepare(bus, PROFILE)


# -- power cuts ----------------------------------------------------------------------------------------------


def test_a_servo_that_lost_its_power_is_limited_before_it_is_energised(stand: Stand) -> None:
    arm = open_feetech_arm(PROFILE, stand.port.path, None)
    arm.prepare()
    with stand.port.lock:
        stand.bus.servos[GRIPPER].power_cycle()
    stand.log.packets.clear()
    arm.enable_torque()
    arm.close()
    assert stand.register(GRIPPER, reg.TORQUE_LIMIT) == 500
    addresses = [packet.parameters[0] for packet in stand.log.packets]
    assert addresses[0] == reg.TORQUE_LIMIT.address
    assert addresses.index(reg.TORQUE_LIMIT.address) < addresses.index(reg.TORQUE_ENABLE.address)


def test_a_servo_that_returns_during_a_run_is_limited_before_its_next_goal(stand: Stand) -> None:
    arm = open_feetech_arm(PROFILE, stand.port.path, None)
    arm.prepare()
    arm.enable_torque()
    servo = stand.bus.servos[GRIPPER]
    servo.connected = False
    while arm.read_state().valid_mask[GRIPPER]:
        pass
    servo.connected = True
    with stand.port.lock:
        servo.power_cycle()
    while not (state := arm.read_state()).valid_mask.all():
        pass
    stand.log.packets.clear()
    arm.send(JointGoal(1, 0, 0, state.joint_deg))
    arm.read_state()
    arm.send(JointGoal(2, 0, 0, state.joint_deg))
    arm.read_state()
    arm.close()
    addresses = [packet.parameters[0] for packet in stand.log.packets]
    assert addresses.count(reg.TORQUE_LIMIT.address) == 1
    assert addresses[0] == reg.TORQUE_LIMIT.address
    assert stand.register(GRIPPER, reg.TORQUE_LIMIT) == 500


@pytest.mark.parametrize("cut", [True, False])
def test_a_replugged_arm_is_written_to_only_after_a_power_cut(stand: Stand, cut: bool) -> None:
    watched = WatchedArm(lambda: open_feetech_arm(PROFILE, stand.port.path, None), 50, s_to_ns(100))
    watched.prepare()
    watched.energise()
    stand.port.unplug()
    with stand.port.lock:
        stand.bus.servos[GRIPPER].set_register(reg.TORQUE_LIMIT, 1000 if cut else 500)
    stand.port.replug()
    stand.log.packets.clear()
    now_ns = 0
    while watched.read(now_ns) is not Progress.ARM_BACK:
        now_ns += RETRY_NS
    watched.close()
    assert stand.register(GRIPPER, reg.TORQUE_LIMIT) == 500
    assert ((reg.TORQUE_LIMIT.address, 6) in stand.written()) is cut


# -- the EEPROM ----------------------------------------------------------------------------------------------


def test_only_differing_settings_are_written_and_the_servos_locked_again(stand: Stand) -> None:
    stand.match_the_profile()
    stand.set(reg.P_COEFFICIENT, 40, joint=1)
    stand.set(reg.PHASE, 0b11100, joint=1)
    stand.set(reg.D_COEFFICIENT, 7, joint=4)
    write_everything(stand)
    lock, phase = reg.LOCK.address, reg.PHASE.address
    assert stand.written() == {
        (lock, 2), (reg.P_COEFFICIENT.address, 2), (phase, 2), (lock, 5), (reg.D_COEFFICIENT.address, 5),
    }  # fmt: skip
    assert len(stand.log.packets) == 7
    assert stand.register(1, reg.PHASE) == 0b01100
    assert all(stand.locked())
    assert matches_the_profile(stand)


@pytest.mark.slow
def test_only_one_servo_is_open_at_a_time(stand: Stand) -> None:
    open_ones: list[int] = []
    stand.log.on_write = lambda _: open_ones.append(stand.locked().count(False))
    write_everything(stand)
    assert set(open_ones) <= {0, 1}
    assert matches_the_profile(stand)


def test_the_eeprom_of_a_holding_arm_is_not_written(stand: Stand) -> None:
    stand.set(reg.TORQUE_ENABLE, 1, joint=2)
    with pytest.raises(InputError, match="torque of elbow_flex is on"):
        write_everything(stand)
    assert stand.written() == {(reg.TORQUE_LIMIT.address, 6)}
    assert stand.register(2, reg.TORQUE_ENABLE) == 1


def cut_when_open(stand: Stand, cut: Callable[[], None]) -> None:
    """Call `cut` as soon as the first gain is written."""

    def on_write(packet: Packet) -> None:
        if packet.parameters[0] == reg.P_COEFFICIENT.address:
            stand.log.on_write = lambda _: None
            cut()

    stand.log.on_write = on_write


def test_a_servo_that_refuses_a_value_is_locked_again(stand: Stand) -> None:
    servo = stand.bus.servos[0]
    write = servo.write
    servo.write = lambda address, data: None if address == reg.P_COEFFICIENT.address else write(address, data)
    with pytest.raises(ArmUnconfirmed, match=r"shoulder_pan did not keep p_coefficient 16 \(register 21\)"):
        write_everything(stand)
    assert all(stand.locked())


@pytest.mark.slow
def test_lost_replies_do_no_harm(stand: Stand) -> None:
    answers = 0

    def disturb(data: bytes) -> bytes:
        nonlocal answers
        answers += 1
        return b"" if answers % 3 == 0 else data

    stand.bus.disturb = disturb
    write_everything(stand)
    stand.bus.disturb = lambda data: data
    assert all(stand.locked())
    assert matches_the_profile(stand)


@pytest.mark.slow
def test_a_servo_that_falls_silent_midway_is_reported_as_open(stand: Stand) -> None:
    servo = stand.bus.servos[0]
    cut_when_open(stand, lambda: setattr(servo, "connected", False))
    with pytest.raises(EepromLeftOpen, match=r"p_coefficient 16 .*; and servo 1 \(shoulder_pan\) did not confirm"):
        write_everything(stand)
    assert stand.locked().count(False) == 1
    servo.connected = True
    write_everything(stand)
    assert all(stand.locked())
    assert matches_the_profile(stand)


def test_a_pulled_cable_is_reported_with_the_servo_that_is_open(stand: Stand) -> None:
    cut_when_open(stand, stand.port.unplug)
    with pytest.raises(EepromLeftOpen, match=r"is gone.*; and servo 1 \(shoulder_pan\)"):
        write_everything(stand)
    stand.port.replug()
    with opened(stand) as bus:
        assert "lock 0 -> 1 (shoulder_pan)" in prepare(bus, PROFILE).written
    assert all(stand.locked())


def test_ctrl_c_waits_until_the_servo_is_complete_and_locked(stand: Stand) -> None:
    cut_when_open(stand, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        write_everything(stand)
    assert all(stand.locked())
    assert stand.register(0, reg.P_COEFFICIENT) == 16
    assert stand.register(1, reg.P_COEFFICIENT) == 32
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- other arms ----------------------------------------------------------------------------------------------


def five_joints() -> ArmProfile:
    """A user's own arm: five joints, ids that do not begin at 1."""
    joints = [
        joint.model_copy(update={"servo_id": 11 + index, "name": f"joint_{index}"})
        for index, joint in enumerate(PROFILE.joints[:5])
    ]
    poses = {"start_pose_deg": [0.0] * 5, "park_pose_deg": [0.0] * 5}
    return PROFILE.model_copy(update={"name": "mine", "joints": joints, **poses})


@pytest.mark.slow
def test_a_users_own_arm_of_five_joints_works(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(five_joints().model_dump()), encoding="utf-8")
    profile = load_arm_profile(str(path))
    made = Stand(profile, tmp_path / "arm")
    with made:
        assert "p_gain 32 -> 16 (all joints)" in _prepared(made).left
        write_everything(made)
        assert matches_the_profile(made)
        arm = open_feetech_arm(profile, made.port.path, None)
        arm.enable_torque()
        assert arm.joint_names == ("joint_0", "joint_1", "joint_2", "joint_3", "joint_4")
        assert arm.read_state().joint_deg.shape == (5,)
        arm.close()


def _prepared(stand: Stand) -> Preparation:
    with opened(stand) as bus:
        return prepare(bus, stand.profile)


def test_a_joint_without_its_own_settings_uses_those_of_the_arm() -> None:
    joint: JointProfile = PROFILE.joints[GRIPPER]
    settings = PROFILE.servo_settings()[GRIPPER]
    assert (settings.p_gain, settings.torque_limit_pct) == (16, 50.0)
    assert joint.servo.p_gain is None


# -- the command ---------------------------------------------------------------------------------------------


def configure_with(stand: Stand, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(["configure", "--port", stand.port.path, *arguments]))


def test_without_the_flag_nothing_is_written(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    assert configure_with(stand) == 1
    printed = capsys.readouterr()
    assert "torque off" in printed.out
    assert ["p_gain", "gripper", "32", "16", "EEPROM"] in [line.split() for line in printed.out.splitlines()]
    assert "nothing was written; --write-eeprom" in printed.err
    assert stand.log.packets == []


@pytest.mark.slow
def test_with_the_flag_every_setting_is_written(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    assert configure_with(stand, "--write-eeprom") == 0
    assert "settings written and read back; every EEPROM is locked" in capsys.readouterr().out
    assert configure_with(stand) == 0
    assert "every setting is as the profile says" in capsys.readouterr().out


@pytest.mark.slow
def test_a_servo_left_in_wheel_mode_is_set_back(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    stand.match_the_profile()
    stand.set(reg.OPERATING_MODE, 1, 4)
    assert configure_with(stand) == 1
    assert "operating_mode" in capsys.readouterr().out
    assert stand.register(4, reg.OPERATING_MODE) == 1
    with pytest.raises(InputError, match=r"servo 5 \(wrist_roll\) is in wheel \(speed\) mode") as refused:
        open_feetech_arm(PROFILE, stand.port.path, None)
    assert f"sefa-edge arm configure --arm so101 --port {stand.port.path} --write-eeprom" in refused.value.hint
    assert configure_with(stand, "--write-eeprom") == 0
    assert stand.register(4, reg.OPERATING_MODE) == 0
    assert stand.register(4, reg.LOCK) == 1
    open_feetech_arm(PROFILE, stand.port.path, None).close()


def test_a_wheel_that_is_driven_is_not_set_back(stand: Stand) -> None:
    stand.set(reg.OPERATING_MODE, 1, 4)
    stand.set(reg.TORQUE_ENABLE, 1, 4)
    with pytest.raises(InputError, match="the torque of wrist_roll is on"):
        configure_with(stand, "--write-eeprom")
    assert stand.register(4, reg.OPERATING_MODE) == 1


def test_a_holding_arm_keeps_its_eeprom_even_with_the_flag(stand: Stand) -> None:
    stand.set(reg.TORQUE_ENABLE, 1)
    with pytest.raises(InputError) as refused:
        configure_with(stand, "--write-eeprom")
    assert "arm free" in refused.value.hint
    assert stand.register(0, reg.P_COEFFICIENT) == 32


def test_a_cable_pulled_before_any_eeprom_is_open_is_a_plain_disconnection(stand: Stand) -> None:
    bus = opened(stand).bus
    stand.port.unplug()
    with pytest.raises(ArmDisconnected):
        compare(bus, PROFILE)
    bus.link.close()
