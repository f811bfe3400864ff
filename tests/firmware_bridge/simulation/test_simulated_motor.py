"""Load on a servo's motor, and how the servo protects it: limits, heat, overload, over-current, supply."""

from __future__ import annotations

import pytest

from sefa_edge.firmware_bridge.host.feetech import protocol
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.motor import (
    FULL_LOAD_RISE_K,
    REST_TEMPERATURE_C,
    STALL_CURRENT_MA,
    TIME_CONSTANT_S,
    Motor,
    ProtectionLimits,
)
from sefa_edge.firmware_bridge.simulation.servo import BROWN_OUT_MV, SimulatedServo
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns, s_to_ns

START_TICKS = 2000
FAR_TICKS = 3500
UNLIMITED = ProtectionLimits(overload=2.0, overload_ns=0, current_ma=1e9, current_ns=0)


class Bench:
    """Two servos on a bus, on a manual clock; the first is under test."""

    def __init__(self) -> None:
        self.now_ns = NS_PER_S
        self.plant = KinematicPlant([START_TICKS, START_TICKS], lambda: self.now_ns)
        self.servo, self.other = (SimulatedServo(1 + index, self.plant, index) for index in range(2))
        self.bus = SimulatedBus([self.servo, self.other], 1_000_000)

    def write(self, register: reg.Register, value: int) -> None:
        self.servo.write(register.address, register.encode(value))

    def wait(self, seconds: float) -> None:
        """Advance the clock in steps of 10 ms, like a program that polls the servos."""
        until_ns = self.now_ns + s_to_ns(seconds)
        while self.now_ns < until_ns:
            self.now_ns += ms_to_ns(10)
            self.bus.advance(self.now_ns)

    def push(self) -> None:
        """Block the joint and set a goal far beyond it."""
        self.plant.block(0)
        self.write(reg.GOAL_POSITION, FAR_TICKS)

    @property
    def load_pct(self) -> float:
        return self.servo.register(reg.PRESENT_LOAD) * reg.LOAD_PCT

    @property
    def position(self) -> int:
        return self.servo.register(reg.PRESENT_POSITION)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- torque limits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [300, 600])
def test_the_load_stops_at_the_torque_limit(bench: Bench, limit: int) -> None:
    bench.write(reg.TORQUE_LIMIT, limit)
    bench.push()
    bench.wait(0.1)
    assert bench.servo.register(reg.PRESENT_LOAD) == limit


def test_a_weaker_motor_is_slower(bench: Bench) -> None:
    bench.write(reg.TORQUE_LIMIT, 100)
    bench.write(reg.GOAL_POSITION, FAR_TICKS)
    bench.wait(0.2)
    slow = bench.position
    bench.write(reg.TORQUE_LIMIT, 1000)
    bench.wait(0.2)
    assert slow - START_TICKS < 200 < bench.position - slow
    bench.wait(1.0)
    assert bench.position == FAR_TICKS


def test_without_torque_limit_nothing_moves(bench: Bench) -> None:
    bench.write(reg.TORQUE_LIMIT, 0)
    bench.write(reg.GOAL_POSITION, FAR_TICKS)
    bench.wait(1.0)
    assert bench.position == START_TICKS


def test_max_torque_is_the_torque_limit_after_power_on(bench: Bench) -> None:
    bench.servo.set_register(reg.MAX_TORQUE, 500)
    bench.servo.power_cycle()
    assert bench.servo.register(reg.TORQUE_LIMIT) == 500
    bench.write(reg.TORQUE_LIMIT, 1000)
    bench.push()
    bench.wait(0.1)
    assert bench.load_pct == 50


def test_current_follows_the_load_and_is_zero_without_torque(bench: Bench) -> None:
    bench.write(reg.TORQUE_LIMIT, 500)
    bench.push()
    bench.wait(0.1)
    assert bench.servo.register(reg.PRESENT_CURRENT) == round(0.5 * STALL_CURRENT_MA / reg.CURRENT_MA)
    bench.write(reg.TORQUE_ENABLE, 0)
    assert (bench.load_pct, bench.servo.register(reg.PRESENT_CURRENT)) == (0, 0)


