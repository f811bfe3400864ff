"""Faults that need a process or a terminal: signals, hang-ups, load, a second program on the arm."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import Final, Torque
from sefa_edge.edge.ipc.transport import channel_pair
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.calibration import nominal_calibration
from sefa_edge.profiles.units import period_ns, s_to_ns
from tests.faults.control_rig import Rig
from tests.faults.judge import first_rest
from tests.faults.row import CONTINUES, DROPPED, LEFT, Expected, Row, Start
from tests.faults.wire_rules import WireSummary


def unplug(rig: Rig) -> None:
    rig.port.unplug()


def unplug_for_a_while(rig: Rig) -> None:
    rig.port.unplug()
    rig.until(lambda: rig.reports[-1].fault is Fault.ARM_DISCONNECTED)
    rig.play(rig.rng.uniform(0, 2))


def unplug_and_replug(rig: Rig) -> None:
    unplug_for_a_while(rig)
    rig.port.replug()


def replug_another_device(rig: Rig) -> None:
    device = os.path.realpath(rig.port.path)
    unplug_for_a_while(rig)
    rig.unit.replug_elsewhere(device)
    assert os.path.realpath(rig.port.path) != device


def silence(rig: Rig) -> None:
    rig.bus.servos[rig.joint].connected = False


def power_cut(rig: Rig) -> None:
    with rig.port.lock:
        for servo in rig.bus.servos:
            servo.power_cycle()
            servo.connected = False
    rig.until(lambda: rig.reports[-1].fault is Fault.ARM_TIMEOUT)
    with rig.port.lock:
        for servo in rig.bus.servos:
            servo.connected = True


def echo(rig: Rig) -> None:
    rig.bus.echoes = True


def freeze(rig: Rig) -> None:
    rig.freeze(rig.rng.uniform(1.8, 2.5))


def freeze_briefly(rig: Rig) -> None:
    """For at most 0.1 s, less than the goal timeout."""
    os.kill(rig.pid, signal.SIGSTOP)
    rig.supervisor.wait(rig.rng.uniform(0, 0.1))
    os.kill(rig.pid, signal.SIGCONT)


def terminate(rig: Rig) -> None:
    os.kill(rig.pid, signal.SIGTERM)


def request_emergency_stop(rig: Rig) -> None:
    rig.unit.ask_for_release()
    os.kill(rig.pid, signal.SIGQUIT)


def interrupt(rig: Rig) -> None:
    """Ctrl-C reaches the whole process group; only the supervisor handles it."""
    os.kill(rig.pid, signal.SIGINT)


def close_policy(rig: Rig) -> None:
    rig.feeding = False
    rig.policy.close()


@contextlib.contextmanager
def busy_processor(rig: Rig) -> Iterator[None]:
    """Endless loops on the core of the control process."""
    cores = os.sched_getaffinity(rig.pid)
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(rig.rng.integers(1, 4))]
    try:
        for hog in hogs:
            os.sched_setaffinity(hog.pid, cores)
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def starve(rig: Rig) -> None:
    with busy_processor(rig):
        rig.play(1.5)


def second_program(rig: Rig) -> None:
    """Another control process for the same arm is refused and does not disturb the first one."""
    supervisor, supervisor_end = channel_pair()
    policy, policy_end = channel_pair()
    with contextlib.closing(supervisor), contextlib.closing(policy):
        other = rig.spawn((supervisor_end.fileno(), policy_end.fileno()))
        rig.others.append(other)
        supervisor_end.close()
        policy_end.close()
        rig.until(lambda: other.exit_code is not None)
        final = Final.unpack(supervisor.receive() or b"")
    assert final.exit_code == other.exit_code == 4
    assert final.message == f"{rig.port.path} is in use by another program"


def foreign_calibration(rig: Rig) -> None:
    """The calibration file of another arm: one number differs."""
    entries = nominal_calibration(rig.profile).joints
    content = {
        joint.name: {
            "id": joint.servo_id,
            "drive_mode": 0,
            "homing_offset": entry.homing_offset,
            "range_min": entry.range_min_ticks,
            "range_max": entry.range_max_ticks,
        }
        for joint, entry in zip(rig.profile.joints, entries, strict=True)
    }
    content[rig.profile.joint_names[rig.joint]]["homing_offset"] += int(rig.rng.integers(10, 500))
    rig.calibration = Path(rig.unit.arm_file).with_name("calibration.json")
    rig.calibration.write_text(json.dumps(content))
    rig.start()


def missing_servo(rig: Rig) -> None:
    silence(rig)
    rig.start()


def no_port(rig: Rig) -> None:
    rig.port.unplug()
    rig.start()


def no_power(rig: Rig) -> None:
    for servo in rig.bus.servos:
        servo.connected = False
    rig.start()


def not_started(says: str, exit_code: int) -> Expected:
    return Expected(says, "", mode=Mode.IDLE, torque=Torque.UNTOUCHED, exit_code=exit_code)


GONE = "the arm's port disappeared"
SILENT = "servos do not answer"

ROWS: list[Row[Rig]] = [
    Row("cable pulled", unplug, Expected(GONE, LEFT, Fault.ARM_DISCONNECTED, Mode.FAULT, Torque.ON, rest_s=3.0)),
    Row("cable pulled and put back", unplug_and_replug, Expected(GONE, fault=Fault.ARM_DISCONNECTED, rest_s=3.0)),
    Row(
        "cable comes back as another device",
        replug_another_device,
        Expected(GONE, fault=Fault.ARM_DISCONNECTED, rest_s=3.0),
    ),
    Row(
        "one servo unplugged",
        silence,
        Expected(f"{SILENT} ({{joint}})", LEFT, Fault.ARM_TIMEOUT, Mode.FAULT, Torque.ON, rest_s=3.0),
    ),
    Row(
        "the arm's supply fails and returns",
        power_cut,
        Expected("the arm lost its power and is limp", DROPPED, Fault.POWER_LOST, rest_s=3.0),
    ),
    Row("the adapter echoes", echo, CONTINUES),
    Row(
        "SIGSTOP and SIGCONT of control",
        freeze,
        Expected("the control loop lost its rate (… ticks in a row)", fault=Fault.LOOP_OVERRUN, rest_s=3.0),
    ),
    Row("SIGSTOP and SIGCONT of control within a tenth of a second", freeze_briefly, CONTINUES),
    Row("SIGTERM of the control process alone", terminate, Expected("", exit_code=0, rest_s=3.0)),
    Row(
        "SIGQUIT of the control process alone",
        request_emergency_stop,
        Expected("emergency stop", DROPPED, Fault.EMERGENCY_STOP, rest_s=0.5),
    ),
    Row("SIGINT of control", interrupt, CONTINUES),
    Row(
        "policy's socket closed",
        close_policy,
        Expected("the policy process is gone", fault=Fault.POLICY_LOST, rest_s=3.0),
    ),
    Row("endless loops on control's core", starve, CONTINUES),
    Row("a second program opens the arm", second_program, CONTINUES),
    Row("calibration of another arm", foreign_calibration, not_started("the calibration says", 2), Start.BEFORE),
    Row("a servo is missing at the start", missing_servo, not_started("servo", 3), Start.BEFORE),
    Row("no port at the start", no_port, not_started("there is no serial port {port}", 4), Start.BEFORE),
    Row("no power at the start", no_power, not_started("no servo answers on {port}", 3), Start.BEFORE),
]


def perform(row: Row[Rig], seed: int, folder: Path, note: Callable[[WireSummary], None] = lambda figures: None) -> None:
    """Inject the fault, check the outcome, and pass the wire figures to `note`. Raises AssertionError."""
    rig = Rig(folder, seed)
    try:
        if row.start is Start.MOVING:
            rig.start()
            rig.run()
        rig.mark()
        row.inject(rig)
        if row.expected == CONTINUES:
            rig.play(0.5)
            assert rig.mode is Mode.RUNNING, f"stopped: {rig.reports[-1]}"
            rig.command(Command.STOP)
        _judge(rig, row.expected)
    finally:
        note(rig.summary())
        rig.close()


def _judge(rig: Rig, expected: Expected) -> None:
    final = rig.ended()
    assert (final.fault, final.mode, final.torque, final.exit_code) == (
        expected.fault, expected.mode, expected.torque, expected.exit_code,
    ), final  # fmt: skip
    names = {"joint": rig.profile.joint_names[rig.joint], "port": rig.port.path}
    assert expected.fits(final.message, **names), final.message
    assert final.hint or final.exit_code == 0
    assert set(rig.unit.torque_is_on()) == {expected.torque is Torque.ON}
    if expected.torque is Torque.UNTOUCHED:
        rig.unit.assert_untouched()
    rig.unit.assert_clean()
    if expected.rest_s is not None:
        assert_rests(rig, expected.rest_s)


def assert_rests(rig: Rig, within_s: float) -> None:
    """Counted in goals sent, so a busy machine does not fail the row. Raises AssertionError."""
    period = period_ns(rig.profile.control_rate_hz)
    rest = first_rest(rig.unit.judge.wire.goal_packets, rig.marked_ns, period)
    assert rest.packets * period <= s_to_ns(within_s), "the arm came to rest too late"
