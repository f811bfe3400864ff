"""The watched arm, error by error: what it reports, what it sends, and when it gives up."""

from __future__ import annotations

import numpy as np
import pytest

from sefa_edge.edge.control.attempts import ATTEMPTS, with_retries
from sefa_edge.edge.control.watched_arm import MISSES_BEFORE_STANDSTILL, RETRY_NS, WatchedArm
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import Torque
from sefa_edge.edge.ipc.vocabulary import Event, Progress
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmInterrupted, ArmTimeout, OtherArm
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, TorqueReading
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns
from tests.edge.control.failing_arm import GONE, INTERRUPTED, OUTSIDE, TIMEOUT, UNCONFIRMED, FailingArm

PROFILE = load_arm_profile("so101_sim")
N = len(PROFILE.joints)
ELBOW_BIT, ALL_BITS = 1 << 2, (1 << N) - 1
PATIENCE, RECOVERY_NS, TICK_NS = 10, 2 * NS_PER_S, ms_to_ns(10)


class Bench:
    """A watched arm on a clock that stands still between readings."""

    def __init__(self) -> None:
        self.now_ns = NS_PER_S
        self.arm = FailingArm(PROFILE, lambda: self.now_ns)
        self.openings: list[Arm | Exception] = [self.arm]
        self.watched = WatchedArm(self._open, PATIENCE, RECOVERY_NS)

    def _open(self) -> Arm:
        opened = self.openings.pop(0) if len(self.openings) > 1 else self.openings[0]
        if isinstance(opened, Exception):
            raise opened
        return opened

    def read(self, wait_ns: int = TICK_NS) -> Event | None:
        self.now_ns += wait_ns
        return self.watched.read(self.now_ns)

    def send(self) -> bool:
        joint_deg = self.watched.state.joint_deg
        return self.watched.send(JointGoal(1, self.now_ns, self.now_ns + NS_PER_S, joint_deg))

    def sent(self) -> int:
        return self.arm.calls.count("send")


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def armed(bench: Bench) -> Bench:
    bench.watched.energise()
    assert bench.watched.torque is Torque.ON
    return bench


def held(**fields: object) -> HeldCommand:
    usual = {
        "valid_mask": np.ones(N, bool), "torque_on": np.ones(N, bool), "powered_throughout": np.ones(N, bool),
        "goal_deg": np.zeros(N),
    }  # fmt: skip
    return HeldCommand(**(usual | fields))  # type: ignore[arg-type]


def test_a_request_is_repeated_until_it_succeeds_or_the_port_is_gone(bench: Bench) -> None:
    bench.arm.fail("read_state", *[TIMEOUT] * (ATTEMPTS - 1))
    with_retries(bench.arm.read_state)
    bench.arm.fail("read_state", *[TIMEOUT] * ATTEMPTS)
    with pytest.raises(ArmTimeout):
        with_retries(bench.arm.read_state)
    for error in (GONE, INTERRUPTED):
        bench.arm.calls.clear()
        bench.arm.fail("read_state", error)
        with pytest.raises(type(error)):
            with_retries(bench.arm.read_state)
        assert bench.arm.calls == ["read_state"]


def test_settings_are_written_at_once_or_when_the_torque_comes_on(bench: Bench) -> None:
    bench.watched.prepare()
    assert bench.arm.calls.count("prepare") == 1
    bench.watched.prepare_when_armed()
    for _ in range(2):
        bench.watched.energise()
    assert bench.arm.calls.count("prepare") == 2
    assert bench.arm.calls.index("enable_torque") > bench.arm.calls.index("prepare")


def test_torque_that_cannot_be_read_is_unknown(bench: Bench) -> None:
    bench.arm.fail("read_torque", TIMEOUT)
    assert bench.watched.read_torque() == TorqueReading((), PROFILE.joint_names)
    bench.watched.close()
    bench.watched.close()
    assert bench.arm.calls.count("close") == 1
    assert bench.watched.read_torque().unknown == PROFILE.joint_names


@pytest.mark.parametrize(
    ("error", "fault", "joints"),
    [
        (None, None, 0),
        (OUTSIDE, Fault.OUTSIDE_RANGE, ELBOW_BIT),
        (UNCONFIRMED, Fault.POSITION_UNSURE, ELBOW_BIT),
        (TIMEOUT, Fault.ARM_TIMEOUT, 0),
        (GONE, Fault.ARM_DISCONNECTED, 0),
    ],
)
def test_what_forbids_torque_on(bench: Bench, error: None, fault: Fault | None, joints: int) -> None:
    bench.arm.fail("check_position_limits", error)
    assert bench.watched.check_position_limits(bench.now_ns) is fault
    assert bench.watched.fault_joints == joints
    assert bench.watched.fault_detail == (str(OUTSIDE) if fault is Fault.OUTSIDE_RANGE else "")
    assert bench.watched.lost == (fault is Fault.ARM_DISCONNECTED)


