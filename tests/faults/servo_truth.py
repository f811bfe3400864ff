"""The true state of simulated servos, for the monitors: not what the bytes on the wire say."""

from __future__ import annotations

from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from tests.faults.wire_decoder import GOAL_POSITION, PRESENT_POSITION, TORQUE_ENABLE, position_ticks


class ServoTruth:
    """Implements `Truth` on a simulated bus. Call it from the bus's tap, or under the lock of its port."""

    def __init__(self, bus: SimulatedBus) -> None:
        self._bus = bus

    def is_reachable(self, servo_id: int) -> bool:
        return self._bus.servo(servo_id).listens

    def holds(self, servo_id: int) -> bool:
        return self._bus.servo(servo_id).read(TORQUE_ENABLE, 1) != b"\0"

    def position_ticks(self, servo_id: int) -> float:
        return position_ticks(*self._bus.servo(servo_id).read(PRESENT_POSITION, 2))

    def goal_ticks(self, servo_id: int) -> int:
        return position_ticks(*self._bus.servo(servo_id).read(GOAL_POSITION, 2))
