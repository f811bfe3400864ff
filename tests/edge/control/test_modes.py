"""The mode machine: every state times every event, and the fault table."""

from __future__ import annotations

from itertools import product

import pytest

from sefa_edge.edge.control.modes import AfterFault, ModeState, Target, describe, transition
from sefa_edge.edge.ipc.faults import FAULTS, OBSTRUCTIONS, Fault, Outcome
from sefa_edge.edge.ipc.vocabulary import POWERED, Command, Event, Mode, Progress

REAL_FAULTS = [fault for fault in Fault if fault]


def run(*events: Event, start: ModeState | None = None) -> ModeState:
    state = start or ModeState()
    for event in events:
        state = transition(state, event)
    return state


SETTLED = Progress.SETTLED
RUNNING = (Command.ARM, SETTLED, Command.RUN, SETTLED)


@pytest.mark.parametrize(
    ("events", "mode"),
    [
        ((), Mode.IDLE),
        ((Command.RUN,), Mode.IDLE),
        ((Command.HOLD,), Mode.IDLE),
        ((Command.PARK,), Mode.IDLE),
        ((Command.RELEASE,), Mode.RELEASED),
        ((Command.ARM,), Mode.ARMED),
        ((Command.ARM, Command.RUN), Mode.ARMED),
        (RUNNING, Mode.RUNNING),
        ((*RUNNING, Command.HOLD), Mode.HOLD),
        ((*RUNNING, Command.HOLD, SETTLED, Command.RUN, SETTLED), Mode.RUNNING),
        ((*RUNNING, Command.ARM), Mode.HOLD),
        ((*RUNNING, Command.ARM, SETTLED), Mode.ARMED),
        ((*RUNNING, Command.PARK, SETTLED), Mode.PARK),
        ((*RUNNING, Command.PARK, SETTLED, SETTLED), Mode.PARK),
        ((*RUNNING, Command.PARK, SETTLED, Command.RUN, SETTLED), Mode.PARK),
        ((*RUNNING, Command.RELEASE), Mode.HOLD),
        ((*RUNNING, Command.RELEASE, SETTLED), Mode.RELEASED),
        ((*RUNNING, Command.STOP), Mode.HOLD),
        ((*RUNNING, Command.STOP, SETTLED), Mode.PARK),
        ((*RUNNING, Command.STOP, SETTLED, SETTLED), Mode.RELEASED),
        ((*RUNNING, Command.STOP, SETTLED, Command.HOLD), Mode.HOLD),
        ((Command.RELEASE, Command.ARM), Mode.ARMED),
    ],
)
def test_commands_lead_to(events: tuple[Event, ...], mode: Mode) -> None:
    assert run(*events).mode is mode


@pytest.mark.parametrize("fault", REAL_FAULTS)
def test_every_fault_has_a_row_that_instructs(fault: Fault) -> None:
    row = FAULTS[fault]
    assert row.message
    assert row.hint
    assert len(row.message) + len(row.hint) < 240


@pytest.mark.parametrize(("mode", "fault"), list(product(sorted(POWERED), REAL_FAULTS)))
def test_every_fault_in_every_powered_mode_ends_the_run(mode: Mode, fault: Fault) -> None:
    state = transition(ModeState(mode), fault)
    assert state.fault is fault
    assert state.exit_code == 3
    if FAULTS[fault].outcome is Outcome.LEAVE:
        assert state.mode is Mode.FAULT
    if FAULTS[fault].outcome is Outcome.AWAIT_ARM:
        assert (state.mode, state.target) == (Mode.HOLD, Target.AWAIT_ARM)
        assert run(Progress.ARM_GONE, start=state).mode is Mode.FAULT
        state = run(Progress.ARM_BACK, start=state)
    if FAULTS[fault].outcome is Outcome.RELEASE:
        assert state.mode is Mode.EMERGENCY
        assert run(SETTLED, start=state).finished
        return
    if mode is Mode.PARK and fault in OBSTRUCTIONS:
        assert (state.mode, state.target) == (Mode.HOLD, Target.NONE)  # a person is there to decide
        return
    end = run(SETTLED, SETTLED, SETTLED, start=state)
    assert end.finished
    assert end.fault is fault


@pytest.mark.parametrize("fault", [fault for fault in REAL_FAULTS if fault is not Fault.EMERGENCY_STOP])
def test_a_fault_before_torque_on_touches_nothing(fault: Fault) -> None:
    state = run(fault)
    assert state.finished
    assert state.exit_code == 3
    assert state.mode in (Mode.IDLE, Mode.FAULT)


