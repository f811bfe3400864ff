"""Heat of a servo's motor, and the timers by which the servo protects it. Pure: the time is an argument.

Temperature is a first-order lag towards a rise that grows with the square of the load (copper losses). The two
constants are estimates from measurements of the 12 V servo (30 kg cm) in TheRobotStudio/SO-ARM100 issue 134: moving
15 kg cm it gained 15 K in 10 minutes; holding 15 kg cm it reached 48 °C in 10 minutes, and stayed there. The 7.4 V
servo is assumed to behave alike at the same share of its stall torque.

The timers are those of Feetech's memory table for STS servos: registers 35 and 38, in steps of 10 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits
from sefa_edge.profiles.units import NS_PER_S

STALL_CURRENT_MA = 2400.0
"""Current at full load, about that of an STS3215 at 7.4 V. The simulated current is proportional to the load."""

REST_TEMPERATURE_C = 30.0
"""An idle servo in a room of 25 °C (estimate: its electronics make the difference)."""
FULL_LOAD_RISE_K = 60.0
"""Steady rise at full load: four times the 15 K at half the load."""
TIME_CONSTANT_S = 200.0
"""A third of the 10 minutes after which the temperature was steady."""


@dataclass(frozen=True, slots=True)
class ProtectionLimits:
    """Thresholds of load and current, and how long each may be exceeded (registers 36, 35, 28, 38)."""

    overload: float
    """Share of the stall torque."""
    overload_ns: int
    current_ma: float
    current_ns: int


class Motor:
    """Temperature of one motor, and which of its protections have tripped; they stay tripped until `rearm`."""

    def __init__(self) -> None:
        self.temperature_c = REST_TEMPERATURE_C
        self.tripped = StatusBits(0)
        """OVERLOAD, CURRENT, or both."""
        self._now_ns: int | None = None
        self._overload = _Timer()
        self._current = _Timer()

    def advance(self, load: float, limits: ProtectionLimits, now_ns: int) -> None:
        """Let time pass under a load of -1..1, share of the stall torque."""
        self._warm(load, now_ns)
        if self._overload.exceeded(abs(load) >= limits.overload, limits.overload_ns, now_ns):
            self.tripped |= StatusBits.OVERLOAD
        if self._current.exceeded(abs(load) * STALL_CURRENT_MA > limits.current_ma, limits.current_ns, now_ns):
            self.tripped |= StatusBits.CURRENT

    def rearm(self) -> None:
        """Clear tripped protections and restart the timers."""
        self.tripped = StatusBits(0)
        self._overload = _Timer()
        self._current = _Timer()

    def _warm(self, load: float, now_ns: int) -> None:
        elapsed_s = 0.0 if self._now_ns is None else max(now_ns - self._now_ns, 0) / NS_PER_S
        self._now_ns = now_ns
        end_c = REST_TEMPERATURE_C + FULL_LOAD_RISE_K * load * load
        self.temperature_c = end_c + (self.temperature_c - end_c) * math.exp(-elapsed_s / TIME_CONSTANT_S)


class _Timer:
    """How long a condition has been true without interruption."""

    def __init__(self) -> None:
        self._since_ns: int | None = None

    def exceeded(self, is_true: bool, limit_ns: int, now_ns: int) -> bool:
        if not is_true:
            self._since_ns = None
            return False
        if self._since_ns is None:
            self._since_ns = now_ns
        return now_ns - self._since_ns >= limit_ns