def test_an_emergency_stop_goes_before_every_request(armed: Bench) -> None:
    armed.arm.fail("check_position_limits", INTERRUPTED)
    with pytest.raises(ArmInterrupted):
        armed.watched.check_position_limits(armed.now_ns)
    armed.arm.fail("read_state", INTERRUPTED)
    assert armed.read() is None
    assert armed.watched.answered.all()
    armed.arm.fail("send", INTERRUPTED)
    assert not armed.send()
    assert not armed.watched.lost


def test_a_port_that_vanishes_while_a_goal_is_sent_is_reported_by_the_next_reading(armed: Bench) -> None:
    assert armed.send()
    armed.arm.fail("send", GONE)
    assert not armed.send()
    assert armed.watched.lost
    assert armed.watched.all_left_out
    sent = armed.sent()
    assert not armed.send()
    assert armed.sent() == sent
    assert armed.read() is Fault.ARM_DISCONNECTED
    assert armed.read() is None


def test_a_port_that_vanishes_while_reading(armed: Bench) -> None:
    armed.arm.fail("read_state", GONE)
    assert armed.read() is Fault.ARM_DISCONNECTED
    assert armed.watched.lost
    assert not armed.watched.answered.any()


def test_an_arm_that_is_back_is_read_before_it_gets_a_goal(armed: Bench) -> None:
    armed.arm.fail("read_state", GONE)
    armed.read()
    armed.openings = [ArmDisconnected("not there yet", ""), TIMEOUT, armed.arm]
    armed.arm.fail("read_state", TIMEOUT)
    calls = len(armed.arm.calls)
    assert armed.read(RETRY_NS - TICK_NS) is None
    assert len(armed.arm.calls) == calls, "asked before its time"
    assert [armed.read(RETRY_NS) for _ in range(3)] == [None, None, None]
    assert not armed.send()
    assert armed.read(RETRY_NS) is Progress.ARM_BACK
    assert "prepare" in armed.arm.calls
    assert not armed.watched.lost
    assert armed.send() or armed.watched.all_left_out


def test_an_arm_that_answers_in_part_is_not_back(armed: Bench) -> None:
    armed.arm.fail("read_state", GONE)
    armed.read()
    armed.arm.valid[2] = False
    assert armed.read(RETRY_NS) is None
    armed.arm.valid[2] = True
    armed.arm.held = held(valid_mask=np.arange(N) != 2)
    assert armed.read(RETRY_NS) is None
    armed.arm.held = None
    armed.arm.fail("read_command", GONE)
    assert armed.read(RETRY_NS) is None
    assert armed.read(RETRY_NS) is Progress.ARM_BACK


def test_an_arm_without_torque_is_back_without_reading_its_registers(bench: Bench) -> None:
    bench.arm.fail("read_state", GONE)
    assert bench.read() is Fault.ARM_DISCONNECTED
    assert bench.read(RETRY_NS) is Progress.ARM_BACK
    assert "read_command" not in bench.arm.calls


def test_another_arm_is_not_taken_for_the_first(armed: Bench) -> None:
    armed.arm.fail("read_state", GONE)
    armed.read()
    armed.openings = [OtherArm("homing offset of elbow_flex is 30, was 0", "")]
    assert armed.read(RETRY_NS) is Fault.OTHER_ARM
    assert armed.watched.fault_detail == "homing offset of elbow_flex is 30, was 0"
    assert armed.watched.lost


def test_an_arm_that_stays_away_is_given_up(armed: Bench) -> None:
    armed.arm.fail("read_state", GONE)
    armed.openings = [ArmDisconnected("gone", "")]
    armed.read()
    assert armed.read(RECOVERY_NS) is None
    assert armed.read(1) is Progress.ARM_GONE


def test_a_silent_joint_is_in_doubt_then_lost(armed: Bench) -> None:
    armed.arm.valid[2] = False
    events = []
    for reading in range(1, PATIENCE + 1):
        events.append(armed.read())
        assert armed.watched.in_doubt == (reading >= MISSES_BEFORE_STANDSTILL)
        assert armed.watched.left_out[2]
    assert events == [None] * (PATIENCE - 1) + [Fault.ARM_TIMEOUT]
    assert armed.watched.fault_joints == ELBOW_BIT


def test_no_answer_at_all_is_silence_of_every_joint(armed: Bench) -> None:
    armed.arm.fail("read_state", *[TIMEOUT] * PATIENCE)
    assert [armed.read() for _ in range(PATIENCE)][-1] is Fault.ARM_TIMEOUT
    assert armed.watched.fault_joints == ALL_BITS


