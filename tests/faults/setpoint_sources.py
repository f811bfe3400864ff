"""The rows about the arm and its bus, while something other than a policy's chunks moves the arm.

Targets: a program sets them at its own rate (`edge/control/paced.py`, the LeRobot plugin).
Planned: the arm makes a planned move outside a run (`sefa-edge arm center`, `arm park`).

Faults and judges are those of `lock_step_rows`.
"""

from __future__ import annotations

from dataclasses import replace

from sefa_edge.edge.control import paced
from sefa_edge.edge.control.control_process import ControlConfig, Surroundings
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.motion import Motion
from sefa_edge.edge.control.targets import Targets
from sefa_edge.edge.ipc.faults import OBSTRUCTIONS, Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import Torque
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.edge.tools.arm_moves import slow_move
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.same_arm import SameArm
from sefa_edge.profiles.units import ms_to_ns, period_ns
from tests.faults import arming_rows, lock_step_rows
from tests.faults.lock_step import Bench, ticks_of
from tests.faults.lock_step_rows import GRIPPER, SHOULDER
from tests.faults.row import LEFT, PARKED, Expected, Row

TARGET_EVERY_NS = ms_to_ns(33)
CENTER_VELOCITY_DEG_S = 35.0
SHARE_DONE = (0.25, 0.4)
"""Share of a planned move's duration at which the fault is injected: the arm is then fast and far from its target."""
GONE = "the arm's port disappeared"


class TargetsBench(Bench):
    """A program leads the arm along the swing, thirty times a second."""

    feed_every_ns = TARGET_EVERY_NS

    def _build_loop(self, config: ControlConfig, world: Surroundings) -> ControlLoop:
        self.targets, period = Targets(), period_ns(self.profile.control_rate_hz)
        arm = SameArm(world.open_arm, None)
        return ControlLoop(
            world.clock, world.links, Motion.connect(arm, self.profile, period, self.targets, paced.SETTINGS)
        )

    def offer(self, chunk: ActionChunk) -> None:
        self.targets.set_target(chunk.joint_deg[0].astype(float))

    def expected(self, row: Row[Bench]) -> tuple[Expected, ...]:
        """The arm holds where a run would park; an arm that is gone for too long is not waited for."""
        expected = row.expected
        if expected.fault is Fault.OTHER_ARM:
            return (left(expected, Fault.ARM_DISCONNECTED, GONE),)
        if expected.ending == PARKED and expected.fault:
            return (left(expected, expected.fault, expected.says),)
        if expected.fault is Fault.POWER_LOST:  # the seed determines how long the supply fails
            lost = left(expected, Fault.ARM_TIMEOUT, lock_step_rows.SILENT)
            return expected, lost, left(expected, Fault.ARM_DISCONNECTED, GONE)
        return (expected,)


class PlannedBench(Bench):
    """The arm makes a planned move to its start pose, which is far away for every joint."""

    moving = Mode.ARMED

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.profile = self.profile.model_copy(update={"move_velocity_deg_s": CENTER_VELOCITY_DEG_S})
        self.feed = None
        pose_deg = 70.0 * self.rng.choice([-1, 1], len(self.profile.joints))
        pose_deg[SHOULDER] = 70.0  # far from the park pose, too
        pose_deg[GRIPPER] = 80.0
        for index, ticks in enumerate(ticks_of(self.profile, pose_deg.tolist())):
            self.plant.place(index, ticks)
            self.bus.servos[index].set_register(reg.GOAL_POSITION, ticks)

    def _build_loop(self, config: ControlConfig, world: Surroundings) -> ControlLoop:
        arm, period = SameArm(world.open_arm, None), period_ns(self.profile.control_rate_hz)
        motion = Motion.connect(arm, self.profile, period, settings=slow_move.SETTINGS)
        return ControlLoop(world.clock, world.links, motion)

    def run(self) -> None:
        self.command(Command.ARM)
        self.until(lambda: self.mode is Mode.ARMED)
        distance_deg = abs(self.reports[-1].joint_deg - self.profile.start_pose_deg).max()
        self.play(distance_deg * 15 / 8 / CENTER_VELOCITY_DEG_S * self.rng.uniform(*SHARE_DONE))

    def lead_joint(self, joint: int, target_deg: float) -> None:
        """Does nothing: the planned move already moves every joint."""

    def stand(self, joint: int) -> None:
        self.until(lambda: self.reports[-1].settled)

    def expected(self, row: Row[Bench]) -> tuple[Expected, ...]:
        """An obstructed arm holds where a run would try to park."""
        expected = row.expected
        if expected.ending == PARKED and expected.fault in OBSTRUCTIONS:
            return (left(expected, expected.fault, expected.says),)
        return (expected,)


def left(expected: Expected, fault: Fault, says: str) -> Expected:
    """The arm holds after this fault."""
    return replace(expected, says=says, ending=LEFT, fault=fault, mode=Mode.FAULT, torque=Torque.ON)


ROWS: list[Row[Bench]] = [*lock_step_rows.ARM_ROWS, *arming_rows.ROWS, *lock_step_rows.BUS_ROWS]
NEEDS_CHUNKS = frozenset({"the policy pushes against a narrow calibrated range"})
"""Rows that need a source whose setpoints exceed the limits, which those of a planned move never do."""


def perform(bench: TargetsBench | PlannedBench, row: Row[Bench]) -> None:
    """Inject the fault and check the outcome. Raises AssertionError."""
    try:
        lock_step_rows.inject(bench, row)
        candidates = [expected for expected in bench.expected(row) if expected.fault is bench.final.fault]
        lock_step_rows.judge(bench, (candidates or bench.expected(row))[0])
    finally:
        bench.close()
