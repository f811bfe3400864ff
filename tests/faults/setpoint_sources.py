"""The rows that concern the arm, while something else than a policy's chunks moves it.

Targets: a program sets them at its own rate (`edge/control/paced.py`, the LeRobot plugin).
Planned: the arm is on a planned move outside a run (`sefa-edge arm center`, `arm park`).

What is done to the arm, and the judges of the wire, are those of `lock_step_rows`.
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
"""How much of its duration a planned move has behind it when the fault strikes: it is fast then, and has far to go."""
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
        """It holds where a run would park; an arm that is away for too long is not waited for."""
        expected = row.expected
        if expected.fault is Fault.OTHER_ARM:
            return (left(expected, Fault.ARM_DISCONNECTED, GONE),)
        if expected.ending == PARKED and expected.fault:
            return (left(expected, expected.fault, expected.says),)
        if expected.fault is Fault.POWER_LOST:  # how long the supply is away is up to the seed
            lost = left(expected, Fault.ARM_TIMEOUT, lock_step_rows.SILENT)
            return expected, lost, left(expected, Fault.ARM_DISCONNECTED, GONE)
        return (expected,)


class PlannedBench(Bench):
    """A person has the arm brought to its start pose, from far away in every joint."""

    moving = Mode.ARMED

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.profile = self.profile.model_copy(update={"move_velocity_deg_s": CENTER_VELOCITY_DEG_S})
        self.feed = None
        pose_deg = 70.0 * self.dice.choice([-1, 1], len(self.profile.joints))
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
        way_deg = abs(self.reports[-1].joint_deg - self.profile.start_pose_deg).max()
        self.play(way_deg * 15 / 8 / CENTER_VELOCITY_DEG_S * self.dice.uniform(*SHARE_DONE))

    def lead_joint(self, joint: int, target_deg: float) -> None:
        """The planned move leads every joint away from where it is."""

    def stand(self, joint: int) -> None:
        self.until(lambda: self.reports[-1].settled)

    def expected(self, row: Row[Bench]) -> tuple[Expected, ...]:
        """What is obstructed holds where a run would try the park pose."""
        expected = row.expected
        if expected.ending == PARKED and expected.fault in OBSTRUCTIONS:
            return (left(expected, expected.fault, expected.says),)
        return (expected,)


def left(expected: Expected, fault: Fault, says: str) -> Expected:
    """The arm holds after this fault."""
    return replace(expected, says=says, ending=LEFT, fault=fault, mode=Mode.FAULT, torque=Torque.ON)


ROWS: list[Row[Bench]] = [*lock_step_rows.ARM_ROWS, *arming_rows.ROWS, *lock_step_rows.BUS_ROWS]
LED_BY_CHUNKS = frozenset({"the policy pushes against a narrow calibrated range"})
"""Rows that need a source which can be led beyond the limits: no planned move is."""


def perform(bench: TargetsBench | PlannedBench, row: Row[Bench]) -> None:
    """Do it, and judge what became of it. Raises AssertionError."""
    try:
        lock_step_rows.inject(bench, row)
        fitting = [wanted for wanted in bench.expected(row) if wanted.fault is bench.final.fault]
        lock_step_rows.judge(bench, (fitting or bench.expected(row))[0])
    finally:
        bench.close()
