"""The port: echoes, leftover bytes, timeouts, and a cable that is pulled in the middle of a transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from random import Random

import pytest

from sefa_edge.edge.control.clock import ManualClock
from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmTimeout
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import REPLY_MARGIN, FeetechArm, connect_feetech_arm
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.protocol import (
    decode,
    encode,
    encode_ping,
    encode_sync_write,
    reply_bytes,
    wire_time_ns,
)
from sefa_edge.firmware_bridge.host.feetech.servo_bus import PATIENT_MARGIN_NS, ServoBus
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.bus_port import BusPort, BusWire
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns, period_ns, s_to_ns, us_to_ns
from tests.property.feetech_damage import PiecewiseWire

PROFILE = load_arm_profile("so101_sim")
ATTEMPTS = 20


@pytest.fixture
def bus() -> SimulatedBus:
    return SimulatedBus.of_arm(PROFILE, KinematicPlant.of_arm(PROFILE))


@pytest.fixture
def port(bus: SimulatedBus) -> Iterator[PtyPort]:
    with PtyPort(bus) as served:
        yield served


def test_an_echo_is_not_taken_for_a_servo(bus: SimulatedBus, port: PtyPort) -> None:
    bus.echoes = True
    link = Link.open(port.path, PROFILE.feetech.baud)
    servos = ServoBus(link)
    assert not any(servos.ping(9) for _ in range(3))
    assert any(servos.ping(1) for _ in range(ATTEMPTS))
    link.close()


@pytest.mark.slow
def test_leftover_bytes_are_not_taken_for_the_reply(port: PtyPort) -> None:
    link = Link.open(port.path, PROFILE.feetech.baud)
    first_answers: list[int] = []
    for _ in range(ATTEMPTS):
        link.send(encode_ping(2))
        time.sleep(0.02)
        received = link.exchange(encode_ping(3), reply_bytes(0), PATIENT_MARGIN_NS)
        first_answers += [packet.servo_id for packet in decode(received)]
    link.close()
    assert first_answers.count(3) > first_answers.count(2)


def test_a_cable_pulled_while_waiting_is_noticed_at_once(bus: SimulatedBus, port: PtyPort) -> None:
    link = Link.open(port.path, PROFILE.feetech.baud)
    bus.servo(1).connected = False
    puller = threading.Timer(0.05, port.unplug)
    puller.start()
    with pytest.raises(ArmDisconnected, match="hung up"):
        link.exchange(encode_ping(1), reply_bytes(0), s_to_ns(20))
    puller.join()
    link.close()


class LockStep:
    """Links and arms on a bus whose clock advances only with the bytes on the wire."""

    def __init__(self) -> None:
        self.clock = ManualClock(NS_PER_S)
        self.bus = SimulatedBus.of_arm(PROFILE, KinematicPlant.of_arm(PROFILE, self.clock.now_ns))

    def link(self) -> Link:
        return BusPort(self.bus, self.clock).open()

    def arm(self, **changes: object) -> FeetechArm:
        return connect_feetech_arm(PROFILE.model_copy(update=changes), self.link(), None)


def test_the_wait_for_a_silent_servo_is_exact_to_the_nanosecond() -> None:
    bench = LockStep()
    link = bench.link()
    write = encode_sync_write(reg.GOAL_SPEED.address, [(i, b"\1\0") for i in range(1, 7)])
    link.send(write)
    start_ns = bench.clock.now_ns()
    assert link.exchange(encode_ping(9), reply_bytes(0), ms_to_ns(3)) == b""
    on_the_wire_ns = wire_time_ns(len(write) + len(encode_ping(9)) + reply_bytes(0), PROFILE.feetech.baud)
    assert bench.clock.now_ns() - start_ns == on_the_wire_ns + ms_to_ns(3)


def test_a_silent_servo_costs_half_a_period_and_a_silent_arm_no_more() -> None:
    bench = LockStep()
    arm = bench.arm()
    half_ns = round(REPLY_MARGIN * period_ns(PROFILE.control_rate_hz))
    for silent in ([4], [6], [1, 2, 3, 4, 5, 6]):
        for servo in bench.bus.servos:
            servo.connected = servo.servo_id not in silent
        start_ns = bench.clock.now_ns()
        if len(silent) == len(bench.bus.servos):
            with pytest.raises(ArmTimeout):
                arm.read_state()
        else:
            assert arm.read_state().valid_mask.tolist() == [i not in silent for i in range(1, 7)]
        assert bench.clock.now_ns() - start_ns == us_to_ns(1400) + half_ns


def test_a_state_is_stamped_in_the_middle_of_its_transaction() -> None:
    bench = LockStep()
    for servo in bench.bus.servos:
        servo.set_register(reg.RETURN_DELAY, 50)
    arm = bench.arm()
    start_ns = bench.clock.now_ns()
    stamp_ns = arm.read_state().stamp_ns
    assert stamp_ns - start_ns == us_to_ns(1400 + 6 * 100) // 2
    assert bench.clock.now_ns() - start_ns == us_to_ns(1400 + 6 * 100)


@pytest.mark.parametrize(("register_7", "complete"), [("return_delay", True), ("reserved", False)])
def test_register_7_extends_the_wait_only_if_the_profile_says_that_it_is_a_delay(
    register_7: str, complete: bool
) -> None:
    """500 us for each of six servos is more than half a period at 200 Hz."""
    bench = LockStep()
    for servo in bench.bus.servos:
        servo.set_register(reg.RETURN_DELAY, 250)
    arm = bench.arm(bus=PROFILE.feetech.model_copy(update={"register_7": register_7}), control_rate_hz=200.0)
    if complete:
        assert arm.read_state().valid_mask.all()
    else:
        with pytest.raises(ArmTimeout):
            arm.read_state()


class NoisyWire(BusWire):
    """Puts noise before the first bytes that arrive."""

    noise = b"\xa5\x00"

    def read(self, deadline_ns: int) -> bytes:
        data = super().read(deadline_ns)
        noise, self.noise = (self.noise, b"") if data else (b"", self.noise)
        return noise + data


@pytest.mark.parametrize("echoes", [True, False])
def test_noise_at_the_first_probe_does_not_hide_an_echo(echoes: bool) -> None:
    bench = LockStep()
    bench.bus.echoes = echoes
    bus = ServoBus(Link(NoisyWire(bench.bus, bench.clock)))
    assert bus.sync_read((1, 2, 3), reg.PRESENT_BLOCK).keys() == {1, 2, 3}
    assert not bus.ping(9)


def test_the_echo_of_an_earlier_write_does_not_shorten_the_reply() -> None:
    bench = LockStep()
    bench.bus.echoes = True
    wire = PiecewiseWire(bench.bus, bench.clock, Random(1))
    wire.largest_piece = 8
    bus = ServoBus(Link(wire))
    for _ in range(ATTEMPTS):
        bus.sync_write(reg.GOAL_SPEED.address, [(i, b"\1\0") for i in range(1, 7)])
        assert bus.sync_read(range(1, 7), reg.PRESENT_BLOCK).keys() == set(range(1, 7))


def test_replies_from_servos_that_were_not_asked_are_ignored() -> None:
    bench = LockStep()
    bus = ServoBus(bench.link())
    unasked = encode(77, 0, b"\1\2")
    bench.bus.disturb = lambda data: unasked + data
    assert bus.sync_read((1, 2), reg.PRESENT_BLOCK).keys() == {1, 2}
    bench.bus.servo(2).connected = False
    assert bus.sync_read((1, 2), reg.PRESENT_BLOCK).keys() == {1}
