"""One STS3215 at register level: EEPROM and lock, torque, goal, offset, limits, status, without the motor.

Modelled: position mode; torque limits and protection (`drive.py`); heating (`motor.py`); reset on a supply drop.
Stored but without effect: the other modes, gains, goal time. Sources: `host/feetech/registers.py`; the author of
`feetech-cli` measured on a real servo that writing a goal energises the motor.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import MAX_SERVO_ID, StatusBits
from sefa_edge.firmware_bridge.host.feetech.registers import Register
from sefa_edge.firmware_bridge.simulation.drive import Drive
from sefa_edge.firmware_bridge.simulation.goal_ramp import GoalRamp
from sefa_edge.firmware_bridge.simulation.motor import STALL_CURRENT_MA
from sefa_edge.firmware_bridge.simulation.plant import Plant
from sefa_edge.firmware_bridge.simulation.register_memory import RegisterMemory
from sefa_edge.profiles.units import SERVO_TICKS_PER_TURN, ms_to_ns

MOTOR_PERIOD_NS = ms_to_ns(10)
"""How often the motor's protections are evaluated: the step of the servo's own timers."""

BROWN_OUT_MV = 2500
"""Below this the servo is off; it restarts when the voltage is back (estimate: minimum of a 3.3 V controller)."""

MIDDLE_TICKS = 2048
MOVING_TICKS_S = 50.0
PRESENT = range(reg.PRESENT_POSITION.address, reg.PRESENT_CURRENT.address + reg.PRESENT_CURRENT.width)


class SimulatedServo:
    """The registers of one servo, attached to joint `index` of a plant. Starts in its power-on state, torque off."""

    def __init__(self, servo_id: int, plant: Plant, index: int) -> None:
        self.connected = True
        """False: its data line is cut. It keeps its registers and does not answer; see also `unplug`."""
        self.accepts_torque = True
        """False: it answers, but does not change its torque, as if its controller hung."""
        self.supply_mv = 7400
        """Supply voltage without load."""
        self.sag_mv = 0
        """Voltage drop under the load of all servos; set by the bus."""
        self.torque_after_start = False
        """True: it starts with its torque on, at the present position of its joint."""
        self.report_position: Callable[[int], int] = _truly
        """Maps the true position in ticks to the reported one, to simulate a faulty encoder."""
        self.fault_bits = StatusBits(0)
        """Faults that a test wants reported, in addition to those that the servo detects."""
        self.return_delay_is_reserved = False
        """True: register 7 has no effect, as in Feetech's memory table; LeRobot uses it as the return delay."""
        self._plant = plant
        self._index = index
        self._memory = RegisterMemory()
        self._drive = Drive(plant, index, self._memory)
        self._pending: tuple[int, bytes] | None = None
        self._ramp = GoalRamp()
        self._checked_ns: int | None = None
        self._is_down = False
        self._memory.set(reg.SERVO_ID, servo_id)
        self.power_cycle()

    # -- state -----------------------------------------------------------------------------------------------

    def register(self, register: Register) -> int:
        """Value of a register, as a read over the bus would return it."""
        return register.decode(self.read(register.address, register.width))

    def set_register(self, register: Register, value: int) -> None:
        """Set a register directly, not over the bus: no lock, no side effect."""
        self._memory.set(register, value)

    @property
    def servo_id(self) -> int:
        return self._memory.content[reg.SERVO_ID.address]

    @property
    def baud(self) -> int:
        return reg.BAUD_RATES[self._memory.content[reg.BAUD_RATE.address] % len(reg.BAUD_RATES)]

    @property
    def return_delay_ns(self) -> int:
        return 0 if self.return_delay_is_reserved else self._memory[reg.RETURN_DELAY] * reg.RESPONSE_DELAY_NS

    @property
    def answers_writes(self) -> bool:
        return self._memory[reg.RESPONSE_LEVEL] != 0

    @property
    def listens(self) -> bool:
        """Whether it receives and answers."""
        return self.connected and not self._is_down

    @property
    def terminal_mv(self) -> int:
        """The voltage at its terminals."""
        return self.supply_mv - self.sag_mv

    @property
    def current_ma(self) -> float:
        """Current of its motor."""
        return abs(self._drive.load) * STALL_CURRENT_MA

    @property
    def temperature_c(self) -> int:
        return round(self._drive.motor.temperature_c)

    @temperature_c.setter
    def temperature_c(self, temperature_c: float) -> None:
        """Set the present temperature; from then on it follows the load."""
        self._drive.motor.temperature_c = float(temperature_c)

    def status(self) -> StatusBits:
        """The status byte of every answer."""
        found = self._drive.faults(self.supply_mv - self.sag_mv)
        return self.fault_bits | found if found else self.fault_bits

    # -- power -----------------------------------------------------------------------------------------------

    def power_cycle(self) -> None:
        """Switch the supply off and on: EEPROM is kept, the rest is reset, the goal becomes the joint's position."""
        self._memory.lose_power()
        self.set_register(reg.GOAL_POSITION, self._present_ticks())
        self._pending = None
        self._switch_torque(reg.TORQUE_ON if self.torque_after_start and not self._is_down else reg.TORQUE_OFF)

    def unplug(self) -> None:
        """Pull its plug, which carries power and data: it is limp and does not answer."""
        self.connected = False
        self.power_cycle()

    def plug_in(self) -> None:
        """Plug it in again: it has restarted."""
        self.power_cycle()
        self.connected = True

    def advance(self, now_ns: int) -> None:
        """Let time pass: move the motor's goal at the registers' speed and acceleration; check motor and supply."""
        if self._ramp.advance(now_ns) and self._memory[reg.TORQUE_ENABLE]:
            self._plant.set_goal_ticks(self._index, self._ramp.position_ticks)
        if self._checked_ns is not None and now_ns - self._checked_ns < MOTOR_PERIOD_NS:
            return
        self._checked_ns = now_ns
        self._drive.advance(now_ns, self.terminal_mv)
        if self._is_down != (self.terminal_mv < BROWN_OUT_MV):
            self._is_down = not self._is_down
            self.power_cycle()

    # -- instructions ----------------------------------------------------------------------------------------

    def read(self, address: int, count: int) -> bytes:
        """Bytes of the register map; zeros beyond its end."""
        if address < PRESENT.stop and address + count > PRESENT.start:
            self._refresh_present()
        return self._memory.read(address, count)

    def write(self, address: int, data: bytes) -> None:
        """Write registers; read-only, locked and unmapped ones are silently skipped."""
        servo_id, torque = self.servo_id, self._memory[reg.TORQUE_ENABLE]
        touched = self._memory.write(address, data)
        if self.servo_id > MAX_SERVO_ID:
            self.set_register(reg.SERVO_ID, servo_id)
        if reg.TORQUE_ENABLE in touched:
            wanted = self._memory[reg.TORQUE_ENABLE]
            self.set_register(reg.TORQUE_ENABLE, torque)
            if wanted == reg.TORQUE_MAKE_MIDDLE:
                self._make_middle()
            elif self.accepts_torque:
                self._switch_torque(wanted)
        if reg.GOAL_POSITION in touched:
            self._goal_written()
        self._drive.limit_torque()

    def hold_write(self, address: int, data: bytes) -> None:
        """REG_WRITE: remember a write until `act`."""
        self._pending = (address, data)
        self.set_register(reg.ASYNC_FLAG, 1)

    def act(self) -> None:
        """ACTION: execute the pending write."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self.set_register(reg.ASYNC_FLAG, 0)
            self.write(*pending)

    def reset(self) -> None:
        """RESET: EEPROM back to factory values, except the id."""
        self._memory.restore_factory()

    # -- inside ----------------------------------------------------------------------------------------------

    def _present_ticks(self) -> int:
        encoder = round(self._plant.position_ticks(self._index))
        return (encoder - self._memory[reg.HOMING_OFFSET]) % SERVO_TICKS_PER_TURN

    def _refresh_present(self) -> None:
        load = self._drive.load
        speed_ticks_s = self._plant.velocity_ticks_s(self._index)
        reg.STATE_BLOCK.layout.pack_into(
            self._memory.content,
            reg.STATE_BLOCK.address,
            self.report_position(self._present_ticks()),
            _signed(speed_ticks_s / self._speed_count_ticks_s(), 0x7FFF, reg.PRESENT_SPEED),
            _signed(100 * load / reg.LOAD_PCT, 1000, reg.PRESENT_LOAD),
            _byte(self.terminal_mv // reg.VOLTAGE_MV),
            _byte(self.temperature_c),
            self._memory[reg.ASYNC_FLAG],
            self.status(),
            self._ramp.moving or abs(speed_ticks_s) >= MOVING_TICKS_S,
            _signed(load * STALL_CURRENT_MA / reg.CURRENT_MA, 0x7FFF, reg.PRESENT_CURRENT),
        )

    def _speed_count_ticks_s(self) -> int:
        return 1 if self._memory[reg.PHASE] & reg.PHASE_FINE_SPEED else reg.COARSE_SPEED_TICKS_S

    def _switch_torque(self, value: int) -> None:
        self.set_register(reg.TORQUE_ENABLE, reg.TORQUE_ON if value else reg.TORQUE_OFF)
        self._ramp.restart(self._plant.position_ticks(self._index))
        if value != reg.TORQUE_OFF:
            self._aim()
        self._drive.switch(value != reg.TORQUE_OFF)

    def _make_middle(self) -> None:
        turn = SERVO_TICKS_PER_TURN
        encoder = round(self._plant.position_ticks(self._index))
        offset = (encoder - MIDDLE_TICKS + turn // 2) % turn - turn // 2
        self.set_register(reg.HOMING_OFFSET, max(offset, -2047))

    def _goal_written(self) -> None:
        # Writing a goal energises the motor; torque on with an old goal makes it jump there.
        if self._memory[reg.TORQUE_ENABLE]:
            self._aim()
            self._drive.goal_set(self._ramp.goal_ticks - self._plant.position_ticks(self._index))
        else:
            self._switch_torque(reg.TORQUE_ON)

    def _aim(self) -> None:
        if self._memory[reg.OPERATING_MODE] != reg.MODE_POSITION:
            return
        low, high = self._memory[reg.MIN_POSITION], self._memory[reg.MAX_POSITION]
        goal = self._memory[reg.GOAL_POSITION]
        if low < high:
            goal = min(max(goal, low), high)
        encoder_of_zero = round(self._plant.position_ticks(self._index)) - self._present_ticks()
        self._ramp.aim(encoder_of_zero + goal, self._goal_speed_ticks_s(), self._acceleration_ticks_s2())
        self._plant.set_goal_ticks(self._index, self._ramp.position_ticks)

    def _goal_speed_ticks_s(self) -> float:
        speed = abs(self._memory[reg.GOAL_SPEED]) * self._speed_count_ticks_s()
        if speed == 0 and self._memory[reg.PHASE] & reg.PHASE_ZERO_IS_FULL_SPEED:
            return math.inf
        return speed

    def _acceleration_ticks_s2(self) -> float:
        return self._memory[reg.ACCELERATION] * reg.ACCELERATION_TICKS_S2 or math.inf


def _signed(value: float, magnitude: int, register: Register) -> int:
    """A measurement as its register encodes it, clipped to what the servo can show."""
    return reg.encode_sign_magnitude(min(max(round(value), -magnitude), magnitude), register.sign_bit)


def _truly(ticks: int) -> int:
    return ticks


def _byte(value: int) -> int:
    return value if 0 <= value <= 0xFF else min(max(value, 0), 0xFF)
