"""What the arm does in each mode: applies events, keeps the planned move, returns one setpoint per tick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.control.arming import Arming, ReadingCheck, details_of, first_suspicion, suspicion
from sefa_edge.edge.control.chunks import ChunkPlayer
from sefa_edge.edge.control.clock import Slot
from sefa_edge.edge.control.links import Links
from sefa_edge.edge.control.modes import AfterFault, ModeState, Target, transition
from sefa_edge.edge.control.planned_move import PlannedMove, has_arrived, plan_move
from sefa_edge.edge.control.safety import Commanded, Envelope, Guard, GuardState, Situation, Verdict, judge
from sefa_edge.edge.control.setpoint_source import Piece, SetpointSource
from sefa_edge.edge.control.shaping import Setpoint, resting
from sefa_edge.edge.control.standstill import AT_REST_DEG, Standstill
from sefa_edge.edge.control.watched_arm import WatchedArm
from sefa_edge.edge.ipc.faults import OBSTRUCTIONS, Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import NONE_NS, names_of
from sefa_edge.edge.ipc.vocabulary import Command, Event, Mode, Progress
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.errors import ArmInterrupted
from sefa_edge.firmware_bridge.host.fitted_profile import FittedProfile, fit_profile
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import ms_to_ns

_NAMED_BY_ARM = frozenset(
    {Fault.ARM_TIMEOUT, Fault.POWER_LOST, Fault.ENCODER, Fault.OUTSIDE_RANGE, Fault.POSITION_UNSURE}
)
"""Faults whose joints come from the arm, not from the guard."""


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """What differs between a run, a program that sets targets, and a single move by a command."""

    arming: Arming = Arming.AFTER_CHECK
    after_fault: AfterFault = AfterFault.BY_TABLE


class Motion:
    """Owns the arm, the mode, and the last command. `source` moves the arm in RUNNING, planned moves in ARMED and PARK;
    limits, guard and faults are the same for all of them."""

    def __init__(
        self,
        fitted: FittedProfile,
        period_ns: int,
        arm: WatchedArm,
        source: SetpointSource,
        settings: MotionSettings,
    ) -> None:
        profile = fitted.profile
        self.range_notes = fitted.notes
        """Notes for the user about the calibrated range of this arm."""
        self.limits = profile.limit_table()
        self.envelope = Envelope.of(self.limits, period_ns)
        self.warm_bits = 0
        """Bit i: joint i is warmer than its profile's warning."""
        self.source = source
        self.state = ModeState()
        self.fault_joints = 0
        """Bit i: the latched fault is about joint i."""
        self._details: tuple[str, ...] = ()
        self.commanded = Commanded.standing(arm.state.joint_deg)
        self.arm = arm
        self._profile = profile
        self._patience_ticks = max(1, self.limits.goal_timeout_ns // period_ns)
        self._settle_ns = ms_to_ns(profile.safety.settle_ms)
        self._emergency_retry_ns = ms_to_ns(profile.safety.emergency_retry_ms)
        self._guard = Guard.of(self.limits, period_ns)
        self._settings = settings
        self._reading_check = ReadingCheck(self._guard)
        self._commands: list[Command] = []
        """Commands that wait until the readings have passed the check: ARM, and RUN after it."""
        self._requested_ns = 0
        self._arming_patience_ns = ms_to_ns(profile.safety.recovery_ms)
        self._guarded = GuardState.fresh(Mode.IDLE, len(profile.joints))
        self._judged_joints: dict[Fault, int] = {}
        self._plan = PlannedMove(self.commanded.joint_deg, self.commanded.joint_deg, 0, 0)
        self._hold_deg: np.ndarray | None = None
        self._park_due_ns = 0
        """When the first planned move of the mode should end, regardless of later delays."""
        self._standstill = Standstill(arm, self.envelope)
        self._skipped_in_a_row = 0
        self._switched_torque = False
        self._emergency_ns = 0

    @classmethod
    def connect(
        cls,
        open_arm: Callable[[], Arm],
        profile: ArmProfile,
        period_ns: int,
        source: SetpointSource | None = None,
        settings: MotionSettings | None = None,
    ) -> Motion:
        """Open the arm and start in IDLE; the limits are the profile's, narrowed to the range of this arm.

        Args:
            source: what moves the arm in RUNNING; None: chunks, with the default hand-over.

        Raises:
            SefaError: the arm cannot be opened, does not answer, or cannot reach the profile's poses.
        """
        patience = max(1, ms_to_ns(profile.goal_timeout_ms) // period_ns)
        arm = WatchedArm(open_arm, patience, ms_to_ns(profile.safety.recovery_ms))
        try:
            fitted = fit_profile(profile, arm.identity.calibration)
        except SefaError:
            arm.close()
            raise
        return cls(fitted, period_ns, arm, source or ChunkPlayer(), settings or MotionSettings())

    def apply(self, event: Event, now_ns: int) -> None:
        """Apply one event, and run the entry action of a new mode."""
        before, self.state = self.state, transition(self.state, event, self._settings.after_fault)
        if self.state.fault is not before.fault:
            joints_from_arm = self.arm.fault_joints if event in _NAMED_BY_ARM else 0
            self.fault_joints = self._judged_joints.get(self.state.fault, joints_from_arm)
            self._details = details_of(self.state.fault, self.fault_joints, self.arm, self._guard)
        if event is Progress.ARM_BACK:
            self._hold_deg = None
        if self.state.mode is not before.mode:
            self._enter(before, event, now_ns)

    def advance(self, arm_event: Event | None, links: Links, slot: Slot) -> None:
        """Apply all events since the last tick: from the arm, from the links, and from the motion itself."""
        now_ns = slot.due_ns
        if self._stalled(slot):
            self.apply(Fault.LOOP_OVERRUN, now_ns)
        self._update_standstill(now_ns)
        if arm_event is not None:
            self.apply(arm_event, now_ns)
        for event in links.events():
            self._take_event(event, now_ns)
        chunk = links.newest_chunk()
        if self.state.mode is Mode.RUNNING:
            self._update_source(chunk, now_ns)
        self._judge(links.heartbeat_ns, now_ns)
        self._arm_after_check(now_ns)
        progress = self._progress(now_ns)
        if progress is not None:
            self.apply(progress, now_ns)

    @property
    def subjects(self) -> tuple[str, ...]:
        """What the latched fault is about, as text: what the arm or its servos reported, or the names of joints."""
        return self._details or names_of(self.fault_joints, self.limits.joint_names)

    @property
    def first_reading_is_good(self) -> bool:
        """Whether supply, status and temperature were within limits when the arm was opened."""
        return first_suspicion(self._guard, self.arm.state) is None

    def conclude(self, verdict: Verdict, now_ns: int) -> None:
        """Record what was sent. A goal lost with the port does no harm: after reconnecting, the arm is read again."""
        if verdict.goal is not None:
            self.commanded = self.commanded.after(verdict.goal, self.arm.left_out)
        if verdict.fault is not None:
            self.apply(verdict.fault, now_ns)

    def playing(self, now_ns: int) -> tuple[int, int, int]:
        """Age of the frame acted on, time since the hand-over, chunk id; all NONE_NS when no chunk plays."""
        if self.state.mode is not Mode.RUNNING:
            return NONE_NS, NONE_NS, NONE_NS
        return self.source.playing(now_ns)

    def choose(self, now_ns: int) -> Piece | None:
        """The piece of motion that covers this tick; None: stop, or stay at rest."""
        if self.state.mode in (Mode.ARMED, Mode.PARK):
            return self._plan
        return self.source.choose(now_ns) if self.state.mode is Mode.RUNNING else None

    def shape(self, piece: Piece | None, now_ns: int) -> Setpoint:
        """The setpoint of this tick. While a joint does not answer, all joints stop."""
        if self._standstill.active:
            return self._standstill.setpoint(self.commanded)
        return resting(self._rest_deg()) if piece is None else piece.setpoint(now_ns)

    @property
    def silent(self) -> bool:
        """Whether nothing may be sent: the torque is off, no joint answers, or the loop waits for the arm, at rest.

        A goal would switch on the torque of a servo that restarts after a power cut.
        """
        waiting = self.state.target is Target.AWAIT_ARM and self._standing()
        return not self.state.powered or waiting or self.arm.all_left_out

    @property
    def patience_ticks(self) -> int:
        """Number of skipped ticks in a row that is the fault LOOP_OVERRUN: the profile's `goal_timeout_ms`."""
        return self._patience_ticks

    def settled(self, now_ns: int) -> bool:
        """Whether the arm is at rest where the mode ends."""
        if self.state.mode in (Mode.ARMED, Mode.PARK):
            over = now_ns >= self._plan.end_ns + self._settle_ns
            arrived = self.state.mode is Mode.ARMED or has_arrived(self.arm.state, self._plan.to_deg, self.limits)
            return over and arrived and self._standing() and _near(self.commanded.joint_deg, self._plan.to_deg)
        return self.state.mode is not Mode.RUNNING and self._standing()

    def _take_event(self, event: Event, now_ns: int) -> None:
        """ARM and RUN wait until the readings have passed the check; any other command cancels them."""
        if event is Command.ARM and not self.state.powered and self._settings.arming is Arming.AFTER_CHECK:
            self._commands, self._requested_ns = [Command.ARM], now_ns
        elif event is Command.RUN and self._commands:
            self._commands.append(Command.RUN)
        else:
            if isinstance(event, Command):
                self._commands = []
            self.apply(event, now_ns)

    def _arm_after_check(self, now_ns: int) -> None:
        if not self._commands:
            return
        if self.state.fault or self.state.powered:
            self._commands = []
        elif self._reading_check.passed(now_ns):
            commands, self._commands = self._commands, []
            self._switched_torque = True  # the check takes longer than a tick
            try:
                trouble = self.arm.check_position_limits(now_ns)
            except ArmInterrupted:  # the emergency stop is the next event
                return
            for event in commands if trouble is None else (trouble,):
                self.apply(event, now_ns)
        elif now_ns - self._requested_ns > self._arming_patience_ns:
            self.apply(suspicion(self._guarded) or Fault.ARM_TIMEOUT, now_ns)

    def _update_source(self, chunk: ActionChunk | None, now_ns: int) -> None:
        fault = self.source.update(chunk, self.commanded, self.envelope, now_ns)
        if fault is not None:
            self.apply(fault, now_ns)

    def _judge(self, heartbeat_ns: int | None, now_ns: int) -> None:
        situation = Situation(
            mode=self.state.mode,
            reading=self.arm.state,
            answered=self.arm.answered,
            commanded_deg=self.commanded.joint_deg,
            fed_ns=self.source.fed_ns,
            awaits_first_chunk=self.source.awaits_first,
            heartbeat_ns=heartbeat_ns,
            move_end_ns=self._park_due_ns,
        )
        self._guarded, judgement = judge(self._guarded, situation, self._guard, now_ns)
        self._reading_check.add(self._guarded, self.arm.answered, now_ns)
        self.warm_bits = judgement.warm
        self._judged_joints = {finding.fault: finding.joints for finding in judgement.findings}
        for finding in judgement.findings:
            self.apply(finding.fault, now_ns)

    def _progress(self, now_ns: int) -> Progress | None:
        if self.state.mode is Mode.EMERGENCY:
            return self._cut(now_ns)
        if self.arm.in_doubt or not self.settled(now_ns):
            return None
        stays = self.state.mode is Mode.PARK and self._profile.safety.after_park == "hold"
        return Progress.STAYS if stays else Progress.SETTLED

    def _cut(self, now_ns: int) -> Progress | None:
        """Send torque off in every tick; SETTLED when every servo has confirmed it."""
        self.fault_joints = self.arm.cut(now_ns)
        if self.fault_joints == 0:
            return Progress.SETTLED
        return Progress.ARM_GONE if now_ns - self._emergency_ns > self._emergency_retry_ns else None

    def _enter(self, before: ModeState, event: Event, now_ns: int) -> None:
        mode = self.state.mode
        if mode is Mode.ARMED:
            if before.powered or self._switch_torque(self.arm.energise, now_ns):
                first_deg = self.source.first_deg(np.array(self._profile.start_pose_deg), self.commanded.joint_deg)
                self._move_to(first_deg, self._profile.move_velocity_deg_s, now_ns)
        elif mode is Mode.PARK:
            self._move_to(np.array(self._profile.park_pose_deg), self._profile.safety.park_velocity_deg_s, now_ns)
        elif mode is Mode.RUNNING:
            self.source.start(now_ns)
        elif mode is Mode.HOLD:
            # Yield to an obstacle: hold the measured pose, not the commanded one.
            blocked = isinstance(event, Fault) and event in OBSTRUCTIONS
            self._hold_deg = self.arm.state.joint_deg if blocked else None
        elif mode is Mode.EMERGENCY:
            self._emergency_ns = now_ns
        elif mode is Mode.RELEASED and before.mode is not Mode.EMERGENCY and not self.state.limp:
            self._switch_torque(self.arm.release, now_ns)

    def _switch_torque(self, switch: Callable[[], None], now_ns: int) -> bool:
        self._switched_torque = True
        try:
            switch()
        except ArmInterrupted:  # the emergency stop that interrupted it is the next event
            return False
        except SefaError:
            self.apply(Fault.TORQUE_REFUSED, now_ns)
            return False
        self._stand()
        return True

    def _stand(self) -> None:
        self.commanded = Commanded.standing(self.arm.state.joint_deg)
        self._hold_deg = None

    def _move_to(self, pose_deg: np.ndarray, velocity_deg_s: float, now_ns: int) -> None:
        inside_deg = np.clip(pose_deg, self.limits.min_deg, self.limits.max_deg)
        self._plan = plan_move(self.commanded.joint_deg, inside_deg, self.limits, velocity_deg_s, now_ns)
        self._park_due_ns = self._plan.end_ns

    def _rest_deg(self) -> np.ndarray:
        return self.commanded.stopping_deg(self.envelope) if self._hold_deg is None else self._hold_deg

    def _standing(self) -> bool:
        if (np.abs(self.commanded.step_deg) > AT_REST_DEG).any():
            return False
        if self.state.mode is not Mode.HOLD:
            return True
        rest_deg = np.clip(self._rest_deg(), self.limits.min_deg, self.limits.max_deg)
        return _near(self.commanded.joint_deg, rest_deg)

    def _update_standstill(self, now_ns: int) -> None:
        stood, self.commanded = self._standstill.active, self._standstill.update(self.commanded, now_ns)
        if stood and not self._standstill.active and self.state.mode in (Mode.ARMED, Mode.PARK):
            self._replan(now_ns)

    def _replan(self, now_ns: int) -> None:
        """Plan the rest of the move again, from rest."""
        arming = self.state.mode is Mode.ARMED
        velocity_deg_s = self._profile.move_velocity_deg_s if arming else self._profile.safety.park_velocity_deg_s
        self._plan = plan_move(self.commanded.joint_deg, self._plan.to_deg, self.limits, velocity_deg_s, now_ns)

    def _stalled(self, slot: Slot) -> bool:
        excused = self._switched_torque  # confirming it takes longer than a tick
        self._switched_torque = False
        late = slot.skipped_before > 0 and not excused
        self._skipped_in_a_row = self._skipped_in_a_row + slot.skipped_before if late else 0
        return self._skipped_in_a_row >= self._patience_ticks and self.state.powered


def _near(left_deg: np.ndarray, right_deg: np.ndarray) -> bool:
    return bool((np.abs(left_deg - right_deg) <= AT_REST_DEG).all())
