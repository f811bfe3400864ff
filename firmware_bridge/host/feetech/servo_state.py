"""The newest answer of one servo, in units of the world."""

from __future__ import annotations

from sefa_edge.firmware_bridge.host.feetech.protocol import Packet
from sefa_edge.firmware_bridge.host.feetech.registers import (
    CURRENT_MA,
    LOAD_PCT,
    PRESENT_CURRENT,
    PRESENT_LOAD,
    PRESENT_POSITION,
    PRESENT_SPEED,
    STATE_BLOCK,
    VOLTAGE_MV,
    decode_sign_magnitude,
)


class ServoState:
    """What one servo reported last, and when. Mutable: one per joint, updated in the loop."""

    __slots__ = (
        "current_ma", "load_pct", "position_ticks", "servo_id", "speed_ticks_s", "stamp_ns",
        "status_bits", "supply_mv", "temperature_c", "ticks_s_per_count",
    )  # fmt: skip

    def __init__(self, servo_id: int, ticks_s_per_count: int) -> None:
        self.servo_id = servo_id
        self.ticks_s_per_count = ticks_s_per_count
        self.stamp_ns = 0
        self.position_ticks = 0
        self.speed_ticks_s = 0
        self.load_pct = 0.0
        self.current_ma = 0.0
        self.supply_mv = 0
        self.temperature_c = 0.0
        self.status_bits = 0

    def update(self, answer: Packet, stamp_ns: int) -> None:
        """Take in an answer to a read of `STATE_BLOCK`."""
        position, speed, load, voltage, temperature, _, status, _, current = STATE_BLOCK.layout.unpack(
            answer.parameters
        )
        self.stamp_ns = stamp_ns
        self.position_ticks = decode_sign_magnitude(position, PRESENT_POSITION.sign_bit)
        self.speed_ticks_s = decode_sign_magnitude(speed, PRESENT_SPEED.sign_bit) * self.ticks_s_per_count
        self.load_pct = decode_sign_magnitude(load, PRESENT_LOAD.sign_bit) * LOAD_PCT
        self.current_ma = decode_sign_magnitude(current, PRESENT_CURRENT.sign_bit) * CURRENT_MA
        self.supply_mv = voltage * VOLTAGE_MV
        self.temperature_c = float(temperature)
        self.status_bits = answer.code | status
