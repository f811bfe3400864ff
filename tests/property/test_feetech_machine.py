"""The driver under any sequence of good and damaged cycles, on the simulated bus and a wire with pieces of any size.

After any damage the next cycle must be complete, and every value read must come from a valid frame. Only the declared
exceptions are raised, and a servo receives only complete goals.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sefa_edge.edge.control.clock import ManualClock
from sefa_edge.firmware_bridge.host.calibration import joint_scale, nominal_calibration
from sefa_edge.firmware_bridge.host.errors import ArmTimeout, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import connect_feetech_arm
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.protocol import decode
from sefa_edge.firmware_bridge.host.messages import JointGoal, JointState
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.units import NS_PER_S, period_ns
from tests.property.feetech_damage import DAMAGES, Damage, PiecewiseWire, flip_a_bit
from tests.property.fuzz_feetech import try_stream

PROFILE = load_arm_profile("so101_sim")
N = len(PROFILE.joints)
PERIOD_NS = period_ns(PROFILE.control_rate_hz)
SCALES = [
    joint_scale(joint, entry) for joint, entry in zip(PROFILE.joints, nominal_calibration(PROFILE).joints, strict=True)
]
POSITION = reg.PRESENT_POSITION.address - reg.STATE_BLOCK.address

damages = st.sampled_from(DAMAGES)
seeds = st.integers(0, 2**32)
FUZZED_STREAMS = 2000
poses = st.lists(st.floats(5, 60), min_size=N, max_size=N)


class DriverMachine(RuleBasedStateMachine):
    """One arm, one bus, one clock; a cycle is a read, perhaps a goal, and the rest of the period."""

    @initialize(seed=seeds, largest_piece=st.sampled_from([1, 7, 21, 64, 4096]), echoes=st.booleans())
    def connect(self, seed: int, largest_piece: int, echoes: bool) -> None:
        self.rng = Random(seed)
        self.clock = ManualClock(NS_PER_S)
        self.bus = SimulatedBus.of_arm(PROFILE, KinematicPlant.of_arm(PROFILE, self.clock.now_ns))
        self.bus.echoes = echoes
        self.wire = PiecewiseWire(self.bus, self.clock, self.rng)
        self.wire.largest_piece = largest_piece
        self.arm = connect_feetech_arm(PROFILE, Link(self.wire), None)
        self.received = self.late = b""
        self.known_deg = np.zeros(N)
        self.commanded = {servo.servo_id: servo.register(reg.GOAL_POSITION) for servo in self.bus.servos}
        self.cycle_must_be_complete()

    @rule()
    def good_cycle(self) -> None:
        self.cycle_must_be_complete()

    @rule(damage=damages)
    def damaged_cycle(self, damage: Damage) -> None:
        self.read(damage)
        self.rest()
        self.cycle_must_be_complete()

    @rule(servo_id=st.integers(1, N))
    def a_servo_is_silent_for_a_cycle(self, servo_id: int) -> None:
        self.bus.servo(servo_id).connected = False
        state = self.read()
        self.bus.servo(servo_id).connected = True
        assert state is not None
        assert state.valid_mask.tolist() == [joint.servo_id != servo_id for joint in PROFILE.joints]
        self.rest()
        self.cycle_must_be_complete()

    @rule(share=st.floats(0, 0.35))
    def answers_are_late_in_time(self, share: float) -> None:
        self.bus.adapter_delay_ns = round(share * PERIOD_NS)
        self.cycle_must_be_complete()
        self.bus.adapter_delay_ns = 0

    @rule(periods=st.floats(0.7, 1.3))
    def answers_are_too_late(self, periods: float) -> None:
        """They are taken for replies to the next request; after that all servos are up to date again."""
        self.bus.adapter_delay_ns = round(periods * PERIOD_NS)
        assert self.read() is None
        self.bus.adapter_delay_ns, self.late = 0, self.received
        self.rest()
        self.read()
        self.rest()
        self.cycle_must_be_complete()

    @rule(pose=poses)
    def goal(self, pose: list[float]) -> None:
        self.send(pose)
        expected = [scale.to_ticks(position) for scale, position in zip(SCALES, pose, strict=True)]
        assert list(self.commanded.values()) == expected
        self.rest()

    @rule(pose=poses)
    def damaged_goal(self, pose: list[float]) -> None:
        """Every servo receives the goal completely or not at all; the next goal arrives."""
        before = dict(self.commanded)
        self.bus.disturb_request = lambda data: flip_a_bit(data, self.rng)
        self.send(pose)
        self.bus.disturb_request = lambda data: data
        expected = [scale.to_ticks(position) for scale, position in zip(SCALES, pose, strict=True)]
        assert list(self.commanded.values()) in (list(before.values()), expected)
        self.clock.sleep_until(self.clock.now_ns() + 2 * PERIOD_NS)
        self.cycle_must_be_complete()

    @rule(damage=damages)
    def torque(self, damage: Damage) -> None:
        """Torque on is confirmed, or the error names the servos that did not confirm."""
        hits = iter([True, False, True])
        self.bus.disturb = lambda data: damage(data, self.rng) if next(hits, False) else data
        with suppress(ArmUnconfirmed):
            self.arm.enable_torque()
            assert all(servo.register(reg.TORQUE_ENABLE) for servo in self.bus.servos)
        self.bus.disturb = lambda data: data
        self.commanded = {servo.servo_id: servo.register(reg.GOAL_POSITION) for servo in self.bus.servos}
        self.rest()
        self.cycle_must_be_complete()

    @invariant()
    def servos_have_the_goals_that_they_were_sent(self) -> None:
        for servo in self.bus.servos:
            assert servo.register(reg.GOAL_POSITION) == self.commanded[servo.servo_id]

    # -- helpers ---------------------------------------------------------------------------------------------

    def send(self, pose: list[float]) -> None:
        self.arm.send(JointGoal(1, 0, 0, np.array(pose)))
        self.commanded = {servo.servo_id: servo.register(reg.GOAL_POSITION) for servo in self.bus.servos}

    def rest(self) -> None:
        self.clock.sleep_until((self.clock.now_ns() // PERIOD_NS + 1) * PERIOD_NS)

    def cycle_must_be_complete(self) -> None:
        state = self.read()
        assert state is not None
        assert state.valid_mask.all()
        assert not state.age_ns.any()
        self.rest()

    def read(self, damage: Damage | None = None) -> JointState | None:
        """One reading, compared with the valid frames among the received bytes; None if no servo replied."""

        def disturb(data: bytes) -> bytes:
            self.received = damage(data, self.rng) if damage else data
            return self.received

        self.bus.disturb = disturb
        begun_ns = self.clock.now_ns()
        try:
            state = self.arm.read_state()
        except ArmTimeout:
            return None
        finally:
            self.bus.disturb = lambda data: data
            assert self.clock.now_ns() - begun_ns < PERIOD_NS
        for row, (joint, scale) in enumerate(zip(PROFILE.joints, SCALES, strict=True)):
            valid_deg = {scale.to_joint(ticks) for ticks in positions_in(self.late + self.received, joint.servo_id)}
            assert state.joint_deg[row] in (valid_deg if state.valid_mask[row] else {self.known_deg[row]})
        self.known_deg, self.late = state.joint_deg, b""
        return state


def positions_in(data: bytes, servo_id: int) -> list[int]:
    """Positions of a servo in the valid frames among these bytes, ticks."""
    return [
        reg.PRESENT_POSITION.decode(packet.parameters[POSITION:])
        for packet in decode(data)
        if packet.servo_id == servo_id and len(packet.parameters) == reg.STATE_BLOCK.count
    ]


DriverMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestDriver = DriverMachine.TestCase


def test_fuzzed_streams_are_decoded_correctly() -> None:
    for seed in range(FUZZED_STREAMS):
        try_stream(seed)
