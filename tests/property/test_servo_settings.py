"""Any profile settings, on servos with any registers, over a line with random losses.

In the end either every servo has the profile's settings and is locked, or one error names the servos that are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.control.clock import ManualClock
from sefa_edge.firmware_bridge.host.errors import ArmFault
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.eeprom import EepromLeftOpen
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.feetech.settings import compare, write_eeprom, write_volatile
from sefa_edge.firmware_bridge.host.feetech.settings_table import LOCK, SETTINGS
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.bus_port import BusPort
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import MissingError, SefaError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.servo_settings import ServoSettings
from sefa_edge.profiles.units import NS_PER_S

BASE = load_arm_profile("so101_sim")
PROTECTIONS = ("voltage", "encoder", "temperature", "current", "overload")


def maybe(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | values


CHOICES = {
    "p_gain": st.integers(0, 254),
    "i_gain": st.integers(0, 254),
    "d_gain": st.integers(0, 254),
    "return_delay_us": st.integers(0, 254).map(lambda counts: 2 * counts),
    "full_angle_feedback": st.booleans(),
    "max_torque_pct": st.floats(0.1, 100),
    "torque_limit_pct": st.floats(0.1, 100),
    "protection_current_ma": st.floats(6.5, 3321.5),
    "overload_torque_pct": st.integers(1, 80),
    "protection_time_ms": st.integers(1, 254).map(lambda counts: 10 * counts),
    "protective_torque_pct": st.integers(1, 40),
    "unload_on": st.lists(st.sampled_from(PROTECTIONS), unique=True).map(tuple),
    "max_acceleration_ticks_s2": st.integers(0, 254).map(lambda counts: 100 * counts),
}
SETTINGS_OF_A_SERVO = st.fixed_dictionaries({name: maybe(values) for name, values in CHOICES.items()}).map(
    lambda chosen: ServoSettings(**chosen)  # pyright: ignore
)


@st.composite
def profiles(draw: st.DrawFn) -> ArmProfile:
    """Profiles of three joints; contradictory settings are tested in tests/profiles/test_profiles.py."""
    joints = [
        joint.model_copy(update={"servo": draw(SETTINGS_OF_A_SERVO), "servo_id": 7 * number + 2})
        for number, joint in enumerate(BASE.joints[:3])
    ]
    return BASE.model_copy(update={"joints": joints, "servo": draw(SETTINGS_OF_A_SERVO)})


class Bench:
    """Servos with random registers, on a line that a test can disturb."""

    def __init__(self, profile: ArmProfile, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.profile = profile
        self.bus = SimulatedBus.of_arm(profile, KinematicPlant.of_arm(profile))
        self.port = BusPort(self.bus, ManualClock(NS_PER_S))
        for servo in self.bus.servos:
            for setting in SETTINGS:
                if setting.register is not reg.RETURN_DELAY:
                    top = 1 << (8 * setting.register.width)
                    servo.set_register(setting.register, int(self.rng.integers(top)))
            servo.set_register(reg.LOCK, int(self.rng.integers(2)))

    def locked(self) -> list[bool]:
        return [servo.register(reg.LOCK) == 1 for servo in self.bus.servos]

    def write_everything(self) -> None:
        link = self.port.open()
        try:
            comparison = compare(ServoBus(link), self.profile)
            write_volatile(ServoBus(link), comparison.volatile)
            write_eeprom(ServoBus(link), comparison)
        finally:
            link.close()

    def has_the_profile_settings(self) -> bool:
        """Whether the registers themselves hold the profile's settings."""
        return all(
            (value := setting.chosen(settings)) is None
            or setting.raw(value, servo.register(setting.register)) == servo.register(setting.register)
            for servo, settings in zip(self.bus.servos, self.profile.servo_settings(), strict=True)
            for setting in (*SETTINGS, LOCK)
        )