@pytest.mark.sim
def test_the_motors_of_the_simulated_world_respect_a_torque_limit() -> None:
    from sefa_edge.firmware_bridge.simulation.world import World

    world, elbow = World("lift"), 2
    loads = []
    for limit in (1.0, 0.1):
        world.reset(0)
        world.set_torque_limit(elbow, limit)
        world.set_goal_ticks(elbow, 1400.0)
        world.step(20)
        loads.append(abs(world.load_fraction(elbow)))
    assert loads[0] > 0.3
    assert loads[1] == pytest.approx(0.1)


# -- overload and over-current --------------------------------------------------------------------------------


def test_an_overload_trips_after_its_time_and_weakens_the_motor(bench: Bench) -> None:
    bench.push()
    bench.wait(1.9)
    assert (bench.servo.status(), bench.load_pct) == (StatusBits(0), 100)
    bench.wait(0.2)
    assert bench.servo.register(reg.STATUS) == StatusBits.OVERLOAD
    assert bench.load_pct == 20
    assert bench.servo.register(reg.TORQUE_ENABLE) == reg.TORQUE_ON
    bench.plant.unblock(0)
    bench.wait(10)
    assert bench.position == FAR_TICKS  # slowly
    assert bench.servo.status() == StatusBits.OVERLOAD  # and the bit stays set


def test_a_short_load_is_not_an_overload(bench: Bench) -> None:
    for _ in range(5):
        bench.push()
        bench.wait(1.5)
        bench.plant.unblock(0)
        bench.write(reg.GOAL_POSITION, START_TICKS)
        bench.wait(1.0)
    assert bench.servo.status() == StatusBits(0)


@pytest.mark.parametrize("value", [0, 1])
def test_switching_the_torque_clears_an_overload(bench: Bench, value: int) -> None:
    bench.push()
    bench.wait(2.5)
    bench.plant.unblock(0)
    bench.write(reg.TORQUE_ENABLE, value)
    assert bench.servo.status() == StatusBits(0)


def test_a_goal_in_the_other_direction_clears_an_overload_and_one_in_the_same_does_not(bench: Bench) -> None:
    bench.push()
    bench.wait(2.5)
    bench.write(reg.GOAL_POSITION, FAR_TICKS - 100)
    assert bench.servo.status() == StatusBits.OVERLOAD
    bench.write(reg.GOAL_POSITION, START_TICKS - 500)
    assert bench.servo.status() == StatusBits(0)
    bench.plant.unblock(0)
    bench.wait(1.0)
    assert bench.position == START_TICKS - 500


def test_a_servo_that_may_not_unload_only_reports(bench: Bench) -> None:
    bench.servo.set_register(reg.UNLOAD_CONDITION, 0)
    bench.push()
    bench.wait(2.5)
    assert (bench.servo.status(), bench.load_pct) == (StatusBits.OVERLOAD, 100)


def test_over_current_cuts_the_motor_until_its_torque_is_switched(bench: Bench) -> None:
    bench.servo.set_register(reg.PROTECTION_CURRENT, 250)
    bench.servo.set_register(reg.OVERLOAD_TORQUE, 254)
    bench.push()
    bench.wait(1.9)
    assert bench.servo.status() == StatusBits(0)
    bench.wait(0.2)
    assert (bench.servo.status(), bench.load_pct) == (StatusBits.CURRENT, 0)
    bench.plant.unblock(0)
    bench.wait(1.0)
    assert bench.position == START_TICKS
    bench.write(reg.TORQUE_ENABLE, 1)
    bench.wait(1.0)
    assert (bench.servo.status(), bench.position) == (StatusBits(0), FAR_TICKS)


# -- heat -----------------------------------------------------------------------------------------------------


