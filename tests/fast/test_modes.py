"""The mode machine: every state times every event, and the fault table."""

from __future__ import annotations

from itertools import product

import pytest

from sefa_edge.edge.modes import (
    FAULTS,
    POWERED,
    Command,
    Event,
    Fault,
    Mode,
    ModeState,
    Outcome,
    Progress,
    Target,
    describe,
    transition,
)

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
    if (mode, fault) == (Mode.PARK, Fault.FOLLOWING_ERROR):
        assert (state.mode, state.target) == (Mode.HOLD, Target.NONE)  # a person is there to decide
        return
    end = run(SETTLED, SETTLED, SETTLED, start=state)
    assert end.finished
    assert end.fault is fault


@pytest.mark.parametrize("fault", REAL_FAULTS)
def test_a_fault_before_torque_on_touches_nothing(fault: Fault) -> None:
    state = run(fault)
    assert state.finished
    assert state.exit_code == 3
    assert state.mode in (Mode.IDLE, Mode.FAULT)


@pytest.mark.parametrize(("first", "second"), list(product(REAL_FAULTS, REAL_FAULTS)))
def test_the_first_fault_keeps_its_name(first: Fault, second: Fault) -> None:
    assert run(*RUNNING, first, second).fault is first


@pytest.mark.parametrize("command", [Command.ARM, Command.RUN])
def test_no_command_leads_out_of_a_fault(command: Command) -> None:
    state = run(*RUNNING, Fault.SERVO_STATUS, Command.HOLD, SETTLED)
    assert (state.mode, state.target) == (Mode.HOLD, Target.NONE)
    assert run(command, SETTLED, start=state) == state


def test_who_leaves_while_we_stop_is_no_fault() -> None:
    state = run(*RUNNING, Command.STOP, Fault.POLICY_LOST, Fault.SUPERVISOR_LOST)
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


def test_endings_are_told() -> None:
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