@pytest.mark.parametrize(("first", "second"), list(product(REAL_FAULTS, REAL_FAULTS)))
def test_the_first_fault_keeps_its_name(first: Fault, second: Fault) -> None:
    silent = (Fault.ARM_TIMEOUT, Fault.ARM_DISCONNECTED)
    explains = second in (Fault.POWER_LOST, Fault.OTHER_ARM) and first in silent  # why the arm was silent
    named = second if second is Fault.EMERGENCY_STOP or explains else first
    assert run(*RUNNING, first, second).fault is named


@pytest.mark.parametrize("command", [Command.ARM, Command.RUN])
def test_no_command_leads_out_of_a_fault(command: Command) -> None:
    state = run(*RUNNING, Fault.SERVO_STATUS, Command.HOLD, SETTLED)
    assert (state.mode, state.target) == (Mode.HOLD, Target.NONE)
    assert run(command, SETTLED, start=state) == state


EVERYWHERE = {
    "idle": (),
    "armed": (Command.ARM,),
    "running": RUNNING,
    "holding": (*RUNNING, Command.HOLD, SETTLED),
    "parking": (*RUNNING, Command.STOP, SETTLED),
    "released": (*RUNNING, Command.RELEASE, SETTLED),
    "after a fault": (*RUNNING, Fault.CHUNK_TIMEOUT),
    "arm away": (*RUNNING, Fault.ARM_TIMEOUT),
    "about to leave": (*RUNNING, Fault.POLICY_LOST, SETTLED, Fault.OVERLOADED),
    "left holding": (*RUNNING, Fault.TORQUE_REFUSED),
    "parked with torque on": (*RUNNING, Command.STOP, SETTLED, Progress.STAYS),
}


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize("word", [Command.EMERGENCY, Fault.EMERGENCY_STOP])
def test_an_emergency_stop_works_everywhere_and_nothing_stops_it(where: str, word: Event) -> None:
    state = run(*EVERYWHERE[where], word)
    assert (state.mode, state.fault, state.powered, state.finished) == (
        Mode.EMERGENCY,
        Fault.EMERGENCY_STOP,
        False,
        False,
    )
    deaf = run(*Command, *REAL_FAULTS, Progress.ARM_BACK, Progress.STAYS, start=state)
    assert deaf == state
    released = run(SETTLED, start=state)
    assert (released.mode, released.finished, released.exit_code) == (Mode.RELEASED, True, 3)
    assert describe(released) == (
        "emergency stop: arm released where it stood",
        "find out what made it necessary before you start again",
    )
    refused = run(Progress.ARM_GONE, start=state)
    assert (refused.mode, refused.finished, refused.exit_code) == (Mode.FAULT, True, 3)
    message, hint = describe(refused, ("elbow_flex",))
    assert message == "emergency stop: TORQUE NOT CONFIRMED OFF (elbow_flex)"
    assert hint.startswith("CUT THE ARM'S POWER NOW")


def test_events_of_the_same_number_are_not_taken_for_each_other() -> None:
    """They are numbers underneath: EMERGENCY is 7, and so is FOLLOWING_ERROR."""
    assert run(*RUNNING, Fault.FOLLOWING_ERROR).mode is Mode.HOLD
    assert run(*RUNNING, Command.STOP, SETTLED, Command.HOLD).target is Target.NONE


@pytest.mark.parametrize("fault", sorted(OBSTRUCTIONS))
def test_what_is_in_the_way_to_the_park_pose_is_not_pushed_at_twice(fault: Fault) -> None:
    state = run(*RUNNING, Command.STOP, SETTLED, fault)
    assert (state.mode, state.target) == (Mode.HOLD, Target.LEAVE)
    assert run(SETTLED, start=state).mode is Mode.FAULT


def test_an_arm_that_keeps_its_torque_at_the_park_pose() -> None:
    state = run(*RUNNING, Command.STOP, SETTLED, Progress.STAYS)
    assert (state.mode, state.finished, state.exit_code) == (Mode.PARKED, True, 0)
    assert describe(state) == ("arm parked, torque still on", "")
    others = [command for command in Command if command is not Command.EMERGENCY]
    assert run(*others, SETTLED, start=state) == state
    faulted = run(*RUNNING, Fault.OVERHEATED, SETTLED, Progress.STAYS)
    assert describe(faulted)[0] == "a servo is too hot: arm parked, torque still on"
    assert run(*RUNNING, Progress.STAYS).mode is Mode.RUNNING


def test_a_command_that_was_sent_before_the_stop_does_not_undo_it() -> None:
    for where in ((Command.ARM,), RUNNING):
        stopping = run(*where, Command.STOP)
        assert run(Command.ARM, Command.RUN, start=stopping) == stopping
        parking = run(SETTLED, start=stopping)
        assert parking.mode is Mode.PARK
        assert run(Command.ARM, Command.RUN, start=parking) == parking


