"""One STS3215 as its registers show it: EEPROM and lock, torque, goal, offset, limits, status. The motor is
outside.

Modelled: position mode. Stored but without effect: the other modes, gains, goal time, torque limits, and the
overload and over-current protections (a test raises their bits through `fault_bits`). Sources:
`host/feetech/registers.py`; that a written goal energises the motor by itself was measured by `feetech-cli` on a real
servo.
"""

from __future__ import annotations

import math
from typing import Protocol

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import MAX_SERVO_ID, StatusBits
from sefa_edge.firmware_bridge.host.feetech.registers import Register
from sefa_edge.firmware_bridge.simulation.goal_ramp import GoalRamp
from sefa_edge.profiles.units import SERVO_TICKS_PER_TURN

STALL_CURRENT_MA = 2400.0
"""Current at full load, about that of an STS3215 at 7.4 V. The simulated current is proportional to the
load."""

MIDDLE_TICKS = 2048
MOVING_TICKS_S = 50.0
OWNER_OF_BYTE = {register.address + offset: register for register in reg.REGISTERS for offset in range(register.width)}
PRESENT = range(reg.PRESENT_POSITION.address, reg.PRESENT_CURRENT.address + reg.PRESENT_CURRENT.width)


class Plant(Protocol):
    """What the motors move. Index 0 is the first servo; positions are encoder ticks before the homing
    offset."""

    def position_ticks(self, index: int) -> float: ...

    def velocity_ticks_s(self, index: int) -> float: ...

    def load_fraction(self, index: int) -> float:
        """Share of the stall torque, -1..1."""
        ...

    def set_goal_ticks(self, index: int, ticks: float) -> None: ...

    def set_torque(self, index: int, on: bool) -> None: ...


