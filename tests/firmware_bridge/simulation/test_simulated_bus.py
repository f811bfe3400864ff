"""A wire with several servos: which of them answer, in which order, and when."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sefa_edge.firmware_bridge.host.feetech import protocol
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import BROADCAST_ID, Packet, decode, encode, wire_time_ns
from sefa_edge.firmware_bridge.simulation.bus import SILENCE_NS, SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile

PROFILE = load_arm_profile("so101_sim")
IDS = [joint.servo_id for joint in PROFILE.joints]
NOW_NS = 1_000_000_000


def make_bus() -> SimulatedBus:
    return SimulatedBus.of_arm(PROFILE, KinematicPlant.of_arm(PROFILE, lambda: NOW_NS))


@pytest.fixture
def bus() -> SimulatedBus:
    return make_bus()


def ask(bus: SimulatedBus, request: bytes) -> list[Packet]:
    return decode(b"".join(reply.data for reply in bus.receive(request, NOW_NS)))


def test_ping_is_answered_by_the_addressed_servo(bus: SimulatedBus) -> None:
    assert ask(bus, protocol.encode_ping(3)) == [Packet(3, 0, b"")]
    assert ask(bus, protocol.encode_ping(99)) == []
    assert [packet.servo_id for packet in ask(bus, protocol.encode_ping(BROADCAST_ID))] == IDS


def test_sync_read_is_answered_in_the_order_asked(bus: SimulatedBus) -> None:
    answers = ask(bus, protocol.encode_sync_read([5, 1, 42, 3], reg.MODEL_NUMBER.address, 2))
    assert [(packet.servo_id, packet.parameters) for packet in answers] == [
        (servo_id, reg.MODEL_NUMBER.encode(reg.MODEL_STS3215)) for servo_id in (5, 1, 3)
    ]


def test_a_reply_takes_its_time_on_the_wire(bus: SimulatedBus) -> None:
    request = protocol.encode_sync_read(IDS, reg.STATE_BLOCK.address, reg.STATE_BLOCK.count)
    (reply,) = bus.receive(request, NOW_NS)
    assert len(reply.data) == 126
    assert reply.due_ns == NOW_NS + wire_time_ns(14 + 126, PROFILE.feetech.baud)
    bus.servo(2).set_register(reg.RETURN_DELAY, 250)
    (slower,) = bus.receive(request, reply.due_ns)
    assert slower.due_ns - reply.due_ns == wire_time_ns(14 + 126, PROFILE.feetech.baud) + 500_000


def test_consecutive_requests_wait_for_the_line(bus: SimulatedBus) -> None:
    request = protocol.encode_ping(1)
    first, second = bus.receive(request, NOW_NS) + bus.receive(request, NOW_NS)
    assert second.due_ns == first.due_ns + wire_time_ns(12, PROFILE.feetech.baud)


def test_sync_write_reaches_the_addressed_servos_and_is_not_answered(bus: SimulatedBus) -> None:
    request = protocol.encode_sync_write(reg.GOAL_POSITION.address, [(2, b"\0\4"), (4, b"\0\5")])
    assert ask(bus, request) == []
    goals = [servo.register(reg.GOAL_POSITION) for servo in bus.servos]
    assert (goals[1], goals[3]) == (1024, 1280)
    assert goals[0] == goals[2] == 2048


def test_writes_are_answered_at_level_1_only(bus: SimulatedBus) -> None:
    write = protocol.encode_write(1, reg.TORQUE_ENABLE.address, b"\1")
    assert ask(bus, write) == [Packet(1, 0, b"")]
    bus.servo(1).set_register(reg.RESPONSE_LEVEL, 0)
    assert ask(bus, write) == []
    assert ask(bus, protocol.encode_read(1, reg.TORQUE_ENABLE.address, 1)) == [Packet(1, 0, b"\1")]


def test_broadcast_writes_reach_every_servo_and_are_not_answered(bus: SimulatedBus) -> None:
    assert ask(bus, protocol.encode_write(BROADCAST_ID, reg.ACCELERATION.address, b"\7")) == []
    assert {servo.register(reg.ACCELERATION) for servo in bus.servos} == {7}


def test_action_executes_the_held_writes_of_every_servo(bus: SimulatedBus) -> None:
    for servo_id in (1, 2):
        assert ask(bus, protocol.encode_reg_write(servo_id, reg.ACCELERATION.address, b"\5"))
    assert bus.servo(1).register(reg.ACCELERATION) == 0
    assert ask(bus, protocol.encode_action()) == []
    assert [bus.servo(i).register(reg.ACCELERATION) for i in (1, 2, 3)] == [5, 5, 0]


def test_a_servo_without_its_plug_or_at_another_speed_is_silent(bus: SimulatedBus) -> None:
    bus.servo(2).connected = False
    bus.servo(4).set_register(reg.BAUD_RATE, 4)
    assert [packet.servo_id for packet in ask(bus, protocol.encode_ping(BROADCAST_ID))] == [1, 3, 5, 6]
    bus.baud = 115_200
    assert [packet.servo_id for packet in ask(bus, protocol.encode_ping(BROADCAST_ID))] == [4]


def test_every_answer_carries_the_fault_bits(bus: SimulatedBus) -> None:
    bus.servo(1).fault_bits = protocol.StatusBits.OVERLOAD
    assert ask(bus, protocol.encode_ping(1)) == [Packet(1, 0x20, b"")]


def test_an_echoing_adapter_returns_the_request_first(bus: SimulatedBus) -> None:
    bus.echoes = True
    request = protocol.encode_ping(1)
    echo, reply = bus.receive(request, NOW_NS)
    assert echo.data == request
    assert echo.due_ns < reply.due_ns


class RecordingTap:
    """Implements `WireTap`."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, bytes, int]] = []

    def to_servos(self, data: bytes, stamp_ns: int) -> None:
        self.recorded.append(("host", data, stamp_ns))

    def from_servos(self, data: bytes, stamp_ns: int) -> None:
        self.recorded.append(("servo", data, stamp_ns))


