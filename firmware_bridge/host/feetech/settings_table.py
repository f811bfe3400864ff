"""Which register, unit and bits of a servo hold each setting of an arm profile, and how the two differ."""

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
    """A field of ServoSettings, and its place in the servo."""

    name: str
    register: Register
    per_count: float = 1
    """One count in the field's unit."""
    bits: int = 0
    """The bits of the register that belong to it; 0: the whole register."""
    required: int | None = None
    """Raw value that every arm needs; None: the profile chooses."""

    @property
    def volatile(self) -> bool:
        """Whether it is lost at power-off and may be written at any time."""
        return reg.EEPROM_END <= self.register.address < reg.MOVING_THRESHOLD.address

    def raw(self, value: Value, found: int) -> int:
        """The register's raw value for a value of the field; other bits are taken from `found`."""
        return found & ~self.bits | self._own(value) if self.bits else self._own(value)

    def chosen(self, settings: ServoSettings) -> Value | None:
        """The value that a profile chooses; None: any."""
        return self.required if self.required is not None else getattr(settings, self.name)

    def text(self, raw: int) -> str:
        """A raw register value as the profile would write it."""
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
"""LeRobot leaves the EEPROM unlocked when it disconnects from an arm."""
OPERATING_MODE: Final = Setting("operating_mode", reg.OPERATING_MODE, required=reg.MODE_POSITION)
"""A servo that once drove a wheel is still in mode 1, where a goal speed turns it endlessly and a goal position has no
effect."""
REQUIRED: Final = (LOCK, OPERATING_MODE)
"""Settings that a profile cannot choose."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of a servo that differs from the profile; raw register values."""

    servo: Servo
    setting: Setting
    found: int
    wanted: int

    @property
    def text(self) -> str:
        return f"{self.setting.name} {self.setting.text(self.found)} -> {self.setting.text(self.wanted)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the servos' settings compare with the profile."""

    differences: tuple[Difference, ...]
    holding: tuple[str, ...]
    """Joints whose torque is on."""
    joints: int

    @property
    def volatile(self) -> tuple[Difference, ...]:
        return tuple(difference for difference in self.differences if difference.setting.volatile)

    @property
    def kept(self) -> tuple[Difference, ...]:
        """Differences in the EEPROM."""
        return tuple(difference for difference in self.differences if not difference.setting.volatile)


def by_text(differences: Iterable[Difference]) -> dict[str, list[Servo]]:
    """Differences with the same text, and the servos that have them."""
    servos: dict[str, list[Servo]] = {}
    for difference in differences:
        servos.setdefault(difference.text, []).append(difference.servo)
    return servos