def test_a_motor_warms_with_the_square_of_its_load_and_cools_again() -> None:
    motor, now_ns = Motor(), 0
    for load, end_c in ((1.0, REST_TEMPERATURE_C + FULL_LOAD_RISE_K), (-0.5, REST_TEMPERATURE_C + 15), (0.0, 30)):
        motor.advance(load, UNLIMITED, now_ns)
        now_ns += s_to_ns(10 * TIME_CONSTANT_S)
        motor.advance(load, UNLIMITED, now_ns)
        assert motor.temperature_c == pytest.approx(end_c, abs=0.1)


def test_ten_minutes_at_half_load_warm_the_motor_as_measured() -> None:
    motor = Motor()
    for second in range(601):
        motor.advance(0.5, UNLIMITED, s_to_ns(second))
    assert motor.temperature_c - REST_TEMPERATURE_C == pytest.approx(15, abs=1)


@pytest.mark.slow
def test_heat_cuts_the_motor_until_it_has_cooled_and_is_switched_on_again(bench: Bench) -> None:
    bench.servo.set_register(reg.OVERLOAD_TORQUE, 254)
    bench.push()
    bench.wait(60)
    assert 30 < bench.servo.register(reg.PRESENT_TEMPERATURE) < 70
    bench.servo.temperature_c = 75
    bench.wait(0.02)
    assert (bench.servo.status(), bench.load_pct) == (StatusBits.TEMPERATURE, 0)
    bench.wait(60)
    assert bench.servo.status() == StatusBits(0)
    assert bench.load_pct == 0
    bench.write(reg.TORQUE_ENABLE, 1)
    bench.wait(0.1)
    assert bench.load_pct == 100


# -- supply ---------------------------------------------------------------------------------------------------


def test_every_servo_sees_the_voltage_drop_of_the_shared_supply(bench: Bench) -> None:
    bench.bus.supply_mohm = 500
    bench.servo.set_register(reg.OVERLOAD_TORQUE, 254)
    bench.push()
    bench.wait(0.1)
    loaded_mv = 7400 - 0.5 * STALL_CURRENT_MA
    for servo in (bench.servo, bench.other):
        assert servo.register(reg.PRESENT_VOLTAGE) == int(loaded_mv / reg.VOLTAGE_MV)
    bench.write(reg.TORQUE_ENABLE, 0)
    bench.wait(0.1)
    assert bench.other.register(reg.PRESENT_VOLTAGE) == 74


def test_a_brown_out_resets_the_servos(bench: Bench) -> None:
    bench.write(reg.GOAL_POSITION, FAR_TICKS)
    bench.wait(1.0)
    for servo in bench.bus.servos:
        servo.supply_mv = BROWN_OUT_MV - 100
    bench.wait(0.1)
    assert bench.bus.receive(protocol.encode_ping(1), bench.now_ns) == []
    for servo in bench.bus.servos:
        servo.supply_mv = 7400
    bench.wait(0.1)
    assert bench.bus.receive(protocol.encode_ping(1), bench.now_ns) != []
    assert bench.servo.register(reg.TORQUE_ENABLE) == reg.TORQUE_OFF
    assert bench.servo.register(reg.GOAL_POSITION) == bench.position == FAR_TICKS


def test_a_weak_supply_breaks_down_under_load_and_the_torque_goes_off(bench: Bench) -> None:
    bench.bus.supply_mohm = 2100
    bench.push()
    bench.wait(0.05)
    assert bench.servo.register(reg.TORQUE_ENABLE) == reg.TORQUE_OFF


# -- the arm as it is shipped ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_gripper_that_grips_for_a_minute_stays_below_the_warning_temperature() -> None:
    now_ns = 0
    profile = load_arm_profile("so101_sim")
    plant = KinematicPlant.of_arm(profile, lambda: now_ns)
    bus = SimulatedBus.of_arm(profile, plant)
    gripper = bus.servo(6)
    plant.block(5)
    gripper.write(reg.GOAL_POSITION.address, reg.GOAL_POSITION.encode(1950))
    while now_ns < s_to_ns(60):
        now_ns += ms_to_ns(20)
        bus.advance(now_ns)
    assert gripper.register(reg.PRESENT_LOAD) == -1000
    assert gripper.status() == StatusBits(0)
    assert gripper.temperature_c < profile.safety.warn_temperature_c
