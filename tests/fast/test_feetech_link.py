"""The port: echoes, leftovers, and a cable that is pulled in the middle of a transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sefa_edge.firmware_bridge.host.errors import ArmDisconnected
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.protocol import decode, encode_ping, reply_bytes
from sefa_edge.firmware_bridge.host.feetech.servo_bus import PATIENT_MARGIN_NS, ServoBus
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.schema import load_arm_profile
from sefa_edge.profiles.units import s_to_ns

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
    link = Link.open(port.path, PROFILE.baud)
    servos = ServoBus(link)
    assert not any(servos.ping(9) for _ in range(3))
    assert any(servos.ping(1) for _ in range(ATTEMPTS))
    link.close()


def test_what_is_left_over_from_before_is_not_taken_for_the_reply(port: PtyPort) -> None:
    link = Link.open(port.path, PROFILE.baud)
    first_answers: list[int] = []
    for _ in range(ATTEMPTS):
        link.send(encode_ping(2))
        time.sleep(0.02)
        received = link.exchange(encode_ping(3), reply_bytes(0), PATIENT_MARGIN_NS)
        first_answers += [packet.servo_id for packet in decode(received)]
    link.close()
    assert first_answers.count(3) > first_answers.count(2)


def test_a_cable_pulled_while_waiting_is_noticed_at_once(bus: SimulatedBus, port: PtyPort) -> None:
    link = Link.open(port.path, PROFILE.baud)
    bus.servo(1).connected = False
    puller = threading.Timer(0.05, port.unplug)
    puller.start()
    with pytest.raises(ArmDisconnected, match="hung up"):
        link.exchange(encode_ping(1), reply_bytes(0), s_to_ns(20))
    puller.join()
    link.close()
