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

if TYPE_CHECKING:
    from tests.faults.conftest import Rig

SHOULDER, ELBOW = 1, 2


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
    "blocked joint": Case(block_shoulder, Fault.FOLLOWING_ERROR, Mode.FAULT, f"(shoulder_lift): {LEFT}", Torque.ON),
    "frozen process": Case(freeze_process, Fault.LOOP_OVERRUN, Mode.RELEASED, f"(50 ticks in a row): {PARKED}"),
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
