"""Conversions between units: factors such as 1e9 stand only here."""

from __future__ import annotations

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000

SERVO_TICKS_PER_TURN = 4096
"""STS3215 encoder resolution (Feetech STS memory table)."""

LEROBOT_TICKS_PER_TURN = 4095
"""LeRobot's degrees mode divides by 4095, not 4096; calibrations and datasets follow it."""


def period_ns(rate_hz: float) -> int:
    """Period of a rate in nanoseconds, rounded to the nearest."""
    return round(NS_PER_S / rate_hz)


def ns_to_ms(duration_ns: float) -> float:
    return duration_ns / NS_PER_MS


def ns_to_us(duration_ns: float) -> float:
    return duration_ns / NS_PER_US


def s_to_ns(duration_s: float) -> int:
    return round(duration_s * NS_PER_S)


def ms_to_ns(duration_ms: float) -> int:
    return round(duration_ms * NS_PER_MS)


def us_to_ns(duration_us: float) -> int:
    return round(duration_us * NS_PER_US)
