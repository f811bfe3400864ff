"""Where the settings of an arm profile are in a servo: register, unit, bits; and how the two may differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.eeprom import LOCKED, Servo
from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits
from sefa_edge.firmware_bridge.host.feetech.registers import Register
from sefa_edge.profiles.servo_settings import ServoSettings

Value: TypeAlias = "bool | float | tuple[str, ...]"


@dataclass(frozen=True, slots=True)
class Setting:
    """A field of ServoSettings, and where it is in the servo."""

    name: str
    register: Register
    per_count: float = 1
    """What one count is in the field's unit."""
    bits: int = 0
    """The bits of the register that are its own; 0: the whole register."""
    required: int | None = None
    """What every arm needs; None: the profile chooses."""

    @property
    def volatile(self) -> bool:
        """Whether it is lost at power-off, and may be written at any time."""
        return reg.EEPROM_END <= self.register.address < reg.MOVING_THRESHOLD.address

    def raw(self, value: Value, found: int) -> int:
        """The register for a value of the field; `found` has the bits that are not its own."""
        return found & ~self.bits | self._own(value) if self.bits else self._own(value)

    def chosen(self, settings: ServoSettings) -> Value | None:
        """What a profile says; None: nothing."""
        return self.required if self.required is not None else getattr(settings, self.name)

    def words(self, raw: int) -> str:
        """What a register holds, as the profile would write it."""
        if self.register is reg.OPERATING_MODE:
            return f"{raw} {reg.mode_name(raw)}"
        if self.register is reg.UNLOAD_CONDITION:
            return "+".join(protections(raw & self.bits)) or "nothing"
        return str(bool(raw & self.bits)).lower() if self.bits else f"{raw * self.per_count:g}"

    def _own(self, value: Value) -> int:
        if isinstance(value, tuple):
            return sum({StatusBits[name.upper()] for name in value})
        return (self.bits if value else 0) if self.bits else round(value / self.per_count)


def protections(raw: int) -> list[str]:
    """Names of the bits of register 19, as the profile writes them."""
    return [bit.name.lower() for bit in StatusBits if bit & raw and bit.name]


SETTINGS: Final = (
    Setting("return_delay_us", reg.RETURN_DELAY, reg.RESPONSE_DELAY_NS / 1000),
    Setting("max_torque_pct", reg.MAX_TORQUE, reg.LOAD_PCT),
    Setting("full_angle_feedback", reg.PHASE, bits=reg.PHASE_FULL_ANGLE),
    Setting("unload_on", reg.UNLOAD_CONDITION, bits=sum(StatusBits)),
    Setting("p_gain", reg.P_COEFFICIENT),
    Setting("d_gain", reg.D_COEFFICIENT),
    Setting("i_gain", reg.I_COEFFICIENT),
    Setting("protection_current_ma", reg.PROTECTION_CURRENT, reg.CURRENT_MA),
    Setting("protective_torque_pct", reg.PROTECTIVE_TORQUE),
    Setting("protection_time_ms", reg.PROTECTION_TIME, 10),
    Setting("overload_torque_pct", reg.OVERLOAD_TORQUE),
    Setting("max_acceleration_ticks_s2", reg.MAX_ACCELERATION, reg.ACCELERATION_TICKS_S2),
    Setting("torque_limit_pct", reg.TORQUE_LIMIT, reg.LOAD_PCT),
)
LOCK: Final = Setting("lock", reg.LOCK, required=LOCKED)
"""LeRobot leaves the EEPROM open when it lets an arm go."""
OPERATING_MODE: Final = Setting("operating_mode", reg.OPERATING_MODE, required=reg.MODE_POSITION)
"""A servo that drove a wheel before stays in mode 1: there a goal speed turns it without end, a goal position has no
effect."""
REQUIRED: Final = (LOCK, OPERATING_MODE)
"""No choices of a profile."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A servo is set otherwise than the profile says; raw register values."""

    servo: Servo
    setting: Setting
    found: int
    wanted: int

    @property
    def words(self) -> str:
        return f"{self.setting.name} {self.setting.words(self.found)} -> {self.setting.words(self.wanted)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the servos stand to the profile."""

    differences: tuple[Difference, ...]
    holding: tuple[str, ...]
    """Joints whose torque is on."""
    joints: int

    @property
    def volatile(self) -> tuple[Difference, ...]:
        return tuple(difference for difference in self.differences if difference.setting.volatile)

    @property
    def kept(self) -> tuple[Difference, ...]:
        """Those in the EEPROM."""
        return tuple(difference for difference in self.differences if not difference.setting.volatile)


def by_text(differences: Iterable[Difference]) -> dict[str, list[Servo]]:
    """Differences that read alike, and the servos that have them."""
    alike: dict[str, list[Servo]] = {}
    for difference in differences:
        alike.setdefault(difference.words, []).append(difference.servo)
    return alike
