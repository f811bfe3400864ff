"""The output stage of a servo: the torque that its motor may produce, and when the servo cuts or reduces it.

Registers: torque limits (16, 48), overload (34, 35, 36), over-current (28, 38), over-temperature (13), voltage
(14, 15), and the mask that selects which of them unload the motor (19).

Measured on real servos, according to the notes of the program `arm101`: the reported load stops at the torque limit;
torque off clears an overload. Unknown, and assumed here: a goal away from the obstacle also clears an overload;
over-current and heat cut the motor until its torque is switched again.
"""

from __future__ import annotations

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits
from sefa_edge.firmware_bridge.simulation.motor import Motor, ProtectionLimits
from sefa_edge.firmware_bridge.simulation.plant import Plant
from sefa_edge.firmware_bridge.simulation.register_memory import RegisterMemory
from sefa_edge.profiles.units import ms_to_ns

CUTS = StatusBits.VOLTAGE | StatusBits.TEMPERATURE | StatusBits.CURRENT
"""Faults that cut the motor, if register 19 selects them; OVERLOAD only reduces its torque."""

FULL_TORQUE = 1000
"""Registers 16 and 48: counts of the stall torque. One count of 34 and 36 is a hundredth of it."""
PROTECTION_TIME_NS = ms_to_ns(10)
"""One count of registers 35 and 38."""


class Drive:
    """Motor `index` of a plant, driven as the registers say. Starts without torque."""

    def __init__(self, plant: Plant, index: int, memory: RegisterMemory) -> None:
        self.motor = Motor()
        self._plant = plant
        self._index = index
        self._memory = memory
        self._limit = 1.0
        self._is_cut = False
        self._pushed = 0.0

    @property
    def load(self) -> float:
        """Torque of the motor as a share of its stall torque, -1..1."""
        if self._is_cut or not self._memory.content[reg.TORQUE_ENABLE.address]:
            return 0.0
        return self._plant.load_fraction(self._index)

    def switch(self, on: bool) -> None:
        """Torque on or off; both clear tripped protections."""
        self.motor.rearm()
        self._is_cut = False
        self.limit_torque()
        self._plant.set_torque(self._index, on)

    def faults(self, terminal_mv: int) -> StatusBits:
        """The servo's faults at this voltage. Part of every answer, so it reads the registers directly."""
        content, bits = self._memory.content, self.motor.tripped
        voltage = terminal_mv / reg.VOLTAGE_MV
        if not content[reg.MIN_VOLTAGE.address] <= voltage <= content[reg.MAX_VOLTAGE.address]:
            bits |= StatusBits.VOLTAGE
        if self.motor.temperature_c > content[reg.MAX_TEMPERATURE.address]:
            bits |= StatusBits.TEMPERATURE
        return bits

    def advance(self, now_ns: int, terminal_mv: int) -> None:
        """Let time pass; cut the motor or reduce its torque when a protection trips."""
        self._pushed = self.load
        self.motor.advance(self._pushed, self._protection_limits(), now_ns)
        faults = self.faults(terminal_mv)
        if faults and not self._is_cut and faults & CUTS & self._memory[reg.UNLOAD_CONDITION]:
            self._is_cut = True
            self._plant.set_torque(self._index, False)
        self.limit_torque()

    def goal_set(self, distance_ticks: float) -> None:
        """A goal was set at this distance: one away from the obstacle ends an overload."""
        if self.motor.tripped & StatusBits.OVERLOAD and self._pushed * distance_ticks < 0:
            self.motor.rearm()

    def limit_torque(self) -> None:
        """Apply the torque limits of registers and protections to the plant."""
        memory = self._memory
        limit = min(memory[reg.TORQUE_LIMIT], memory[reg.MAX_TORQUE], FULL_TORQUE) / FULL_TORQUE
        if self.motor.tripped and self.motor.tripped & memory[reg.UNLOAD_CONDITION] & StatusBits.OVERLOAD:
            limit = min(limit, memory[reg.PROTECTIVE_TORQUE] / 100)
        if limit != self._limit:
            self._limit = limit
            self._plant.set_torque_limit(self._index, limit)

    def _protection_limits(self) -> ProtectionLimits:
        memory = self._memory
        return ProtectionLimits(
            overload=memory[reg.OVERLOAD_TORQUE] / 100,
            overload_ns=memory[reg.PROTECTION_TIME] * PROTECTION_TIME_NS,
            current_ma=memory[reg.PROTECTION_CURRENT] * reg.CURRENT_MA,
            current_ns=memory[reg.OVER_CURRENT_TIME] * PROTECTION_TIME_NS,
        )