def test_who_leaves_while_we_stop_is_no_fault() -> None:
    state = run(*RUNNING, Command.STOP, Fault.POLICY_LOST, Fault.SUPERVISOR_LOST, Fault.SUPERVISOR_SILENT)
    assert state.fault is Fault.NONE


def test_a_blocked_way_to_the_park_pose_leaves_the_arm_holding() -> None:
    state = run(*RUNNING, Fault.POLICY_LOST, SETTLED, Fault.FOLLOWING_ERROR, SETTLED)
    assert state.mode is Mode.FAULT
    assert state.fault is Fault.POLICY_LOST
    message, hint = describe(state)
    assert message == "the policy process is gone: arm left holding its last goal, torque still on"
    assert hint.endswith("support the arm before you switch its power off")


def test_a_vanished_arm_that_returns_is_parked_and_released() -> None:
    state = run(*RUNNING, Fault.ARM_DISCONNECTED, SETTLED, Command.STOP, Progress.ARM_BACK, SETTLED, SETTLED)
    assert (state.mode, state.parked, state.finished) == (Mode.RELEASED, True, True)
    assert describe(state, ("elbow_flex",))[0] == "the arm's port disappeared (elbow_flex): arm parked and released"


def test_endings_are_reported() -> None:
    assert describe(run(Command.STOP)) == ("arm not touched", "")
    assert describe(run(*RUNNING, Command.STOP, SETTLED, SETTLED)) == ("arm parked and released", "")
    assert describe(run(*RUNNING, Command.RELEASE, SETTLED, Command.STOP)) == (
        "arm released where it stood",
        "",
    )


def test_a_torque_that_is_not_confirmed_is_not_claimed() -> None:
    state = run(*RUNNING, Command.STOP, SETTLED, SETTLED, Fault.TORQUE_REFUSED)
    assert state.finished
    assert describe(state)[0].endswith("arm left as it is, its torque may be on or off")
    state = run(*RUNNING, Fault.CHUNK_TIMEOUT, SETTLED, SETTLED, Fault.TORQUE_REFUSED)
    assert describe(state)[0].endswith("in time: arm left as it is, its torque may be on or off")


@pytest.mark.parametrize("fault", [Fault.POWER_LOST, Fault.ENCODER])
@pytest.mark.parametrize("before", [RUNNING, (Command.ARM,), (*RUNNING, Command.STOP, SETTLED)])
def test_a_servo_that_is_not_well_leaves_the_rest_holding(fault: Fault, before: tuple[Event, ...]) -> None:
    state = run(*before, fault)
    assert (state.mode, state.target) == (Mode.HOLD, Target.LEAVE)
    assert run(*before, fault, SETTLED).mode is Mode.FAULT
    lost_meanwhile = run(*before, fault, Fault.ARM_TIMEOUT)
    assert (lost_meanwhile.mode, lost_meanwhile.fault) == (Mode.FAULT, fault)


@pytest.mark.parametrize("before", [(), (Fault.ARM_TIMEOUT,), (Fault.ARM_DISCONNECTED,)])
def test_an_arm_that_is_limp_ends_released_and_says_why(before: tuple[Event, ...]) -> None:
    state = run(*RUNNING, *before, Progress.LIMP)
    assert (state.mode, state.fault, state.exit_code) == (Mode.RELEASED, Fault.POWER_LOST, 3)
    assert state.finished
    assert describe(state)[0] == "the arm lost its power and is limp: arm released where it stood"


def test_an_arm_that_becomes_limp_after_another_fault_says_both() -> None:
    state = run(*RUNNING, Fault.OVERHEATED, Progress.LIMP)
    assert describe(state, ("elbow_flex",))[0] == (
        "a servo is too hot (elbow_flex): the arm lost its power and is limp"
    )


def test_the_hint_for_a_limp_arm_asks_nobody_to_support_it() -> None:
    state = run(Command.ARM, Fault.SUPERVISOR_LOST, Progress.LIMP, Fault.TORQUE_REFUSED)
    assert (state.mode, state.limp) == (Mode.FAULT, True)
    assert describe(state)[1] == FAULTS[Fault.SUPERVISOR_LOST].hint


def test_an_arm_without_torque_of_ours_is_not_called_limp() -> None:
    assert run(Progress.LIMP) == ModeState()


@pytest.mark.parametrize("fault", REAL_FAULTS)
def test_a_hint_says_nothing_twice(fault: Fault) -> None:
    for ending in ((), (SETTLED,), (SETTLED, SETTLED, SETTLED)):
        _, hint = describe(run(*RUNNING, fault, *ending))
        parts = hint.split("; ")
        assert len(set(parts)) == len(parts), hint


