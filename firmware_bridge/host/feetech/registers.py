"""Register map of the STS3215: name, address, width, sign, factory value, source, and what one count means.

Every register names the source that this file follows, and what another source says where it differs (`dispute`).
`disputed_registers` lists those. Only the dispute about register 7 has an effect; `register_7` in the arm profile
decides it. Status bits: see `protocol.StatusBits`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sefa_edge.profiles.servo_models import STS3215

MODEL_STS3215: Final = STS3215.number
MEMORY_BYTES: Final = 87
EEPROM_END: Final = 40
"""Registers below are EEPROM: kept without power, written only while `LOCK` is 0."""

BAUD_RATES: Final = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)
"""Meaning of register 6, in order. LeRobot and rustypot have 57600, 38400 and 19200 in the last three places."""

VOLTAGE_MV: Final = 100
CURRENT_MA: Final = 6.5
LOAD_PCT: Final = 0.1
RESPONSE_DELAY_NS: Final = 2_000
ACCELERATION_TICKS_S2: Final = 100
COARSE_SPEED_TICKS_S: Final = 50
"""One count of voltage, current, load, return delay, acceleration, and of speed while PHASE_FINE_SPEED is
clear."""

PHASE_FINE_SPEED: Final = 1 << 2
"""Phase bit 2: one count of speed is 1 tick/s (0.0146 rpm) instead of 50 ticks/s (0.732 rpm)."""

PHASE_ZERO_IS_FULL_SPEED: Final = 1 << 3
"""Phase bit 3: a goal speed of 0 means as fast as possible instead of stop."""

PHASE_FULL_ANGLE: Final = 1 << 4
"""Phase bit 4: positions continue beyond a full turn instead of wrapping."""

MODE_POSITION: Final = 0
MODE_NAMES: Final = ("position", "wheel (speed)", "PWM", "step")
"""Values of OPERATING_MODE, in order."""


def mode_name(mode: int) -> str:
    """Name of a value of OPERATING_MODE."""
    return MODE_NAMES[mode] if mode < len(MODE_NAMES) else "unknown"


MAX_SPEED_COUNTS: Final = 0x7FFF
"""The largest magnitude of GOAL_SPEED."""

TORQUE_OFF: Final = 0
TORQUE_ON: Final = 1
TORQUE_MAKE_MIDDLE: Final = 128
"""Values of TORQUE_ENABLE; 128 sets the offset so that the present position becomes 2048."""


class Source(Enum):
    """Where a register's description comes from."""

    MEMORY_TABLE = "Feetech, memory table of the magnetic encoder STS servos"
    LEROBOT = "LeRobot 0.4.4, control table of the STS and SMS series"


@dataclass(frozen=True, slots=True)
class Register:
    """One entry of the table. `sign_bit` marks sign-magnitude coding (not two's complement)."""

    name: str
    address: int
    width: int = 1
    factory: int = 0
    sign_bit: int | None = None
    read_only: bool = False
    source: Source = Source.MEMORY_TABLE
    dispute: str = ""
    """What another source says; empty if none disagrees."""

    def encode(self, value: int) -> bytes:
        """Bytes of a value. Raises ValueError if it does not fit."""
        return encode_sign_magnitude(value, self.sign_bit, self.width).to_bytes(self.width, "little")

    def decode(self, data: bytes | bytearray) -> int:
        """Value of bytes read from this register."""
        return decode_sign_magnitude(int.from_bytes(data[: self.width], "little"), self.sign_bit)


def encode_sign_magnitude(value: int, sign_bit: int | None, width: int = 2) -> int:
    """Encode a signed number as magnitude plus a sign bit.

    Raises:
        ValueError: the magnitude does not fit, or a negative number without a sign bit.
    """
    limit = 1 << (8 * width if sign_bit is None else sign_bit)
    if abs(value) >= limit or (value < 0 and sign_bit is None):
        raise ValueError(f"{value} does not fit into a register of magnitude below {limit}")
    return -value | 1 << (sign_bit or 0) if value < 0 else value


def decode_sign_magnitude(raw: int, sign_bit: int | None) -> int:
    """The signed number behind a raw register value."""
    if sign_bit is None or not raw & 1 << sign_bit:
        return raw
    return -(raw & (1 << sign_bit) - 1)


UNDOCUMENTED: Final = "memory table: a factory register without a documented meaning"

