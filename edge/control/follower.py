"""One tick of an arm that follows a target: read, judge, check, send. No thread, no clock: `paced.py` has both.

Unlike the control loop of a run (`edge/control/loop.py`) this one has no modes: the program that leads the arm starts
and ends it. The rest is the same: every goal is made by the limiter, the guard judges every reading, a fault latches.
"""

from __future__ import annotations

import numpy as np

from sefa_edge.edge.control.arming import subjects_of
from sefa_edge.edge.control.modes import ModeState, describe
from sefa_edge.edge.control.planned_move import PlannedMove, has_arrived, plan_move
from sefa_edge.edge.control.safety import Commanded, Envelope, Guard, GuardState, Situation, check, judge
from sefa_edge.edge.control.shaping import Setpoint, resting
from sefa_edge.edge.control.standstill import Standstill
from sefa_edge.edge.control.watched_arm import WatchedArm
from sefa_edge.edge.ipc.faults import FAULTS, OBSTRUCTIONS, Fault, Outcome
from sefa_edge.edge.ipc.vocabulary import Event, Mode, Progress
from sefa_edge.firmware_bridge.host.errors import ArmFault
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import ms_to_ns

ARRIVED_DEG = 1e-6


class Follower:
    """Leads an energised arm to `target_deg`, and from there on to wherever it is told next.

    After a fault it comes to a stand and holds, deaf to targets; an arm that is lost is sent nothing more. `lead` and
    `state` may be used by another thread than `tick`: each replaces or reads one reference.
    """

    def __init__(self, arm: WatchedArm, profile: ArmProfile, period_ns: int) -> None:
        """The arm's torque is on (`WatchedArm.energise`); its present pose is the first target."""
        self.fault: ArmFault | None = None
        """What has ended the following, with its hint."""
        self.lost = False
        """Whether the arm cannot be heard any more."""
        self._arm = arm
        self._profile = profile
        self._limits = profile.limit_table()
        self._envelope = Envelope.of(self._limits, period_ns)
        self._guard = Guard.of(self._limits, period_ns)
        self._guarded = GuardState.fresh(Mode.RUNNING, len(profile.joints))
        self._commanded = Commanded.standing(arm.state.joint_deg)
        self._target_deg = self._commanded.joint_deg
        self._standstill = Standstill(arm, self._envelope)
        self._plan: PlannedMove | None = None
        self._stand_deg: np.ndarray | None = None
        """Where to hold, whatever the target is by now."""

    @property
    def state(self) -> JointState:
        """The newest reading of the arm."""
        return self._arm.state

    def lead(self, target_deg: np.ndarray) -> np.ndarray:
        """Head for a pose float64 [n]; returns where it lies inside the profile's limits, which the way there keeps.

        Raises:
            ArmFault: a fault has ended the following.
            InputError: something in it is no finite number; the arm goes on as before.
        """
        if self.fault is not None:
            raise self.fault
        if not np.isfinite(target_deg).all():
            raise InputError(f"the target holds {target_deg.tolist()}", "a target is finite numbers only")
        self._target_deg = np.clip(target_deg, self._limits.min_deg, self._limits.max_deg)
        return self._target_deg

    def head_for_park(self, now_ns: int) -> None:
        """Go to the profile's park pose, slowly, from where the arm is being sent now."""
        park_deg, velocity_deg_s = np.array(self._profile.park_pose_deg), self._profile.safety.park_velocity_deg_s
        self._plan = plan_move(self._commanded.joint_deg, park_deg, self._limits, velocity_deg_s, now_ns)
        self._stand_deg = None

    def parked(self, now_ns: int) -> bool:
        """Whether the move to the park pose has ended and the arm has had time to arrive."""
        if self._plan is None or now_ns < self._plan.end_ns + ms_to_ns(self._profile.safety.settle_ms):
            return False
        there = has_arrived(self._arm.state, self._plan.to_deg, self._limits)
        return there and _near(self._commanded.joint_deg, self._plan.to_deg)

    def halt(self) -> None:
        """Come to a stand on the shortest way; after a fault it does so anyway."""
        if self.fault is None:
            self._stand_deg = self._commanded.stopping_deg(self._envelope)

    @property
    def standing(self) -> bool:
        """Whether the arm was told to stay where it is to hold."""
        if self._stand_deg is None:
            return False
        reachable_deg = np.clip(self._stand_deg, self._limits.min_deg, self._limits.max_deg)
        return _near(self._commanded.joint_deg, reachable_deg) and _near(self._commanded.step_deg, 0.0)

    @np.errstate(invalid="ignore")  # as in the control loop
    def tick(self, now_ns: int) -> None:
        """One control period. What goes wrong becomes `fault`, not an exception."""
        if self.lost:
            return
        event = self._arm.read(now_ns)
        self._commanded = self._standstill.update(self._commanded, now_ns)
        if event is not None:
            self._take(event)
        if self.lost or self._arm.mute:
            return
        if self.fault is None:
            self._judge(now_ns)
        verdict = check(self._setpoint(now_ns), self._commanded, self._envelope, now_ns)
        if verdict.goal is not None and self._arm.send(verdict.goal):
            self._commanded = self._commanded.after(verdict.goal, self._arm.left_out)

    def _setpoint(self, now_ns: int) -> Setpoint:
        """While a joint does not answer, all come to a stand, as in a run."""
        return self._standstill.setpoint(self._commanded) if self._standstill.active else self._wanted(now_ns)

    def _take(self, event: Event) -> None:
        """What the arm tells. One that is lost, or limp, is sent nothing more; a part of it that is not well, the rest
        holds."""
        if event is Progress.LIMP:
            self.lost = True
            self._latch(ModeState(Mode.RELEASED, fault=Fault.POWER_LOST, limp=True), 0)
        elif isinstance(event, Fault):
            self.lost = FAULTS[event].outcome is Outcome.AWAIT_ARM
            self._stand_deg = self._commanded.stopping_deg(self._envelope)
            self._latch(ModeState(Mode.HOLD, fault=event), self._arm.fault_joints)

    def _wanted(self, now_ns: int) -> Setpoint:
        if self._stand_deg is not None:
            return resting(self._stand_deg)
        return resting(self._target_deg) if self._plan is None else self._plan.setpoint(now_ns)

    def _judge(self, now_ns: int) -> None:
        situation = Situation(
            mode=Mode.RUNNING if self._plan is None else Mode.PARK,
            reading=self._arm.state,
            heard=self._arm.heard,
            commanded_deg=self._commanded.joint_deg,
            fed_ns=now_ns,  # who leads may pause for as long as it likes: the arm stands meanwhile
            awaits_first_chunk=False,
            heartbeat_ns=None,
            move_end_ns=now_ns if self._plan is None else self._plan.end_ns,
        )
        self._guarded, judgement = judge(self._guarded, situation, self._guard, now_ns)
        if judgement.findings:
            worst = judgement.findings[0]
            # Give way to what is there: hold where the arm is, not where it should be.
            blocked = worst.fault in OBSTRUCTIONS
            rest_deg = self._commanded.stopping_deg(self._envelope)
            self._stand_deg = self._arm.state.joint_deg if blocked else rest_deg
            self._latch(ModeState(Mode.HOLD, fault=worst.fault), worst.joints)

    def _latch(self, state: ModeState, joints: int) -> None:
        if self.fault is None:
            subjects = subjects_of(state.fault, joints, self._arm, self._guard)
            self.fault = ArmFault(*describe(state, subjects))


def _near(left_deg: np.ndarray, right_deg: np.ndarray | float) -> bool:
    return bool((np.abs(left_deg - right_deg) <= ARRIVED_DEG).all())