class SimulatedServo:
    """The registers of one servo, attached to joint `index` of a plant. Starts as after power-on, torque
    off."""

    def __init__(self, servo_id: int, plant: Plant, index: int) -> None:
        self.connected = True
        """False: its plug is out. It keeps its registers and says nothing."""
        self.obeys_torque = True
        """False: it answers, but leaves its torque as it is, like one whose controller hangs."""
        self.supply_mv = 7400
        self.temperature_c = 30
        self.fault_bits = StatusBits(0)
        """Faults that a test wants reported, beside those that supply and temperature cause."""
        self._plant = plant
        self._index = index
        self._memory = bytearray(reg.MEMORY_BYTES)
        self._pending: tuple[int, bytes] | None = None
        self._ramp = GoalRamp()
        for register in reg.REGISTERS:
            self.set_register(register, register.factory)
        self.set_register(reg.SERVO_ID, servo_id)
        self.power_cycle()

    # -- what instruments would see --------------------------------------------------------------------------

    def register(self, register: Register) -> int:
        """Value of a register, as a read over the bus would return it."""
        return register.decode(self.read(register.address, register.width))

    def set_register(self, register: Register, value: int) -> None:
        """Set a register behind the bus's back: no lock, no side effect."""
        self._memory[register.address : register.address + register.width] = register.encode(value)

    @property
    def servo_id(self) -> int:
        return self._memory[reg.SERVO_ID.address]

    @property
    def baud(self) -> int:
        return reg.BAUD_RATES[self._memory[reg.BAUD_RATE.address] % len(reg.BAUD_RATES)]

    @property
    def return_delay_ns(self) -> int:
        return self._memory[reg.RETURN_DELAY.address] * reg.RESPONSE_DELAY_NS

    @property
    def answers_writes(self) -> bool:
        return self._memory[reg.RESPONSE_LEVEL.address] != 0

    def status(self) -> StatusBits:
        """The status byte of every answer."""
        bits = self.fault_bits
        low, high = self._memory[reg.MIN_VOLTAGE.address], self._memory[reg.MAX_VOLTAGE.address]
        if not low * reg.VOLTAGE_MV <= self.supply_mv <= high * reg.VOLTAGE_MV:
            bits |= StatusBits.VOLTAGE
        if self.temperature_c > self._memory[reg.MAX_TEMPERATURE.address]:
            bits |= StatusBits.TEMPERATURE
        return bits

    def power_cycle(self) -> None:
        """Switch the supply off and on: EEPROM stays, the rest starts anew, the goal where the joint is."""
        for register in reg.REGISTERS:
            if reg.EEPROM_END <= register.address < reg.MOVING_THRESHOLD.address:
                self.set_register(register, register.factory)
        self.set_register(reg.TORQUE_LIMIT, self._value(reg.MAX_TORQUE))
        self.set_register(reg.GOAL_POSITION, self._present_ticks())
        self._pending = None
        self._switch_torque(reg.TORQUE_OFF)

    # -- instructions ----------------------------------------------------------------------------------------

    def read(self, address: int, count: int) -> bytes:
        """Bytes of the register map; zeros beyond its end."""
        if address < PRESENT.stop and address + count > PRESENT.start:
            self._refresh_present()
        return bytes(self._memory[address : address + count]).ljust(count, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Write registers; what is read-only, locked or beyond the map is silently left alone."""
        locked = self._memory[reg.LOCK.address] != 0
        servo_id, torque = self.servo_id, self._memory[reg.TORQUE_ENABLE.address]
        touched: set[Register] = set()
        for offset, value in enumerate(data):
            register = OWNER_OF_BYTE.get(address + offset)
            if register is None or register.read_only or (locked and register.address < reg.EEPROM_END):
                continue
            self._memory[address + offset] = value
            touched.add(register)
        if self.servo_id > MAX_SERVO_ID:
            self.set_register(reg.SERVO_ID, servo_id)
        if reg.TORQUE_ENABLE in touched:
            wanted = self._memory[reg.TORQUE_ENABLE.address]
            self.set_register(reg.TORQUE_ENABLE, torque)
            if wanted == reg.TORQUE_MAKE_MIDDLE:
                self._make_middle()
            elif self.obeys_torque:
                self._switch_torque(wanted)
        if reg.GOAL_POSITION in touched:
            self._take_goal()

    def hold_write(self, address: int, data: bytes) -> None:
        """REG_WRITE: remember a write until `act`."""
        self._pending = (address, data)
        self.set_register(reg.ASYNC_FLAG, 1)

    def act(self) -> None:
        """ACTION: carry out the write that was held."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self.set_register(reg.ASYNC_FLAG, 0)
            self.write(*pending)

    def reset(self) -> None:
        """RESET: EEPROM back to factory values, except the id."""
        for register in reg.REGISTERS:
            if register.address < reg.EEPROM_END and register is not reg.SERVO_ID:
                self.set_register(register, register.factory)

    def advance(self, now_ns: int) -> None:
        """Let time pass: move the goal that the motor follows, at the speed and acceleration of the
        registers."""
        if self._ramp.advance(now_ns) and self._memory[reg.TORQUE_ENABLE.address]:
            self._plant.set_goal_ticks(self._index, self._ramp.position_ticks)

    # -- inside ----------------------------------------------------------------------------------------------

    def _value(self, register: Register) -> int:
        address = register.address
        return register.decode(self._memory[address : address + register.width])

    def _present_ticks(self) -> int:
        encoder = round(self._plant.position_ticks(self._index))
        return (encoder - self._value(reg.HOMING_OFFSET)) % SERVO_TICKS_PER_TURN

    def _refresh_present(self) -> None:
        load = self._plant.load_fraction(self._index)
        speed_ticks_s = self._plant.velocity_ticks_s(self._index)
        reg.STATE_BLOCK.layout.pack_into(
            self._memory,
            reg.STATE_BLOCK.address,
            self._present_ticks(),
            _signed(speed_ticks_s / self._speed_count_ticks_s(), 0x7FFF, reg.PRESENT_SPEED),
            _signed(100 * load / reg.LOAD_PCT, 1000, reg.PRESENT_LOAD),
            self.supply_mv // reg.VOLTAGE_MV,
            self.temperature_c,
            self._memory[reg.ASYNC_FLAG.address],
            self.status(),
            self._ramp.moving or abs(speed_ticks_s) >= MOVING_TICKS_S,
            _signed(load * STALL_CURRENT_MA / reg.CURRENT_MA, 0x7FFF, reg.PRESENT_CURRENT),
        )

    def _speed_count_ticks_s(self) -> int:
        return 1 if self._memory[reg.PHASE.address] & reg.PHASE_FINE_SPEED else reg.COARSE_SPEED_TICKS_S

    def _switch_torque(self, value: int) -> None:
        self.set_register(reg.TORQUE_ENABLE, reg.TORQUE_ON if value else reg.TORQUE_OFF)
        self._ramp.restart(self._plant.position_ticks(self._index))
        if value != reg.TORQUE_OFF:
            self._aim()
        self._plant.set_torque(self._index, value != reg.TORQUE_OFF)

    def _make_middle(self) -> None:
        turn = SERVO_TICKS_PER_TURN
        encoder = round(self._plant.position_ticks(self._index))
        offset = (encoder - MIDDLE_TICKS + turn // 2) % turn - turn // 2
        self.set_register(reg.HOMING_OFFSET, max(offset, -2047))

    def _take_goal(self) -> None:
        # A written goal energises the motor by itself; torque on with an old goal makes it jump there.
        if self._memory[reg.TORQUE_ENABLE.address]:
            self._aim()
        else:
            self._switch_torque(reg.TORQUE_ON)

    def _aim(self) -> None:
        if self._memory[reg.OPERATING_MODE.address] != reg.MODE_POSITION:
            return
        low, high = self._value(reg.MIN_POSITION), self._value(reg.MAX_POSITION)
        goal = self._value(reg.GOAL_POSITION)
        if low < high:
            goal = min(max(goal, low), high)
        encoder_of_zero = round(self._plant.position_ticks(self._index)) - self._present_ticks()
        self._ramp.aim(encoder_of_zero + goal, self._goal_speed_ticks_s(), self._acceleration_ticks_s2())
        self._plant.set_goal_ticks(self._index, self._ramp.position_ticks)

    def _goal_speed_ticks_s(self) -> float:
        speed = abs(self._value(reg.GOAL_SPEED)) * self._speed_count_ticks_s()
        if speed == 0 and self._memory[reg.PHASE.address] & reg.PHASE_ZERO_IS_FULL_SPEED:
            return math.inf
        return speed

    def _acceleration_ticks_s2(self) -> float:
        return self._memory[reg.ACCELERATION.address] * reg.ACCELERATION_TICKS_S2 or math.inf


def _signed(value: float, magnitude: int, register: Register) -> int:
    """A measurement as its register codes it, no larger than the servo shows."""
    return reg.encode_sign_magnitude(min(max(round(value), -magnitude), magnitude), register.sign_bit)
