"""What the control process does when nothing is wrong, or when nobody is left to be told."""

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


def test_supervisor_killed_in_mid_motion(rig: Rig) -> None:
    """Nobody is left to tell: the arm is parked and released all the same; standard error has the words."""
    rig.start()
    rig.run()
    rig.supervisor.close()
    assert rig.exit_code() == 3
    assert rig.child is not None
    words = rig.child.stderr_tail()
    assert f"error: the supervisor process is gone: {PARKED}" in words
    assert "hint: " in words
    assert not any(rig.unit.torque_is_on())
    rig.unit.assert_clean()


def test_an_emergency_stop_that_a_servo_does_not_confirm_says_so_loudly(rig: Rig) -> None:
    """The plug of one servo is out: all others let go, nobody claims that it did."""
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
def test_an_emergency_stop_needs_no_torque_of_ours(rig: Rig) -> None:
    """Torque that another program left on; nobody has armed anything."""
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


def test_last_words_are_not_lost_over_heartbeats_that_were_never_read(rig: Rig) -> None:
    """The arm is looked for while the supervisor beats; it may listen when control has long gone."""
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


def test_a_privilege_that_is_refused_is_told_and_not_fatal(rig: Rig) -> None:
    no_such_cpu = 100_000
    rig.start(no_such_cpu)
    assert rig.ready is not None
    assert rig.ready.refused & Privilege.AFFINITY
    rig.command(Command.STOP)
    assert rig.ended().exit_code == 0


def test_nobody_answers_for_a_world_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        WorldClient(tmp_path / "nobody")
