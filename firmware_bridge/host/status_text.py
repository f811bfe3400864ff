"""Words for what a servo reports."""

from __future__ import annotations

from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits

_WORDS = {
    StatusBits.VOLTAGE: "voltage",
    StatusBits.ENCODER: "encoder",
    StatusBits.TEMPERATURE: "heat",
    StatusBits.CURRENT: "over-current",
    StatusBits.OVERLOAD: "overload",
}


def status_text(status_bits: int) -> str:
    """What a status byte says: `ok`, or its faults; a bit without an agreed meaning is told by its number."""
    if status_bits == 0:
        return "ok"
    named = {int(bit): word for bit, word in _WORDS.items()}
    bits = [1 << number for number in range(8) if status_bits >> number & 1]
    return ", ".join(named.get(bit, f"bit {bit.bit_length() - 1}") for bit in bits)
