"""Any bytes written or sent: a simulated servo keeps its rules, and neither it nor its bus raises."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import BROADCAST_ID, Instruction, decode, encode
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.disturbances import Disturbances, DisturbedLine
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.servo import SimulatedServo
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.units import ms_to_ns

PROFILE = load_arm_profile("so101_sim")
EEPROM = [register for register in reg.REGISTERS if register.address < reg.EEPROM_END]
FIXED = [register for register in EEPROM if register.read_only]

writes = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60)), max_size=12)
anything = st.one_of(
    st.binary(max_size=40),
    st.builds(encode, st.integers(0, BROADCAST_ID), st.sampled_from(Instruction), st.binary(max_size=40)),
    st.builds(encode, st.sampled_from([1, 2, BROADCAST_ID]), st.integers(0, 255), st.binary(max_size=250)),
)


class Bench:
    def __init__(self) -> None:
        self.now_ns = 0
        self.plant = KinematicPlant.of_arm(PROFILE, lambda: self.now_ns)

    def servo(self) -> SimulatedServo:
        return SimulatedServo(1, self.plant, 0)

    def bus(self) -> SimulatedBus:
        return SimulatedBus.of_arm(PROFILE, self.plant)


def content(servo: SimulatedServo, registers: list[reg.Register]) -> list[int]:
    return [servo.register(register) for register in registers]


@given(writes)
def test_any_write_is_accepted_and_fixed_registers_keep_their_values(made: list[tuple[int, bytes]]) -> None:
    bench = Bench()
    servo = bench.servo()
    servo.set_register(reg.LOCK, 0)
    before = content(servo, FIXED)
    for address, data in made:
        servo.write(address, data)
        bench.now_ns += ms_to_ns(30)
        servo.advance(bench.now_ns)
        assert len(servo.read(address, 255)) == 255
    assert content(servo, FIXED) == before
    assert 0 <= servo.servo_id <= 253
    assert servo.register(reg.TORQUE_ENABLE) in (reg.TORQUE_OFF, reg.TORQUE_ON)
    assert abs(servo.register(reg.PRESENT_LOAD)) <= 1000


@given(writes)
def test_locked_eeprom_never_changes(made: list[tuple[int, bytes]]) -> None:
    servo = Bench().servo()
    before = content(servo, [register for register in EEPROM if register is not reg.HOMING_OFFSET])
    for address, data in made:
        servo.write(address, data)
        servo.set_register(reg.LOCK, 1)  # undo any write to it; an unlock takes effect with the next write
    assert content(servo, [register for register in EEPROM if register is not reg.HOMING_OFFSET]) == before


@given(writes)
def test_a_power_cycle_keeps_only_the_eeprom(made: list[tuple[int, bytes]]) -> None:
    servo = Bench().servo()
    servo.set_register(reg.LOCK, 0)
    for address, data in made:
        servo.write(address, data)
    kept = content(servo, EEPROM)
    servo.power_cycle()
    assert content(servo, EEPROM) == kept
    assert servo.register(reg.LOCK) == 1
    assert servo.register(reg.TORQUE_ENABLE) == reg.TORQUE_OFF
    assert servo.register(reg.TORQUE_LIMIT) == servo.register(reg.MAX_TORQUE)


shares = st.floats(0, 1)
disturbances = st.builds(Disturbances, shares, shares, shares, shares, shares, st.floats(0, 50), st.integers(0, 99))


@settings(max_examples=60)
@given(st.lists(st.tuples(anything, st.integers(0, 40)), max_size=15), st.sampled_from([Disturbances()]) | disturbances)
def test_no_stream_makes_the_bus_raise(stream: list[tuple[bytes, int]], wrong: Disturbances) -> None:
    bench = Bench()
    bus = bench.bus()
    bus.line = DisturbedLine(wrong)
    for servo in bus.servos[:2]:
        servo.set_register(reg.LOCK, 0)
    for data, pause_ms in stream:
        bench.now_ns += ms_to_ns(pause_ms)
        replies = bus.receive(data, bench.now_ns)
        assert all(reply.data for reply in replies)
        if wrong == Disturbances() and len({servo.servo_id for servo in bus.servos}) == len(bus.servos):
            received = b"".join(reply.data for reply in replies)
            assert b"".join(encode(p.servo_id, p.code, p.parameters) for p in decode(received)) == received