@given(profiles(), st.integers(0, 2**32))
def test_on_a_good_line_every_servo_gets_the_profile_settings(profile: ArmProfile, seed: int) -> None:
    bench = Bench(profile, seed)
    before = [bytes(servo.read(0, reg.MEMORY_BYTES)) for servo in bench.bus.servos]
    bench.write_everything()
    assert bench.has_the_profile_settings()
    owned = {reg.LOCK.address} | {
        setting.register.address + byte for setting in SETTINGS for byte in range(setting.register.width)
    }
    for servo, old in zip(bench.bus.servos, before, strict=True):
        new = servo.read(0, reg.MEMORY_BYTES)
        changed = {address for address in range(reg.EEPROM_END) if new[address] != old[address]}
        assert changed <= owned


def at_request(bench: Bench, number: int, action: Callable[[], None]) -> None:
    """Call `action` while the host sends its request of that number (1, 2, …)."""
    requests = itertools.count(1)

    def on_request(data: bytes) -> bytes:
        if next(requests) == number:
            action()
        return data

    bench.bus.disturb_request = on_request


@given(profiles(), st.integers(0, 2**32), st.floats(0, 0.6))
def test_on_a_bad_line_the_settings_are_written_or_an_error_is_raised(
    profile: ArmProfile, seed: int, loss: float
) -> None:
    bench = Bench(profile, seed)
    bench.bus.disturb = lambda data: b"" if bench.rng.random() < loss else data
    bench.bus.disturb_request = lambda data: b"" if bench.rng.random() < loss else data
    judge(bench)


@given(profiles(), st.integers(0, 2**32), st.integers(1, 400))
def test_with_a_silent_servo_the_settings_are_written_or_an_error_is_raised(
    profile: ArmProfile, seed: int, after: int
) -> None:
    bench = Bench(profile, seed)

    def silence() -> None:
        bench.bus.servos[int(bench.rng.integers(3))].connected = False

    at_request(bench, after, silence)
    judge(bench)


@given(profiles(), st.integers(0, 2**32), st.integers(1, 400))
def test_with_a_pulled_cable_the_settings_are_written_or_an_error_is_raised(
    profile: ArmProfile, seed: int, after: int
) -> None:
    bench = Bench(profile, seed)
    at_request(bench, after, bench.port.unplug)
    judge(bench)


@given(profiles(), st.integers(0, 2**32), st.integers(0, 2))
def test_a_holding_arm_keeps_its_eeprom_and_its_torque(profile: ArmProfile, seed: int, joint: int) -> None:
    bench = Bench(profile, seed)
    bench.bus.servos[joint].set_register(reg.TORQUE_ENABLE, 1)
    before = [bytes(servo.read(0, reg.EEPROM_END)) for servo in bench.bus.servos]
    refused = attempt(bench)
    if refused is None:
        assert bench.has_the_profile_settings()
    else:
        assert BASE.joint_names[joint] in str(refused)
    assert [bytes(servo.read(0, reg.EEPROM_END)) for servo in bench.bus.servos] == before
    assert all(bench.locked())
    assert bench.bus.servos[joint].register(reg.TORQUE_ENABLE) == 1


def attempt(bench: Bench) -> SefaError | None:
    """Write everything; the error that it raised, or None."""
    try:
        bench.write_everything()
    except SefaError as error:
        return error
    return None


def judge(bench: Bench) -> None:
    """Write everything: it succeeds, or the error is specific and names every servo left unlocked."""
    found_locked = bench.locked()
    error = attempt(bench)
    if error is None:
        assert bench.has_the_profile_settings()
        assert all(bench.locked())
        return
    assert isinstance(error, (ArmFault, MissingError))
    assert error.hint
    names_unlocked = isinstance(error, EepromLeftOpen)
    for servo, locked, was_locked in zip(bench.bus.servos, bench.locked(), found_locked, strict=True):
        if was_locked and not locked:
            assert names_unlocked
            assert f"servo {servo.servo_id} (" in str(error)
