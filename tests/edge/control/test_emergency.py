"""An emergency stop goes past everything that is being asked on the wire, from the handler of its signal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from sefa_edge.edge.control.clock import MonotonicClock, Pacer
from sefa_edge.edge.control.links import DirectLinks
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.motion import Motion
from sefa_edge.edge.control.watched_arm import WatchedArm
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.errors import ArmInterrupted
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import FeetechArm, open_feetech_arm
from sefa_edge.firmware_bridge.host.feetech.protocol import Packet
from sefa_edge.firmware_bridge.host.feetech.registers import TORQUE_ENABLE, TORQUE_OFF
from sefa_edge.firmware_bridge.host.messages import JointGoal
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.units import NS_PER_S, period_ns
from tests.rigs.simulated_arm import SimulatedArm, WriteLog

PROFILE = load_arm_profile("so101_sim").model_copy(update={"control_rate_hz": 20.0})


class Stand(SimulatedArm[KinematicPlant]):
    """Servos, and every packet that wrote something: `off`, `on`, `goal`, or its address."""

    def __init__(self, link: Path) -> None:
        super().__init__(PROFILE, link, KinematicPlant.of_arm(PROFILE))
        self.emergency = Emergency()
        self.written: list[str] = []
        WriteLog(self.bus).on_write = lambda packet: self.written.append(_word(packet))

    def open(self) -> FeetechArm:
        return open_feetech_arm(PROFILE, self.port.path, None, self.emergency)


def _word(packet: Packet) -> str:
    address, value = packet.parameters[0], packet.parameters[-1]
    if address == 40:
        return "on" if value else "off"
    return "goal" if address in (41, 42) else str(address)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path / "arm") as made:
        yield made


@pytest.fixture
def alarm(stand: Stand) -> Iterator[None]:
    """SIGALRM is what SIGQUIT is in the control process."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        stand.emergency.request()

    before = signal.signal(signal.SIGALRM, ask)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


def test_torque_off_is_sent_at_once_and_the_rest_is_refused_until_it_was_taken(stand: Stand) -> None:
    arm = stand.open()
    arm.enable_torque()
    stand.written.clear()
    stand.emergency.request()
    with pytest.raises(ArmInterrupted):
        arm.send(JointGoal(1, 0, 1, np.array(PROFILE.start_pose_deg)))
    with pytest.raises(ArmInterrupted):
        arm.read_state()
    assert stand.emergency.take_request()
    assert not stand.emergency.take_request()
    arm.release_torque()
    assert stand.written == ["off", "off"]
    arm.close()
    stand.emergency.request()  # nothing is open any more


@pytest.mark.usefixtures("alarm")
def test_arming_with_a_silent_servo_gives_up_at_once(stand: Stand) -> None:
    """Every retry of every layer: without the emergency stop these are fifteen attempts."""
    arm = WatchedArm(stand.open, patience=10, recovery_ns=NS_PER_S)
    stand.silence(2)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    with pytest.raises(ArmInterrupted):
        arm.energise()
    assert stand.written[-1] == "off"
    assert stand.written.count("off") == 1
    arm.close()


@pytest.mark.slow
@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("command", [Command.ARM, Command.RELEASE, Command.STOP])
def test_a_tick_that_waits_for_a_silent_servo_is_cut_short(stand: Stand, command: Command) -> None:
    """The last words on the wire are torque off, whatever the tick was about to write."""
    loop, links = _loop(stand)
    pacer = Pacer(MonotonicClock(), period_ns(PROFILE.control_rate_hz))
    if command is not Command.ARM:
        links.waiting_events.append(Command.ARM)
        loop.tick(pacer.wait())
    stand.silence(2)
    stand.written.clear()
    links.waiting_events.append(command)
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    ticks = 0
    while not stand.emergency.requested and ticks < 20:
        loop.tick(pacer.wait())
        ticks += 1
    assert stand.emergency.take_request()
    links.waiting_events.append(Command.EMERGENCY)
    loop.tick(pacer.wait())
    assert loop.state.mode is Mode.EMERGENCY
    assert loop.state.fault is Fault.EMERGENCY_STOP
    assert stand.written[-1] == "off"
    last_goal = max((index for index, word in enumerate(stand.written) if word in ("goal", "on")), default=-1)
    assert stand.written[last_goal + 1 :].count("off") >= 2, stand.written
    with stand.port.lock:
        heard = [servo for index, servo in enumerate(stand.bus.servos) if index != 2]
        assert [servo.register(TORQUE_ENABLE) for servo in heard] == [TORQUE_OFF] * 5
    loop.arm.close()


def _loop(stand: Stand) -> tuple[ControlLoop, DirectLinks]:
    links = DirectLinks()
    motion = Motion.connect(stand.open, PROFILE, period_ns(PROFILE.control_rate_hz))
    return ControlLoop(MonotonicClock(), links, motion), links
