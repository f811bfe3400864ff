"""The status byte of a servo as text."""

from __future__ import annotations

from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits

_NAMES = {
    StatusBits.VOLTAGE: "voltage",
    StatusBits.ENCODER: "encoder",
    StatusBits.TEMPERATURE: "heat",
    StatusBits.CURRENT: "over-current",
    StatusBits.OVERLOAD: "overload",
}


def status_text(status_bits: int) -> str:
    """`ok`, or the faults in a status byte; a bit without an agreed meaning is shown by its number."""
    if status_bits == 0:
        return "ok"
    named = {int(bit): name for bit, name in _NAMES.items()}
    bits = [1 << number for number in range(8) if status_bits >> number & 1]
    return ", ".join(named.get(bit, f"bit {bit.bit_length() - 1}") for bit in bits)
