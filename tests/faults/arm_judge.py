"""The judge of a fault row: wire monitor and joint monitor, attached to the simulated servos of a rig."""

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
    """Taps a bus and samples the joints of its plant at every request.

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
        """Torque off is requested: by an emergency stop, or by a command that releases the arm."""
        self.wire.ask_for_release()

    def assert_clean(self) -> None:
        """Raises AssertionError if a goal, a torque packet or a joint broke a rule."""
        self._sample(self._clock_ns())
        self.wire.assert_clean()
        shown = "\n  ".join(map(str, self.joints.violations[:12]))
        assert not self.joints.violations, f"{len(self.joints.violations)} violations by joints:\n  {shown}"

    def assert_untouched(self) -> None:
        """Raises AssertionError if any goal or torque packet was sent."""
        summary = self.wire.summary()
        assert (summary.goal_packets, summary.torque_packets) == (0, 0)

    def summary(self) -> WireSummary:
        wire = self.wire.summary()
        violations = wire.violations + len(self.joints.violations)
        return replace(wire, fastest_joint=self.joints.fastest, violations=violations)

    def _sample(self, stamp_ns: int) -> None:
        for index, servo_id in enumerate(self._servo_ids):
            position = self._plant.position_ticks(index)
            self.joints.sample(servo_id, position, stamp_ns, powered=self._truth.holds(servo_id))