FIRMWARE_MAJOR = Register("firmware_major", 0, factory=3, read_only=True)
FIRMWARE_MINOR = Register("firmware_minor", 1, factory=10, read_only=True)
MODEL_NUMBER = Register("model_number", 3, 2, factory=MODEL_STS3215, read_only=True)
SERVO_ID = Register("id", 5, factory=1)
BAUD_RATE = Register("baud_rate", 6, dispute="LeRobot, rustypot: codes 5 to 7 are 57600, 38400, 19200 baud")
RETURN_DELAY = Register(
    "return_delay", 7, source=Source.LEROBOT, dispute="memory table: reserved, 0; LeRobot: factory value 250, 500 us"
)
RESPONSE_LEVEL = Register("response_level", 8, factory=1)
MIN_POSITION = Register("min_position_limit", 9, 2)
MAX_POSITION = Register("max_position_limit", 11, 2, factory=4095)
MAX_TEMPERATURE = Register("max_temperature_limit", 13, factory=70)
MAX_VOLTAGE = Register("max_voltage_limit", 14, factory=80)
MIN_VOLTAGE = Register("min_voltage_limit", 15, factory=40)
MAX_TORQUE = Register("max_torque_limit", 16, 2, factory=1000)
PHASE = Register("phase", 18, factory=PHASE_FINE_SPEED | PHASE_ZERO_IS_FULL_SPEED)
UNLOAD_CONDITION = Register("unloading_condition", 19, factory=44)
LED_ALARM = Register("led_alarm_condition", 20, factory=47)
P_COEFFICIENT = Register("p_coefficient", 21, factory=32)
D_COEFFICIENT = Register("d_coefficient", 22, factory=32)
I_COEFFICIENT = Register("i_coefficient", 23)
START_FORCE = Register("minimum_startup_force", 24, 2, factory=16)
CW_DEAD_ZONE = Register("cw_dead_zone", 26, factory=1)
CCW_DEAD_ZONE = Register("ccw_dead_zone", 27, factory=1)
PROTECTION_CURRENT = Register("protection_current", 28, 2, factory=500)
ANGULAR_RESOLUTION = Register("angular_resolution", 30, factory=1)
HOMING_OFFSET = Register("homing_offset", 31, 2, sign_bit=11)
OPERATING_MODE = Register("operating_mode", 33)
PROTECTIVE_TORQUE = Register("protective_torque", 34, factory=20)
PROTECTION_TIME = Register("protection_time", 35, factory=200)
OVERLOAD_TORQUE = Register("overload_torque", 36, factory=80)
SPEED_P = Register("speed_loop_p", 37, factory=10, dispute="SCS series: protective torque")
OVER_CURRENT_TIME = Register("over_current_time", 38, factory=200, dispute="SCS series: protection time")
SPEED_I = Register("speed_loop_i", 39, factory=200, dispute="SCS series: no such register")

TORQUE_ENABLE = Register("torque_enable", 40)
ACCELERATION = Register("acceleration", 41)
GOAL_POSITION = Register("goal_position", 42, 2, sign_bit=15)
GOAL_TIME = Register("goal_time", 44, 2)
GOAL_SPEED = Register("goal_speed", 46, 2, sign_bit=15)
TORQUE_LIMIT = Register("torque_limit", 48, 2, factory=1000)
LOCK = Register("lock", 55, factory=1)
PRESENT_POSITION = Register("present_position", 56, 2, sign_bit=15, read_only=True)
PRESENT_SPEED = Register("present_speed", 58, 2, sign_bit=15, read_only=True)
PRESENT_LOAD = Register("present_load", 60, 2, sign_bit=10, read_only=True)
PRESENT_VOLTAGE = Register("present_voltage", 62, read_only=True)
PRESENT_TEMPERATURE = Register("present_temperature", 63, read_only=True)
ASYNC_FLAG = Register("async_write_flag", 64, read_only=True)
STATUS = Register("status", 65, read_only=True, dispute="bits 4 and 6, see protocol.StatusBits")
MOVING = Register("moving", 66, read_only=True)
PRESENT_CURRENT = Register("present_current", 69, 2, sign_bit=15, read_only=True, dispute="LeRobot, rustypot: no sign")

MOVING_THRESHOLD = Register("moving_velocity_threshold", 80, factory=1, source=Source.LEROBOT)
CONTROL_PERIOD = Register("control_period_ms", 81, factory=1, source=Source.LEROBOT)
SPEED_UNIT = Register("velocity_unit_factor", 82, factory=50, source=Source.LEROBOT)
MAX_SPEED = Register("maximum_velocity_limit", 84, factory=80, source=Source.LEROBOT, dispute=UNDOCUMENTED)
MAX_ACCELERATION = Register("maximum_acceleration", 85, factory=254, source=Source.LEROBOT, dispute=UNDOCUMENTED)
ACCELERATION_FACTOR = Register("acceleration_multiplier", 86, factory=1, source=Source.LEROBOT, dispute=UNDOCUMENTED)

REGISTERS: Final = tuple(entry for entry in list(globals().values()) if isinstance(entry, Register))
"""The whole table, in the order of the addresses."""


def disputed_registers() -> tuple[Register, ...]:
    """The registers on which sources disagree."""
    return tuple(register for register in REGISTERS if register.dispute)


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive registers that are read or written with one packet, and their layout."""

    address: int
    layout: struct.Struct

    @property
    def count(self) -> int:
        return self.layout.size


STATE_BLOCK = Block(PRESENT_POSITION.address, struct.Struct("<HHHBBBBBxxH"))
"""56..70: position, speed, load, voltage, temperature, async flag, status, moving, current (raw)."""

COMMAND_BLOCK = Block(ACCELERATION.address, struct.Struct("<BHHH"))
"""41..47: acceleration, goal position, goal time, goal speed (raw)."""

HELD_BLOCK = Block(TORQUE_ENABLE.address, struct.Struct("<BBHHH"))
"""40..47: torque, then what a goal writes (raw)."""

IDENTITY_BLOCK = Block(FIRMWARE_MAJOR.address, struct.Struct("<BBxHBBBBHH5xB12xHB"))
"""0..33: firmware, model, id, baud, return delay, response level, min and max position, phase, offset, mode (raw)."""

PRESENT_BLOCK = Block(PRESENT_POSITION.address, struct.Struct("<H"))
TORQUE_BLOCK = Block(TORQUE_ENABLE.address, struct.Struct("<B"))
