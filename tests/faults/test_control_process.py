"""The control process without a fault, without a supervisor, and in emergency stops."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.ipc.records import Final, Heartbeat, Privilege, Torque
from sefa_edge.edge.ipc.transport import channel_pair
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.feetech.registers import TORQUE_ENABLE, TORQUE_ON
from sefa_edge.firmware_bridge.simulation.client import WorldClient
from sefa_edge.profiles.errors import MissingError
from tests.faults.control_rig import HANG_GUARD_S, Rig
from tests.faults.row import DROPPED, PARKED


def test_control_parks_the_arm_when_the_supervisor_dies(rig: Rig) -> None:
    """The arm is parked and released without a supervisor; the message goes to standard error."""
    rig.start()
    rig.run()
    rig.supervisor.close()
    assert rig.exit_code() == 3
    assert rig.child is not None
    errors = rig.child.stderr_tail()
    assert f"error: the supervisor process is gone: {PARKED}" in errors
    assert "hint: " in errors
    assert not any(rig.unit.torque_is_on())
    rig.unit.assert_clean()


def test_an_emergency_stop_that_a_servo_does_not_confirm_names_the_servo(rig: Rig) -> None:
    """One servo is unplugged: all others release, and it is reported as not confirmed."""
    rig.start()
    rig.run()
    name, others_only = rig.profile.joint_names[rig.joint], [index == rig.joint for index in range(6)]
    rig.bus.servos[rig.joint].connected = False
    rig.command(Command.EMERGENCY)
    final = rig.ended()
    assert final.message == f"emergency stop: TORQUE NOT CONFIRMED OFF ({name})"
    assert final.hint.startswith("CUT THE ARM'S POWER NOW")
    assert final.torque is Torque.UNKNOWN
    assert rig.unit.torque_is_on() == others_only
    assert rig.child is not None
    assert f"EMERGENCY STOP: {name} DID NOT CONFIRM: CUT THE ARM'S POWER" in rig.child.stderr_tail()
    sent = [not np.isnan(report.goal_deg).any() for report in rig.reports if report.mode is Mode.EMERGENCY]
    assert sent
    assert not any(sent)


@pytest.mark.once
def test_an_emergency_stop_releases_torque_that_another_program_left_on(rig: Rig) -> None:
    """Nothing has been armed by this run."""
    with rig.port.lock:
        for servo in rig.bus.servos:
            servo.write(TORQUE_ENABLE.address, bytes((TORQUE_ON,)))
    rig.start()
    assert all(rig.unit.torque_is_on())
    rig.unit.ask_for_release()
    os.kill(rig.pid, signal.SIGQUIT)
    assert rig.ended().message == f"emergency stop: {DROPPED}"
    assert not any(rig.unit.torque_is_on())


def test_stop_before_arm_leaves_the_torque_alone(rig: Rig) -> None:
    rig.start()
    rig.command(Command.STOP)
    final = rig.ended()
    assert (final.mode, final.torque, final.exit_code) == (Mode.IDLE, Torque.UNTOUCHED, 0)
    assert final.message == "arm not touched"
    rig.unit.assert_untouched()


def test_the_final_record_is_not_lost_behind_unread_heartbeats(rig: Rig) -> None:
    """The supervisor sends heartbeats while control searches for the arm, and may read long after control has ended."""
    for servo in rig.bus.servos:
        servo.connected = False
    (supervisor, supervisor_end), (policy, policy_end) = channel_pair(), channel_pair()
    with closing(supervisor), closing(policy):
        supervisor.send(Heartbeat(time.monotonic_ns()).pack())
        child = rig.spawn((supervisor_end.fileno(), policy_end.fileno()))
        rig.others.append(child)
        supervisor_end.close()
        policy_end.close()
        assert child.wait(HANG_GUARD_S) == 3
        final = Final.unpack(supervisor.receive() or b"")
    assert final.message.startswith("no servo answers")


def test_a_refused_privilege_is_reported_and_not_fatal(rig: Rig) -> None:
    no_such_cpu = 100_000
    rig.start(no_such_cpu)
    assert rig.ready is not None
    assert rig.ready.refused & Privilege.AFFINITY
    rig.command(Command.STOP)
    assert rig.ended().exit_code == 0


def test_connecting_to_a_missing_world_raises_missing_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        WorldClient(tmp_path / "missing")
