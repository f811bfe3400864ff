"""The loop's ends of the record channels: nothing waits, nothing is lost silently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from sefa_edge.edge.control.links import ProcessLinks
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk, InferenceBegun
from sefa_edge.edge.ipc.records import ControlCommand, EmergencyReceived, JointSample, MayHold, TickReport
from sefa_edge.edge.ipc.transport import Channel, channel_pair
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.profiles.units import ms_to_ns

HORIZON, JOINTS = 4, 2
Ends = tuple[ProcessLinks, Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The links, and the far ends: supervisor's and policy's."""
    supervisor, supervisor_end = channel_pair()
    policy, policy_end = channel_pair()
    with closing(supervisor), closing(supervisor_end), closing(policy), closing(policy_end):
        yield ProcessLinks(supervisor_end, policy_end, HORIZON, JOINTS), supervisor, policy


def chunk(chunk_id: int, horizon: int = HORIZON) -> ActionChunk:
    return ActionChunk(chunk_id, 0, 0, 1, np.zeros((horizon, JOINTS), np.float32), 0)


def state(stamp_ns: int) -> JointState:
    n = np.zeros(JOINTS)
    return JointState(0, stamp_ns, n + 1.5, n, n, n, n, 7400, n.astype(np.uint8), n == 0, n.astype(np.int64))


def test_commands_come_in_their_order(ends: Ends) -> None:
    links, supervisor, _ = ends
    assert list(links.events()) == []
    for command in (Command.ARM, Command.RUN):
        supervisor.send(ControlCommand(command).pack())
    assert list(links.events()) == [Command.ARM, Command.RUN]


def test_only_the_newest_chunk_counts(ends: Ends) -> None:
    links, _, policy = ends
    for chunk_id in (1, 2, 3):
        policy.send(chunk(chunk_id).pack())
    assert list(links.events()) == []
    newest = links.newest_chunk()
    assert newest is not None
    assert newest.chunk_id == 3
    assert links.newest_chunk() is None


def test_a_missing_chunk_is_explained_by_how_long_inference_takes(ends: Ends) -> None:
    links, _, policy = ends
    assert links.inference_note(ms_to_ns(5)) == ""
    policy.send(InferenceBegun(ms_to_ns(100)).pack())
    assert list(links.events()) == []
    assert links.newest_chunk() is None
    assert links.inference_note(ms_to_ns(912)) == "inference has taken 812 ms so far"
    for inference_ms, words in ((950, "the last inference took 950 ms"), (100, "")):
        path = np.zeros((HORIZON, JOINTS), np.float32)
        policy.send(ActionChunk(1, 0, 0, ms_to_ns(100), path, ms_to_ns(inference_ms)).pack())
        assert list(links.events()) == []
        assert links.inference_note(ms_to_ns(2000)) == words


def test_a_chunk_of_another_shape_is_a_fault(ends: Ends) -> None:
    links, _, policy = ends
    policy.send(chunk(1, HORIZON + 1).pack())
    assert list(links.events()) == [Fault.BAD_CHUNK]


def test_the_end_of_a_channel_is_told_once_after_all_that_was_said(ends: Ends) -> None:
    links, supervisor, policy = ends
    supervisor.send(ControlCommand(Command.HOLD).pack())
    policy.send(chunk(7).pack())
    supervisor.close()
    policy.close()
    assert list(links.events()) == [Command.HOLD, Fault.SUPERVISOR_LOST, Fault.POLICY_LOST]
    assert list(links.events()) == []
    links.publish(state(0))


def test_a_stranger_on_the_supervisors_channel_is_no_supervisor(ends: Ends) -> None:
    links, supervisor, _ = ends
    supervisor.send(b"hello")
    assert list(links.events()) == [Fault.SUPERVISOR_LOST]


def test_a_slow_reader_loses_samples_and_they_are_counted(ends: Ends) -> None:
    links, _, policy = ends
    for stamp_ns in range(5000):
        links.publish(state(stamp_ns))
    received = [JointSample.unpack(record, n=JOINTS) for record in policy.drain()]
    assert len(received) + links.dropped == 5000
    assert links.dropped > 0
    np.testing.assert_allclose(received[0].joint_deg, 1.5)


def test_a_stop_asked_by_signal_comes_first_and_once(ends: Ends) -> None:
    links, supervisor, _ = ends
    supervisor.send(ControlCommand(Command.HOLD).pack())
    links.request_stop()
    assert list(links.events()) == [Command.STOP, Command.HOLD]
    assert list(links.events()) == []


def test_the_supervisor_learns_that_the_arm_may_hold_before_it_is_armed(ends: Ends) -> None:
    links, supervisor, _ = ends
    supervisor.send(ControlCommand(Command.ARM).pack())
    events = links.events()
    assert next(events) is Command.ARM
    told = supervisor.receive()
    assert told is not None
    MayHold.unpack(told)
    assert list(events) == []
    supervisor.send(ControlCommand(Command.ARM).pack())  # the next episode: it is known by now
    assert list(links.events()) == [Command.ARM]
    assert supervisor.receive() is None


@pytest.mark.slow
def test_an_arm_whose_supervisor_cannot_be_told_is_not_armed(ends: Ends) -> None:
    links, supervisor, _ = ends
    while links.dropped == 0:  # it does not read
        links.report(report())
    supervisor.send(ControlCommand(Command.ARM).pack())
    assert list(links.events()) == [Fault.SUPERVISOR_SILENT]


def test_an_emergency_stop_is_answered_from_the_handler_and_comes_first(ends: Ends) -> None:
    links, supervisor, _ = ends
    supervisor.send(ControlCommand(Command.STOP).pack())
    links.request_emergency()
    heard = supervisor.receive()
    assert heard is not None
    EmergencyReceived.unpack(heard)
    assert links.emergency_requested
    assert list(links.events()) == [Command.EMERGENCY, Command.STOP]
    assert not links.emergency_requested


def test_an_emergency_stop_during_the_events_comes_in_the_same_tick(ends: Ends) -> None:
    links, supervisor, _ = ends
    supervisor.send(ControlCommand(Command.HOLD).pack())
    events = links.events()
    assert next(events) is Command.HOLD
    links.request_emergency()
    assert list(events) == [Command.EMERGENCY]


def test_a_rescue_needs_no_supervisor(ends: Ends) -> None:
    links, supervisor, _ = ends
    supervisor.close()
    links.rescue()
    assert list(links.events()) == [Command.ARM, Command.STOP, Fault.SUPERVISOR_LOST]


def report() -> TickReport:
    joints = np.zeros(JOINTS, np.float32)
    return TickReport(
        1, 0, 0, (0, 0, 0, 0, 0), 0, 0, 0, 0, 0, Mode.IDLE, True, Fault.NONE, 0, 0, joints, joints
    )  # fmt: skip