PARKING_FAULTS = [fault for fault, row in FAULTS.items() if row.outcome is Outcome.PARK]


@pytest.mark.parametrize("fault", PARKING_FAULTS)
@pytest.mark.parametrize("after_fault", AfterFault)
def test_what_follows_a_fault_is_up_to_who_leads_the_arm(fault: Fault, after_fault: AfterFault) -> None:
    after = transition(ModeState(Mode.RUNNING), fault, after_fault)
    holds = after_fault is AfterFault.HOLD or (after_fault is AfterFault.HOLD_WHEN_OBSTRUCTED and fault in OBSTRUCTIONS)
    assert (after.mode, after.fault) == (Mode.HOLD, fault)
    assert after.target is (Target.LEAVE if holds else Target.STOP)


@pytest.mark.parametrize("fault", [Fault.ARM_TIMEOUT, Fault.ARM_DISCONNECTED])
def test_an_arm_that_a_program_leads_is_not_waited_for(fault: Fault) -> None:
    after = transition(ModeState(Mode.RUNNING), fault, AfterFault.HOLD)
    assert (after.mode, after.fault) == (Mode.FAULT, fault)
    for waiting in (AfterFault.BY_TABLE, AfterFault.HOLD_WHEN_OBSTRUCTED):
        assert transition(ModeState(Mode.RUNNING), fault, waiting).target is Target.AWAIT_ARM


@pytest.mark.parametrize("after_fault", AfterFault)
def test_a_fault_before_torque_on_leaves_the_arm_untouched(after_fault: AfterFault) -> None:
    for fault in (Fault.SERVO_STATUS, Fault.ARM_TIMEOUT, Fault.OVERCURRENT):
        after = transition(ModeState(), fault, after_fault)
        assert (after.mode, after.fault, after.finished) == (Mode.IDLE, fault, True)


def test_an_arm_that_was_parked_stays_so_whatever_comes_later() -> None:
    parked = ModeState(Mode.RELEASED, parked=True)
    for event in (Command.STOP, Command.RELEASE, Progress.SETTLED, Fault.POLICY_LOST):
        assert transition(parked, event).parked


@pytest.mark.parametrize("mode", [Mode.ARMED, Mode.RUNNING, Mode.HOLD, Mode.PARK])
@pytest.mark.parametrize("event", [Progress.ARM_BACK, Progress.ARM_GONE])
def test_an_arm_that_was_not_lost_cannot_come_back(mode: Mode, event: Progress) -> None:
    assert transition(ModeState(mode), event) == ModeState(mode)


@pytest.mark.parametrize("target", [Target.AWAIT_ARM, Target.LEAVE])
@pytest.mark.parametrize(
    "command", [Command.ARM, Command.RUN, Command.HOLD, Command.PARK, Command.RELEASE, Command.STOP]
)
def test_no_command_moves_an_arm_that_is_waited_for_or_left_holding(target: Target, command: Command) -> None:
    state = ModeState(Mode.HOLD, target, Fault.ARM_TIMEOUT)
    assert transition(state, command) == state


@pytest.mark.parametrize(
    ("mode", "command", "target"),
    [
        (Mode.ARMED, Command.RUN, Target.RUN),
        (Mode.HOLD, Command.RUN, Target.RUN),
        (Mode.RUNNING, Command.RUN, Target.NONE),
        (Mode.PARK, Command.RUN, Target.NONE),
        (Mode.PARK, Command.STOP, Target.STOP),
        (Mode.PARK, Command.PARK, Target.NONE),
        (Mode.ARMED, Command.ARM, Target.NONE),
    ],
)
def test_a_command_for_what_the_arm_does_already_does_not_interrupt_it(
    mode: Mode, command: Command, target: Target
) -> None:
    assert transition(ModeState(mode), command) == ModeState(mode, target)
    again = ModeState(mode, Target.RUN if mode is Mode.ARMED else Target.NONE)
    if command in (Command.ARM, Command.PARK):
        assert transition(again, command) == ModeState(mode)


@pytest.mark.parametrize("command", [Command.RUN, Command.HOLD, Command.PARK])
@pytest.mark.parametrize("mode", [Mode.IDLE, Mode.RELEASED])
def test_an_arm_without_torque_ignores_commands_that_need_it(mode: Mode, command: Command) -> None:
    assert transition(ModeState(mode), command) == ModeState(mode)


@pytest.mark.parametrize("target", [Target.AWAIT_ARM, Target.LEAVE])
def test_a_later_fault_does_not_make_a_lost_or_holding_arm_park(target: Target) -> None:
    state = ModeState(Mode.HOLD, target, Fault.ARM_TIMEOUT)
    assert transition(state, Fault.OVERHEATED) == state
