"""The mode machine under any sequence of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.control.modes import ModeState, Target, transition
from sefa_edge.edge.ipc.faults import OBSTRUCTIONS, Fault
from sefa_edge.edge.ipc.vocabulary import POWERED, Command, Event, Mode, Progress

events = st.lists(st.one_of(*(st.sampled_from(enum) for enum in (Command, Progress, Fault))), max_size=60)


def states(sequence: list[Event]) -> list[ModeState]:
    path = [ModeState()]
    for event in sequence:
        path.append(transition(path[-1], event))
    return path


@given(events)
def test_only_arm_switches_torque_on_and_a_moving_arm_is_never_dropped(sequence: list[Event]) -> None:
    path = states(sequence)
    for before, after, event in zip(path, path[1:], sequence, strict=False):
        if after.powered and not before.powered:
            assert event is Command.ARM
            assert not before.fault
        if before.powered and after.mode is Mode.RELEASED:
            assert event is Progress.LIMP or (event is Progress.SETTLED and before.mode in (Mode.HOLD, Mode.PARK))
        if after.mode is Mode.RUNNING and before.mode is not Mode.RUNNING:
            assert (event, before.target, after.fault) == (Progress.SETTLED, Target.RUN, Fault.NONE)


@given(events)
def test_faults_latch_and_only_commands_restart_a_finished_machine(sequence: list[Event]) -> None:
    path = states(sequence)
    for before, after, event in zip(path, path[1:], sequence, strict=False):
        emergency = after.mode is Mode.EMERGENCY and before.mode is not Mode.EMERGENCY
        if emergency:
            assert event is Command.EMERGENCY or event is Fault.EMERGENCY_STOP
            continue
        if before.fault:
            explained = before.fault in (Fault.ARM_TIMEOUT, Fault.ARM_DISCONNECTED)
            assert after.fault is before.fault or (explained and after.fault in (Fault.POWER_LOST, Fault.OTHER_ARM))
        if before.finished and not isinstance(event, Command):
            assert after.finished


@given(events)
def test_stop_ends_every_run_within_three_rests(sequence: list[Event]) -> None:
    """After any events, STOP and coming to rest end the process; it never hangs."""
    state = states(sequence)[-1]
    for event in (Command.STOP, Progress.SETTLED, Progress.SETTLED, Progress.SETTLED, Progress.ARM_GONE):
        state = transition(state, event)
    assert state.finished


@given(events)
def test_a_fault_leads_to_an_end_unless_commanded_or_obstructed(sequence: list[Event]) -> None:
    state = states(sequence)[-1]
    if state.fault and state.mode in POWERED and state.target is Target.NONE:
        later = [event for event in sequence if isinstance(event, Command)]
        blocked = any(isinstance(event, Fault) and event in OBSTRUCTIONS for event in sequence)
        assert later or blocked
