"""The judge of a fault row: both monitors, attached to the simulated servos of a rig."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.plant import Plant
from tests.faults.joint_monitor import KINEMATIC_SLACK_TICKS, JointMonitor
from tests.faults.servo_truth import ServoTruth
from tests.faults.wire_limits import WireLimits
from tests.faults.wire_monitor import WireMonitor
from tests.faults.wire_rules import WireSummary


class ArmJudge:
    """Taps a bus, and samples the joints of its plant with every request.

    Joint i of the plant is joint i of the limits; its homing offset is 0.
    """

    def __init__(
        self,
        bus: SimulatedBus,
        plant: Plant,
        limits: WireLimits,
        clock_ns: Callable[[], int],
        *,
        exact_time: bool,
        slack_ticks: float = KINEMATIC_SLACK_TICKS,
    ) -> None:
        self._truth = ServoTruth(bus)
        self._plant, self._clock_ns = plant, clock_ns
        self._servo_ids = [joint.servo_id for joint in limits.joints]
        self.joints = JointMonitor(limits, slack_ticks)
        self.wire = WireMonitor(limits, self._truth, self.joints.goal, exact_time=exact_time)
        bus.tap = self

    def to_servos(self, data: bytes, stamp_ns: int) -> None:
        self._sample(stamp_ns)
        self.wire.to_servos(data, stamp_ns)

    def from_servos(self, data: bytes, stamp_ns: int) -> None:
        self.wire.from_servos(data, stamp_ns)

    def ask_for_release(self) -> None:
        """Somebody asks for torque off: an emergency stop, or a command whose purpose it is."""
        self.wire.ask_for_release()

    def assert_clean(self) -> None:
        """Raises AssertionError: a goal, a torque packet or a joint broke a rule."""
        self._sample(self._clock_ns())
        self.wire.assert_clean()
        shown = "\n  ".join(map(str, self.joints.found[:12]))
        assert not self.joints.found, f"{len(self.joints.found)} times a joint broke a rule:\n  {shown}"

    def assert_untouched(self) -> None:
        """Raises AssertionError: a servo was sent a goal or a torque packet."""
        found = self.wire.summary()
        assert (found.goal_packets, found.torque_packets) == (0, 0)

    def summary(self) -> WireSummary:
        found = self.wire.summary()
        violations = found.violations + len(self.joints.found)
        return replace(found, fastest_joint=self.joints.fastest, violations=violations)

    def _sample(self, stamp_ns: int) -> None:
        for index, servo_id in enumerate(self._servo_ids):
            position = self._plant.position_ticks(index)
            self.joints.sample(servo_id, position, stamp_ns, powered=self._truth.holds(servo_id))
