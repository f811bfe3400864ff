"""Faults put into a running control process: the mode it reaches, exit code, words, and the servos."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sefa_edge.edge.modes import Command, Fault, Mode
from sefa_edge.edge.records import Privilege, Torque
from sefa_edge.firmware_bridge.host.protocol import StatusBits
from sefa_edge.firmware_bridge.host.registers import MAX_VOLTAGE, TORQUE_ENABLE, TORQUE_ON

if TYPE_CHECKING:
    from tests.faults.conftest import Rig

SHOULDER, ELBOW, GRIPPER = 1, 2, 5


def close_policy(rig: Rig) -> None:
    rig.feeding = False
    rig.policy.close()


def send_nan(rig: Rig) -> None:
    path = rig.swing()
    path[5, 1] = np.nan
    rig.send_chunk(path)


def send_wrong_shape(rig: Rig) -> None:
    rig.send_chunk(rig.swing()[:7])


def stop_feeding(rig: Rig) -> None:
    rig.feeding = False


def unplug(rig: Rig) -> None:
    rig.port.unplug()


def unplug_and_replug(rig: Rig) -> None:
    rig.port.unplug()
    rig.until(lambda: rig.reports[-1].fault is Fault.ARM_DISCONNECTED)
    rig.port.replug()


def silence_elbow(rig: Rig) -> None:
    rig.bus.servos[ELBOW].connected = False


def silence_elbow_for_a_while(rig: Rig) -> None:
    silence_elbow(rig)
    rig.until(lambda: rig.reports[-1].fault is Fault.ARM_TIMEOUT)
    rig.bus.servos[ELBOW].connected = True


def power_cut_for_a_while(rig: Rig) -> None:
    for servo in rig.bus.servos:
        servo.connected = False
    rig.until(lambda: rig.reports[-1].fault is Fault.ARM_TIMEOUT)
    with rig.port.lock:
        for servo in rig.bus.servos:
            servo.power_cycle()
            servo.connected = True


def overload_elbow(rig: Rig) -> None:
    rig.bus.servos[ELBOW].fault_bits = StatusBits.OVERLOAD


def heat_elbow(rig: Rig) -> None:
    rig.bus.servos[ELBOW].temperature_c = 60
    rig.until(lambda: rig.reports[-1].warm_bits == 1 << ELBOW)
    assert rig.reports[-1].fault is Fault.NONE
    rig.bus.servos[ELBOW].temperature_c = 68  # below the 70 at which the servo itself complains


def sag_supply(rig: Rig) -> None:
    for servo in rig.bus.servos:
        servo.supply_mv = 4300


def burden_elbow(rig: Rig) -> None:
    rig.plant.burden[ELBOW] = 0.82


def stall_gripper(rig: Rig) -> None:
    rig.plant.burden[GRIPPER] = 1.2  # more than this motor can give


def fall_silent(rig: Rig) -> None:
    rig.beating = True
    rig.until(lambda: len(rig.reports) > 300)
    assert rig.reports[-1].fault is Fault.NONE
    rig.beating = False


def send_sigquit(rig: Rig) -> None:
    assert rig.child is not None
    os.kill(rig.child.pid, signal.SIGQUIT)


def stubborn_elbow_in_emergency(rig: Rig) -> None:
    """It answers and keeps its torque; after a while it lets go after all."""
    rig.bus.servos[ELBOW].obeys_torque = False
    send_sigquit(rig)
    rig.until(lambda: rig.reports[-1].mode is Mode.EMERGENCY and rig.reports[-1].fault_joints == 1 << ELBOW)
    assert rig.torque_is_on() == [index == ELBOW for index in range(6)]
    rig.bus.servos[ELBOW].obeys_torque = True


def block_shoulder(rig: Rig) -> None:
    rig.feeding = False
    with rig.port.lock:
        rig.plant.set_torque(SHOULDER, False)  # the motor is blocked; its registers know nothing of it
    path = rig.swing()
    path[:, SHOULDER] = np.linspace(0, 80, len(path))
    rig.send_chunk(path)


def freeze_process(rig: Rig) -> None:
    assert rig.child is not None
    os.kill(rig.child.pid, signal.SIGSTOP)
    heard = len(rig.reports)
    while rig.supervisor.wait(1.0):  # a second without a report: longer than the goal timeout of the arm
        rig._hear()
    assert len(rig.reports) >= heard
    os.kill(rig.child.pid, signal.SIGCONT)


@dataclass(frozen=True)
class Case:
    inject: Callable[[Rig], None]
    fault: Fault
    mode: Mode
    message: str
    torque: Torque = Torque.OFF


PARKED = "arm parked and released"
DROPPED = "emergency stop: arm released where it stood"
LEFT = "arm left holding its last goal, torque still on"
CASES = {
    "policy socket closed": Case(
        close_policy, Fault.POLICY_LOST, Mode.RELEASED, f"the policy process is gone: {PARKED}"
    ),
    "NaN in a chunk": Case(send_nan, Fault.BAD_CHUNK, Mode.RELEASED, PARKED),
    "chunk of another shape": Case(send_wrong_shape, Fault.BAD_CHUNK, Mode.RELEASED, PARKED),
    "no chunks": Case(stop_feeding, Fault.CHUNK_TIMEOUT, Mode.RELEASED, f"in time: {PARKED}"),
    "port gone and back": Case(unplug_and_replug, Fault.ARM_DISCONNECTED, Mode.RELEASED, PARKED),
    "port gone for good": Case(
        unplug, Fault.ARM_DISCONNECTED, Mode.FAULT, f"the arm's port disappeared: {LEFT}", Torque.ON
    ),
    "silent servo": Case(
        silence_elbow, Fault.ARM_TIMEOUT, Mode.FAULT, f"servos do not answer (elbow_flex): {LEFT}", Torque.ON
    ),
    "silent servo, back again": Case(
        silence_elbow_for_a_while, Fault.ARM_TIMEOUT, Mode.RELEASED, f"(elbow_flex): {PARKED}"
    ),
    "power cut, back again": Case(power_cut_for_a_while, Fault.ARM_TIMEOUT, Mode.RELEASED, PARKED),
    "servo overload": Case(
        overload_elbow, Fault.SERVO_STATUS, Mode.RELEASED, f"voltage trouble (elbow_flex): {PARKED}"
    ),
    "hot servo": Case(heat_elbow, Fault.OVERHEATED, Mode.RELEASED, f"a servo is too hot (elbow_flex): {PARKED}"),
    "supply sags": Case(sag_supply, Fault.SUPPLY_VOLTAGE, Mode.RELEASED, f"out of range: {PARKED}"),
    "joint pushes and gets nowhere": Case(
        burden_elbow, Fault.OVERLOADED, Mode.FAULT, f"gets nowhere (elbow_flex): {LEFT}", Torque.ON
    ),
    "gripper draws too much": Case(
        stall_gripper, Fault.OVERCURRENT, Mode.FAULT, f"too much current (gripper): {LEFT}", Torque.ON
    ),
    "supervisor falls silent": Case(
        fall_silent, Fault.SUPERVISOR_SILENT, Mode.RELEASED, f"the supervisor process does not answer: {PARKED}"
    ),
    "emergency stop by SIGQUIT": Case(send_sigquit, Fault.EMERGENCY_STOP, Mode.RELEASED, DROPPED),
    "emergency stop, a servo is slow to let go": Case(
        stubborn_elbow_in_emergency, Fault.EMERGENCY_STOP, Mode.RELEASED, DROPPED
    ),
    "blocked joint": Case(block_shoulder, Fault.FOLLOWING_ERROR, Mode.FAULT, f"(shoulder_lift): {LEFT}", Torque.ON),
    "frozen process": Case(freeze_process, Fault.LOOP_OVERRUN, Mode.RELEASED, PARKED),
}


@pytest.mark.parametrize("name", CASES)
def test_fault(rig: Rig, name: str) -> None:
    case = CASES[name]
    rig.start()
    rig.run()
    case.inject(rig)
    final = rig.ended()
    assert (final.fault, final.mode, final.exit_code) == (case.fault, case.mode, 3)
    assert case.message in final.message
    assert final.hint
    assert final.torque is case.torque
    if case.torque is Torque.OFF:
        assert not any(rig.torque_is_on())
    else:
        assert all(rig.torque_is_on())
    rig.assert_limits_kept()


def test_an_emergency_stop_that_a_servo_does_not_confirm_says_so_loudly(rig: Rig) -> None:
    """The plug of one servo is out: all others let go, nobody claims that it did."""
    rig.start()
    rig.run()
    silence_elbow(rig)
    rig.command(Command.EMERGENCY)
    final = rig.ended()
    assert (final.fault, final.mode, final.exit_code) == (Fault.EMERGENCY_STOP, Mode.FAULT, 3)
    assert final.message == "emergency stop: TORQUE NOT CONFIRMED OFF (elbow_flex)"
    assert final.hint.startswith("CUT THE ARM'S POWER NOW")
    assert final.torque is Torque.UNKNOWN
    assert rig.torque_is_on() == [index == ELBOW for index in range(6)]
    assert rig.child is not None
    assert "EMERGENCY STOP: elbow_flex DID NOT CONFIRM: CUT THE ARM'S POWER" in rig.child.last_words()
    sent = [not np.isnan(report.goal_deg).any() for report in rig.reports if report.mode is Mode.EMERGENCY]
    assert sent
    assert not any(sent)


def test_the_wrong_power_supply_is_found_before_the_torque_comes_on(rig: Rig) -> None:
    for servo in rig.bus.servos:
        servo.set_register(MAX_VOLTAGE, 140)  # servos of 12 V, on the profile of an arm for 7.4 V
        servo.supply_mv = 12000
    rig.start()
    final = rig.ended()
    assert (final.fault, final.torque, final.exit_code) == (Fault.SUPPLY_VOLTAGE, Torque.UNTOUCHED, 3)
    assert final.message == "the servos' supply voltage is out of range: arm not touched"


def test_an_emergency_stop_needs_no_supervisor_and_no_torque_of_ours(rig: Rig) -> None:
    """Torque that another program left on; nobody is there but whoever sends the signal."""
    with rig.port.lock:
        for servo in rig.bus.servos:
            servo.write(TORQUE_ENABLE.address, bytes((TORQUE_ON,)))
    rig.start()
    assert all(rig.torque_is_on())
    send_sigquit(rig)
    assert rig.ended().message == DROPPED
    assert not any(rig.torque_is_on())


def test_supervisor_killed_in_mid_motion(rig: Rig) -> None:
    """Nobody is left to tell: the arm is parked and released all the same; standard error has the words."""
    rig.start()
    rig.run()
    rig.supervisor.close()
    assert rig.exit_code() == 3
    assert rig.child is not None
    words = rig.child.last_words()
    assert f"error: the supervisor process is gone: {PARKED}" in words
    assert "hint: " in words
    assert not any(rig.torque_is_on())
    rig.assert_limits_kept()


def test_sigterm_is_stop(rig: Rig) -> None:
    rig.start()
    rig.run()
    assert rig.child is not None
    os.kill(rig.child.pid, signal.SIGINT)  # ignored: Ctrl-C is the supervisor's to handle
    os.kill(rig.child.pid, signal.SIGTERM)
    final = rig.ended()
    assert (final.mode, final.fault, final.exit_code) == (Mode.RELEASED, Fault.NONE, 0)
    assert final.message == PARKED
    assert rig.child.last_words() == ""
    assert not any(rig.torque_is_on())
    rig.assert_limits_kept()


def test_stop_before_arm_leaves_the_torque_alone(rig: Rig) -> None:
    rig.start()
    rig.command(Command.STOP)
    final = rig.ended()
    assert (final.mode, final.torque, final.exit_code) == (Mode.IDLE, Torque.UNTOUCHED, 0)
    assert final.message == "arm not touched"
    assert all(goals == [] for goals in rig.plant.goals)


def test_a_privilege_that_is_refused_is_told_and_not_fatal(rig: Rig) -> None:
    no_such_cpu = 100_000
    rig.start(no_such_cpu)
    assert rig.ready is not None
    assert rig.ready.refused & Privilege.AFFINITY
    rig.command(Command.STOP)
    assert rig.ended().exit_code == 0
