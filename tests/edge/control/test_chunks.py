"""Hand-over of chunks on one time axis."""

from __future__ import annotations

import numpy as np
import pytest

from sefa_edge.edge.control.chunks import PLAN_AHEAD_NS, ChunkPlayer, is_playable
from sefa_edge.edge.control.handover_settings import HandOver
from sefa_edge.edge.control.shaping import Setpoint
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.record_header import RecordError
from sefa_edge.profiles.units import NS_PER_S

STEP_NS = 100
REPLACE = HandOver("replace")


def chunk(chunk_id: int, observed_ns: int, values: list[float], *, first_offset: int = 1) -> ActionChunk:
    joint_deg = np.array(values, np.float32)[:, None]
    return ActionChunk(chunk_id, observed_ns, observed_ns + first_offset * STEP_NS, STEP_NS, joint_deg, 7)


def here(joint_deg: float, deg_per_step: float = 10.0) -> Setpoint:
    return Setpoint(np.array([joint_deg]), np.array([deg_per_step * NS_PER_S / STEP_NS]))


def position(player: ChunkPlayer, now_ns: int) -> float | None:
    segment = player.choose(now_ns)
    return None if segment is None else round(float(segment.setpoint(now_ns).joint_deg[0]), 9)


def test_the_first_piece_leads_from_the_commanded_pose() -> None:
    player = ChunkPlayer(REPLACE)
    assert position(player, 0) is None
    assert player.accept(chunk(1, 1000, [10, 20, 30]), 1000, here(0.0))
    assert [position(player, now) for now in (1000, 1050, 1100, 1150, 1200, 1300)] == [0, 5, 10, 15, 20, 30]
    assert position(player, 1301) is None


def test_late_steps_are_dropped() -> None:
    player = ChunkPlayer(REPLACE)
    player.accept(chunk(1, 1000, [10, 20, 30]), 1250, here(25.0))
    assert [position(player, now) for now in (1250, 1275, 1300)] == [25, 27.5, 30]
    assert player.late_steps == 2


def test_a_step_due_at_the_hand_over_counts_as_late() -> None:
    player = ChunkPlayer(REPLACE)
    player.accept(chunk(1, 1000, [10, 20, 30]), 1200, here(19.0))
    segment = player.choose(1200)
    assert segment is not None
    assert (segment.from_ns, segment.to_ns) == (1200, 1300)


def test_the_newer_chunk_wins_from_its_next_step_on() -> None:
    player = ChunkPlayer(REPLACE)
    player.accept(chunk(1, 1000, [10, 20, 30, 40]), 1000, here(0.0))
    assert player.accept(chunk(2, 1100, [21, 31, 41]), 1150, here(15.0, 12.0))
    assert [position(player, now) for now in (1150, 1200, 1250, 1300, 1400)] == [15, 21, 26, 31, 41]
    assert player.chunk is not None
    assert (player.chunk.chunk_id, player.accepted_ns) == (2, 1150)


@pytest.mark.parametrize("stale_id", [5, 4, 0])
def test_ids_that_do_not_rise_are_ignored(stale_id: int) -> None:
    player = ChunkPlayer(REPLACE)
    player.accept(chunk(5, 1000, [10, 20]), 1000, here(0.0))
    assert not player.accept(chunk(stale_id, 1010, [90, 90]), 1020, here(0.0))
    assert position(player, 1200) == 20


def test_a_chunk_that_is_late_as_a_whole_is_ignored() -> None:
    player = ChunkPlayer(REPLACE)
    assert not player.accept(chunk(1, 1000, [10, 20]), 1200, here(0.0))
    assert position(player, 1200) is None
    assert player.late_steps == 2


def test_start_forgets_and_refuses_what_was_seen_before() -> None:
    player = ChunkPlayer(REPLACE)
    player.accept(chunk(1, 1000, [10, 20]), 1000, here(0.0))
    player.start(1050)
    assert position(player, 1060) is None
    assert not player.accept(chunk(2, 1049, [10, 20]), 1060, here(0.0))
    assert player.accept(chunk(3, 1050, [10, 20]), 1060, here(0.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_playable(bad: float) -> None:
    assert not is_playable(chunk(1, 0, [1, bad, 3]), 0)


def test_times_of_another_clock_are_not_playable() -> None:
    assert is_playable(chunk(1, 0, [1, 2]), 0)
    assert not is_playable(chunk(1, PLAN_AHEAD_NS, [1, 2]), 0)
    assert not is_playable(ActionChunk(1, 0, 0, 0, np.zeros((2, 1), np.float32), 0), 0)
    assert not is_playable(ActionChunk(1, 0, 0, -5, np.zeros((2, 1), np.float32), 0), 0)


@pytest.mark.parametrize(("horizon", "joints"), [(3, 1), (2, 2), (1, 2), (4, 1)])
def test_a_chunk_of_another_shape_is_refused(horizon: int, joints: int) -> None:
    record = chunk(1, 0, [1, 2]).pack()
    with pytest.raises(RecordError):
        ActionChunk.unpack(record, T=horizon, n=joints)
