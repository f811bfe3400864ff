"""What the control process does when nothing is wrong, or when nobody is left to be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from sefa_edge.edge.modes import Command, Mode
from sefa_edge.edge.records import Privilege, Torque
from sefa_edge.firmware_bridge.simulation.client import WorldClient
from sefa_edge.profiles.errors import MissingError
from tests.faults.control_rig import Rig
from tests.faults.row import PARKED


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
    assert not any(rig.unit.torque_is_on())
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


def test_nobody_answers_for_a_world_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        WorldClient(tmp_path / "nobody")
