"""The register bytes of one servo: which can be written, and which survive without power."""

from __future__ import annotations

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.registers import Register

OWNER_OF_BYTE = {register.address + offset: register for register in reg.REGISTERS for offset in range(register.width)}


class RegisterMemory:
    """All registers, starting at their factory values, without side effects."""

    def __init__(self) -> None:
        self.content = bytearray(reg.MEMORY_BYTES)
        for register in reg.REGISTERS:
            self.set(register, register.factory)

    def __getitem__(self, register: Register) -> int:
        """Value of a register."""
        if register.width == 1:
            return self.content[register.address]
        return register.decode(self.content[register.address : register.address + register.width])

    def set(self, register: Register, value: int) -> None:
        """Set a register regardless of its protection. Raises ValueError if the value does not fit."""
        self.content[register.address : register.address + register.width] = register.encode(value)

    def read(self, address: int, count: int) -> bytes:
        """Bytes of the register map; zeros beyond its end."""
        return bytes(self.content[address : address + count]).ljust(count, b"\0")

    def write(self, address: int, data: bytes) -> set[Register]:
        """Write bytes; returns the changed registers. Read-only, locked and unmapped ones are silently skipped."""
        locked = self[reg.LOCK] != 0
        touched: set[Register] = set()
        for offset, value in enumerate(data):
            register = OWNER_OF_BYTE.get(address + offset)
            if register is None or register.read_only or (locked and register.address < reg.EEPROM_END):
                continue
            self.content[address + offset] = value
            touched.add(register)
        return touched

    def lose_power(self) -> None:
        """EEPROM is kept, all other registers are reset."""
        for register in reg.REGISTERS:
            if reg.EEPROM_END <= register.address < reg.MOVING_THRESHOLD.address:
                self.set(register, register.factory)
        self.set(reg.TORQUE_LIMIT, self[reg.MAX_TORQUE])

    def restore_factory(self) -> None:
        """EEPROM back to factory values, except the id."""
        for register in reg.REGISTERS:
            if register.address < reg.EEPROM_END and register is not reg.SERVO_ID:
                self.set(register, register.factory)