def test_a_joint_that_is_back_continues_from_the_goal_that_it_holds(armed: Bench) -> None:
    armed.arm.fail("read_state", *[TIMEOUT] * MISSES_BEFORE_STANDSTILL)
    for _ in range(MISSES_BEFORE_STANDSTILL):
        armed.read()
    armed.arm.fail("read_command", TIMEOUT)
    armed.arm.held = held(goal_deg=np.arange(N, dtype=float))
    assert armed.read() is None
    assert armed.watched.in_doubt, "its registers could not be read"
    assert armed.read() is None
    assert not armed.watched.in_doubt
    np.testing.assert_array_equal(armed.watched.take_held_goals(), np.arange(N))
    assert np.isnan(armed.watched.take_held_goals()).all()
    assert armed.watched.all_left_out
    armed.watched.resume_goals()
    assert not armed.watched.left_out.any()


def test_a_joint_whose_registers_are_not_read_stays_in_doubt(armed: Bench) -> None:
    armed.arm.fail("read_state", *[TIMEOUT] * MISSES_BEFORE_STANDSTILL)
    for _ in range(MISSES_BEFORE_STANDSTILL):
        armed.read()
    armed.arm.held = held(valid_mask=np.arange(N) != 2, powered_throughout=np.arange(N) != 0)
    assert armed.read() is None
    assert armed.watched.in_doubt
    armed.arm.held = None
    assert armed.read() is Fault.POWER_LOST, "reported when every joint is known"
    assert armed.watched.fault_joints == 1


def test_an_arm_that_is_back_without_power_is_not_written_to(armed: Bench) -> None:
    armed.arm.fail("read_state", GONE)
    armed.read()
    armed.arm.held = held(powered_throughout=np.arange(N) != 2)
    assert armed.read(RETRY_NS) is Fault.POWER_LOST
    assert armed.watched.fault_joints == ELBOW_BIT
    assert "prepare" not in armed.arm.calls


def test_a_joint_without_torque_need_not_be_asked(bench: Bench) -> None:
    bench.arm.fail("read_state", *[TIMEOUT] * MISSES_BEFORE_STANDSTILL)
    for _ in range(MISSES_BEFORE_STANDSTILL):
        bench.read()
    assert bench.watched.in_doubt
    bench.read()
    assert not bench.watched.in_doubt
    assert "read_command" not in bench.arm.calls


@pytest.mark.parametrize(
    ("torque_on", "event", "torque"),
    [(np.arange(N) != 2, Fault.POWER_LOST, Torque.ON), (np.zeros(N, bool), Progress.LIMP, Torque.OFF)],
)
def test_lost_power_is_reported_once(armed: Bench, torque_on: np.ndarray, event: Event, torque: Torque) -> None:
    armed.arm.held = held(torque_on=torque_on, powered_throughout=torque_on)
    for _ in range(2):
        armed.arm.fail("read_state", *[TIMEOUT] * MISSES_BEFORE_STANDSTILL)
        for _ in range(MISSES_BEFORE_STANDSTILL):
            armed.read()
        assert armed.read() is event
        event = None  # type: ignore[assignment]
    assert armed.watched.torque is torque
    assert armed.watched.stopped_joints[2]


def test_silence_right_after_torque_on_is_a_matter_of_the_loop(bench: Bench) -> None:
    bench.arm.fail("read_state", *[TIMEOUT] * ATTEMPTS)
    bench.watched.energise()
    assert bench.watched.torque is Torque.ON
    assert bench.watched.in_doubt
    assert bench.watched.all_left_out


def test_release_is_confirmed(armed: Bench) -> None:
    armed.watched.release()
    assert armed.watched.torque is Torque.OFF


@pytest.mark.parametrize(
    ("error", "refusing", "torque"),
    [
        (None, 0, Torque.OFF),
        (UNCONFIRMED, ELBOW_BIT, Torque.UNKNOWN),
        (TIMEOUT, ALL_BITS, Torque.UNKNOWN),
        (GONE, ALL_BITS, Torque.UNKNOWN),
    ],
)
def test_one_attempt_of_an_emergency_stop(armed: Bench, error: None, refusing: int, torque: Torque) -> None:
    armed.arm.fail("release_torque", error)
    assert armed.watched.cut(armed.now_ns) == refusing
    assert armed.watched.torque is torque
    assert armed.watched.lost == (error is GONE)
    if error is GONE:  # lost already: the fault is reported once
        assert armed.watched.cut(armed.now_ns) == ALL_BITS
        assert armed.read() is Fault.ARM_DISCONNECTED
        assert armed.read() is None


def test_positions_that_cannot_be_true_do_not_count(armed: Bench) -> None:
    true_deg = armed.watched.state.joint_deg[2]
    plant = armed.arm._plant
    place = plant._position_ticks[2]  # type: ignore[attr-defined]
    for reading in range(1, 6):
        plant._position_ticks[2] = place + 1500 * (-1) ** reading  # type: ignore[attr-defined]
        event = armed.read(1)
        assert armed.watched.state.joint_deg[2] == true_deg
        assert armed.watched.must_stand == (reading >= MISSES_BEFORE_STANDSTILL)
        assert event is (Fault.ENCODER if reading == 5 else None)
    assert armed.watched.fault_joints == ELBOW_BIT
