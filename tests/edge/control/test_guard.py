"""The guard by example: what is inside its limit passes, what is beyond is a fault after its time, no sooner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from sefa_edge.edge.control.safety import Finding, Guard, GuardState, Judgement, Situation, judge
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.units import ms_to_ns, s_to_ns

PERIOD_NS = ms_to_ns(10)
PROFILE = load_arm_profile("so101_sim")
JOINTS = len(PROFILE.joints)
ELBOW, GRIPPER = 2, 5
OVERLOAD = StatusBits.OVERLOAD
GUARD = Guard.of(PROFILE.limit_table(), PERIOD_NS)
NOW_NS = s_to_ns(100)
NOTHING = Judgement((), 0)


def reading(**changed: object) -> JointState:
    zeros = np.zeros(JOINTS)
    calm = JointState(
        sequence=1,
        stamp_ns=NOW_NS,
        joint_deg=zeros,
        velocity_deg_s=zeros,
        load_pct=zeros,
        current_ma=zeros,
        temperature_c=zeros + 30,
        supply_mv=7400,
        status_bits=np.zeros(JOINTS, np.uint8),
        valid_mask=np.ones(JOINTS, bool),
        age_ns=np.zeros(JOINTS, np.int64),
    )
    return replace(calm, **changed)


def situation(mode: Mode = Mode.RUNNING, **changed: object) -> Situation:
    calm = Situation(
        mode=mode,
        reading=reading(),
        answered=np.ones(JOINTS, bool),
        commanded_deg=np.zeros(JOINTS),
        fed_ns=NOW_NS,
        awaits_first_chunk=False,
        heartbeat_ns=NOW_NS,
        move_end_ns=NOW_NS,
    )
    return replace(calm, **changed)


def only(joint: int, value: float, others: float = 0.0) -> np.ndarray:
    column = np.full(JOINTS, others)
    column[joint] = value
    return column


def judgements(seen: Sequence[Situation], mode: Mode = Mode.RUNNING) -> list[Judgement]:
    """What the guard says to one situation after the other."""
    state, said = GuardState.fresh(mode, JOINTS), []
    for tick, moment in enumerate(seen):
        state, judgement = judge(state, moment, GUARD, NOW_NS + tick)
        said.append(judgement)
    return said


@dataclass(frozen=True)
class Row:
    """A reading just inside and just outside a limit, and how many of the latter make a fault."""

    fault: Fault
    inside: Situation
    outside: Situation
    patience: int
    joints: int = 1 << ELBOW


def lag(deg: float, mode: Mode, joint: int = ELBOW) -> Situation:
    return situation(mode, commanded_deg=only(joint, deg))


def measured(joint: int = ELBOW, mode: Mode = Mode.RUNNING, others: float = 0.0, **value: float) -> Situation:
    ((field, amount),) = value.items()
    column = only(joint, amount, others).astype(getattr(reading(), field).dtype)
    return situation(mode, reading=reading(**{field: column}))


def supplied(millivolts: int) -> Situation:
    return situation(Mode.HOLD, reading=reading(supply_mv=millivolts))


ROWS = {
    "heat": Row(Fault.OVERHEATED, measured(temperature_c=65, others=30), measured(temperature_c=66, others=30), 100),
    "current": Row(Fault.OVERCURRENT, measured(current_ma=2000), measured(current_ma=2006.5), 100),
    "current backwards": Row(Fault.OVERCURRENT, measured(current_ma=-2000), measured(current_ma=-2006.5), 100),
    "current of the gripper": Row(
        Fault.OVERCURRENT,
        measured(GRIPPER, current_ma=2600),
        measured(GRIPPER, current_ma=2606.5),
        100,
        1 << GRIPPER,
    ),
    "load": Row(Fault.OVERLOADED, measured(load_pct=80), measured(load_pct=80.1), 100),
    "load backwards": Row(Fault.OVERLOADED, measured(load_pct=-80), measured(load_pct=-80.1), 100),
    "low supply": Row(Fault.SUPPLY_VOLTAGE, supplied(4500), supplied(4400), 20, 0),
    "high supply": Row(Fault.SUPPLY_VOLTAGE, supplied(8400), supplied(8500), 20, 0),
    "low supply with the voltage bit": Row(
        Fault.SUPPLY_VOLTAGE,
        supplied(4500),
        situation(
            Mode.HOLD, reading=reading(supply_mv=4400, status_bits=np.full(JOINTS, StatusBits.VOLTAGE, np.uint8))
        ),
        20,
        0,
    ),
    "status": Row(Fault.SERVO_STATUS, measured(status_bits=0), measured(status_bits=1), 10),
    "high status bit": Row(Fault.SERVO_STATUS, measured(status_bits=0), measured(status_bits=128), 10),
    "overload bit": Row(Fault.SERVO_STATUS, measured(status_bits=0), measured(status_bits=OVERLOAD), 10),
    "a gripper's overload bit, and others": Row(
        Fault.SERVO_STATUS,
        measured(GRIPPER, status_bits=OVERLOAD),
        measured(GRIPPER, status_bits=OVERLOAD | StatusBits.TEMPERATURE),
        10,
        1 << GRIPPER,
    ),
    "lag while running": Row(Fault.FOLLOWING_ERROR, lag(20, Mode.RUNNING), lag(20.1, Mode.RUNNING), 50),
    "lag backwards": Row(Fault.FOLLOWING_ERROR, lag(-20, Mode.RUNNING), lag(-20.1, Mode.RUNNING), 50),
    "lag of a joint that is elsewhere": Row(
        Fault.FOLLOWING_ERROR,
        replace(lag(50, Mode.RUNNING), reading=reading(joint_deg=only(ELBOW, 30))),
        replace(lag(50, Mode.RUNNING), reading=reading(joint_deg=only(ELBOW, 29.9))),
        50,
    ),
    "lag on the way to the start pose": Row(Fault.FOLLOWING_ERROR, lag(20, Mode.ARMED), lag(20.1, Mode.ARMED), 3),
    "lag on the way to the park pose": Row(Fault.FOLLOWING_ERROR, lag(20, Mode.PARK), lag(20.1, Mode.PARK), 3),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_lasts_too_long_is_found_and_named(name: str) -> None:
    row = ROWS[name]
    assert judgements([row.inside] * 300)[-1].findings == ()
    said = judgements([row.outside] * (row.patience + 2))
    found = Judgement((Finding(row.fault, row.joints),), said[0].warm)
    assert said[row.patience - 2].findings == ()
    assert said[row.patience - 1 :] == [found] * 3  # and it is found again for as long as it lasts


@pytest.mark.parametrize("name", ROWS)
def test_one_good_reading_begins_the_count_anew(name: str) -> None:
    row = ROWS[name]
    said = judgements([*[row.outside] * (row.patience - 1), row.inside, *[row.outside] * row.patience])
    assert [bool(judgement.findings) for judgement in said] == [False] * (2 * row.patience - 1) + [True]


@pytest.mark.parametrize("name", ROWS)
def test_a_silent_joint_is_neither_worse_nor_better(name: str) -> None:
    row = ROWS[name]
    answered = replace(row.outside, answered=np.ones(JOINTS, bool))
    silent = replace(row.outside, answered=np.zeros(JOINTS, bool))
    mute = replace(row.inside, answered=np.zeros(JOINTS, bool))
    said = judgements([answered] * (row.patience - 1) + [silent, mute] * 40 + [answered])
    assert all(judgement.findings == () for judgement in said[:-1])
    assert [finding.fault for finding in said[-1].findings] == [row.fault]


@pytest.mark.parametrize("name", ROWS)
def test_another_mode_begins_the_count_anew(name: str) -> None:
    row = ROWS[name]
    last = replace(row.outside, mode=Mode.IDLE)
    said = judgements([row.outside] * (row.patience - 1) + [last], row.outside.mode)
    assert said[-1].findings == ()


@pytest.mark.parametrize("field", ["temperature_c", "current_ma", "load_pct", "joint_deg"])
def test_what_is_not_a_number_is_trouble(field: str) -> None:
    said = judgements([situation(reading=reading(**{field: only(GRIPPER, np.nan)}))] * 100)
    assert [finding.joints for finding in said[-1].findings] == [1 << GRIPPER]


@pytest.mark.parametrize("mode", [Mode.IDLE, Mode.HOLD, Mode.RELEASED])
def test_nobody_follows_where_nothing_moves(mode: Mode) -> None:
    assert judgements([lag(170, mode)] * 100, mode)[-1] == NOTHING


@pytest.mark.parametrize("mode", [Mode.RUNNING, Mode.PARK])
def test_a_gripper_may_be_stopped_by_what_it_grips(mode: Mode) -> None:
    grips = replace(measured(GRIPPER, mode, load_pct=100), commanded_deg=only(GRIPPER, 100))
    assert judgements([grips] * 300, mode)[-1] == NOTHING


def test_faults_do_not_hide_each_other() -> None:
    """Heat leads home; what blocks the way home must be seen all the same."""
    seen = replace(measured(mode=Mode.PARK, temperature_c=90, others=30), commanded_deg=only(0, 45))
    assert judgements([seen] * 100, Mode.PARK)[-1].findings == (
        Finding(Fault.OVERHEATED, 1 << ELBOW),
        Finding(Fault.FOLLOWING_ERROR, 1),
    )


def test_a_warm_servo_is_a_note() -> None:
    assert judgements([measured(temperature_c=55)])[0] == NOTHING
    assert judgements([measured(temperature_c=56)])[0] == Judgement((), 1 << ELBOW)


@dataclass(frozen=True)
class Silence:
    """What has not come since `begin_ns` before now, and when that becomes a fault."""

    fault: Fault
    field: str
    patience_ns: int
    mode: Mode
    awaits_first_chunk: bool = False


@pytest.mark.parametrize(
    "silence",
    [
        Silence(Fault.CHUNK_TIMEOUT, "fed_ns", ms_to_ns(500), Mode.RUNNING),
        Silence(Fault.CHUNK_TIMEOUT, "fed_ns", s_to_ns(5), Mode.RUNNING, True),
        Silence(Fault.SUPERVISOR_SILENT, "heartbeat_ns", s_to_ns(1), Mode.HOLD),
        Silence(Fault.PARK_TIMEOUT, "move_end_ns", s_to_ns(5), Mode.PARK),
    ],
)
def test_silence_becomes_a_fault_when_its_time_is_over(silence: Silence) -> None:
    calm = situation(silence.mode, awaits_first_chunk=silence.awaits_first_chunk)
    for age_ns, findings in ((silence.patience_ns, ()), (silence.patience_ns + 1, (Finding(silence.fault, joints=0),))):
        seen = replace(calm, **{silence.field: NOW_NS - age_ns})
        assert judgements([seen], silence.mode) == [Judgement(findings, 0)]


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode not in (Mode.RUNNING, Mode.PARK)])
def test_silence_matters_only_where_something_is_expected(mode: Mode) -> None:
    assert judgements([situation(mode, fed_ns=0, move_end_ns=0, heartbeat_ns=None)], mode) == [NOTHING]


def test_a_time_that_is_no_multiple_of_the_period_is_rounded_up_and_never_nothing() -> None:
    guard = Guard.of(PROFILE.limit_table(), ms_to_ns(7))
    assert guard.patience.ravel().tolist() == [143, 143, 143, 29, 15, 72, 5]
    assert Guard.of(PROFILE.limit_table(), s_to_ns(2)).patience.ravel().tolist() == [1] * 7