def test_a_tap_records_both_directions_at_the_servos(bus: SimulatedBus) -> None:
    """It records neither echoes nor what the line does to the bytes."""
    tap = bus.tap = RecordingTap()
    bus.echoes = True
    bus.disturb = bus.disturb_request = lambda data: data[:-1]
    ping = protocol.encode_ping(3)
    bus.receive(ping, NOW_NS)
    assert tap.recorded == [("host", ping, NOW_NS)]  # the servo could not decode it
    bus.disturb_request = lambda data: data
    bus.receive(ping, NOW_NS + SILENCE_NS + 1)
    assert tap.recorded[1:] == [
        ("host", ping, NOW_NS + SILENCE_NS + 1),
        ("servo", encode(3, 0), NOW_NS + SILENCE_NS + 1 + wire_time_ns(len(ping), PROFILE.feetech.baud)),
    ]


def test_a_partial_packet_is_dropped_after_silence(bus: SimulatedBus) -> None:
    ping = protocol.encode_ping(1)
    assert bus.receive(ping[:4], NOW_NS) == []
    assert len(bus.receive(ping[4:], NOW_NS + 1)) == 1
    assert bus.receive(ping[:4], NOW_NS) == []
    assert bus.receive(ping[4:], NOW_NS + 2 * SILENCE_NS) == []


def test_a_partial_packet_does_not_survive_a_pulled_cable(bus: SimulatedBus) -> None:
    ping = protocol.encode_ping(1)
    bus.receive(ping[:3], NOW_NS)
    bus.hang_up()
    assert len(bus.receive(ping, NOW_NS)) == 1


instructions = st.sampled_from([1, 2, 3, 4, 5, 6, 0x82, 0x83, 0x42])
requests = st.builds(encode, st.integers(0, BROADCAST_ID), instructions, st.binary(max_size=24))


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(requests, st.binary(max_size=30)), max_size=12))
def test_no_request_makes_the_bus_raise(stream: list[bytes]) -> None:
    bus = make_bus()
    for request in stream:
        bus.servo(bus.servos[0].servo_id).set_register(reg.LOCK, 0)
        for reply in bus.receive(request, NOW_NS):
            assert len(decode(reply.data)) >= 1
