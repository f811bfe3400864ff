"""The register model of one servo, on a clock that the test advances."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.servo import SimulatedServo
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns

START_TICKS = 2000


class Bench:
    """One servo on a plant, and the clock of both."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.plant = KinematicPlant([START_TICKS], lambda: self.now_ns)
        self.servo = SimulatedServo(1, self.plant, 0)

    def write(self, register: reg.Register, value: int) -> None:
        self.servo.write(register.address, register.encode(value))

    def wait(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        self.servo.advance(self.now_ns)

    @property
    def position(self) -> int:
        return self.servo.register(reg.PRESENT_POSITION)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_powers_on_limp_where_it_stands(bench: Bench) -> None:
    assert bench.servo.register(reg.MODEL_NUMBER) == reg.MODEL_STS3215
    assert bench.servo.register(reg.TORQUE_ENABLE) == reg.TORQUE_OFF
    assert bench.servo.register(reg.GOAL_POSITION) == bench.position == START_TICKS
    assert bench.servo.status() == StatusBits(0)


def test_locked_eeprom_and_read_only_registers_ignore_writes(bench: Bench) -> None:
    bench.write(reg.SERVO_ID, 9)
    bench.servo.write(reg.MODEL_NUMBER.address, b"\1\1")
    bench.servo.write(reg.PRESENT_POSITION.address, b"\1\1")
    assert bench.servo.servo_id == 1
    assert bench.servo.register(reg.MODEL_NUMBER) == reg.MODEL_STS3215
    assert bench.position == START_TICKS


def test_unlocked_eeprom_takes_writes_and_keeps_them_without_power(bench: Bench) -> None:
    bench.write(reg.LOCK, 0)
    bench.write(reg.SERVO_ID, 9)
    bench.servo.power_cycle()
    assert bench.servo.servo_id == 9
    assert bench.servo.register(reg.LOCK) == 1
    bench.servo.reset()
    assert bench.servo.servo_id == 9


def test_an_invalid_id_is_ignored(bench: Bench) -> None:
    bench.write(reg.LOCK, 0)
    bench.write(reg.SERVO_ID, 254)
    assert bench.servo.servo_id == 1


def test_writing_a_goal_energises_the_motor(bench: Bench) -> None:
    bench.write(reg.GOAL_POSITION, 2500)
    bench.wait(NS_PER_S)
    assert bench.position == 2500
    assert bench.servo.register(reg.TORQUE_ENABLE) == reg.TORQUE_ON


def test_torque_on_with_an_old_goal_jumps_there(bench: Bench) -> None:
    bench.write(reg.GOAL_POSITION, 2500)
    bench.wait(NS_PER_S)
    bench.write(reg.TORQUE_ENABLE, 0)
    bench.servo.set_register(reg.GOAL_POSITION, 1000)
    bench.wait(NS_PER_S)
    assert bench.position == 2500
    bench.write(reg.TORQUE_ENABLE, 1)
    bench.wait(NS_PER_S)
    assert bench.position == 1000


def test_goals_stop_at_the_position_limits(bench: Bench) -> None:
    bench.servo.set_register(reg.MAX_POSITION, 2100)
    bench.write(reg.GOAL_POSITION, 3000)
    bench.wait(NS_PER_S)
    assert bench.position == 2100


@pytest.mark.parametrize("offset", [-1500, -1, 700, 1990])
def test_positions_and_goals_are_both_shifted_by_the_offset(bench: Bench, offset: int) -> None:
    bench.servo.set_register(reg.HOMING_OFFSET, offset)
    assert bench.position == (START_TICKS - offset) % 4096
    goal = bench.position + 100
    bench.write(reg.GOAL_POSITION, goal)
    bench.wait(NS_PER_S)
    assert bench.position == goal
    assert bench.plant.position_ticks(0) == pytest.approx(START_TICKS + 100)


def test_128_makes_the_present_position_the_middle(bench: Bench) -> None:
    bench.write(reg.TORQUE_ENABLE, reg.TORQUE_MAKE_MIDDLE)
    assert bench.position == 2048
    assert bench.servo.register(reg.TORQUE_ENABLE) == reg.TORQUE_OFF


def test_speed_and_acceleration_registers_shape_the_motion(bench: Bench) -> None:
    bench.write(reg.GOAL_SPEED, 500)
    bench.write(reg.ACCELERATION, 10)
    bench.write(reg.GOAL_POSITION, START_TICKS + 1000)
    positions = []
    for _ in range(400):
        bench.wait(ms_to_ns(10))
        positions.append(bench.position)
    steps = [after - before for before, after in pairwise(positions)]
    assert max(steps) <= 6
    assert min(steps) >= 0
    assert positions[100] < START_TICKS + 600
    assert positions[-1] == START_TICKS + 1000
    assert bench.servo.register(reg.MOVING) == 0


def test_reg_write_waits_for_action(bench: Bench) -> None:
    bench.servo.hold_write(reg.GOAL_POSITION.address, reg.GOAL_POSITION.encode(2300))
    bench.wait(NS_PER_S)
    assert bench.position == START_TICKS
    assert bench.servo.register(reg.ASYNC_FLAG) == 1
    bench.servo.act()
    bench.wait(NS_PER_S)
    assert bench.position == 2300
    assert bench.servo.register(reg.ASYNC_FLAG) == 0


def test_negative_values_are_sign_magnitude(bench: Bench) -> None:
    bench.write(reg.GOAL_POSITION, START_TICKS - 300)
    bench.wait(ms_to_ns(1))
    state = reg.STATE_BLOCK.layout.unpack(bench.servo.read(reg.STATE_BLOCK.address, reg.STATE_BLOCK.count))
    assert state[1] & 0x8000
    assert state[2] & 0x0400
    assert bench.servo.register(reg.PRESENT_SPEED) < 0
    assert bench.servo.register(reg.PRESENT_LOAD) < 0
    assert bench.servo.register(reg.PRESENT_CURRENT) < 0


def test_supply_and_temperature_set_their_status_bits(bench: Bench) -> None:
    bench.servo.supply_mv = 3500
    bench.servo.temperature_c = 75
    assert bench.servo.status() == StatusBits.VOLTAGE | StatusBits.TEMPERATURE
    assert bench.servo.register(reg.STATUS) == bench.servo.status()
    assert bench.servo.register(reg.PRESENT_VOLTAGE) == 35


def test_reads_beyond_the_register_map_return_zeros(bench: Bench) -> None:
    assert bench.servo.read(reg.MEMORY_BYTES - 1, 3) == bytes((1, 0, 0))
    bench.servo.write(reg.MEMORY_BYTES, b"\1\2\3")
