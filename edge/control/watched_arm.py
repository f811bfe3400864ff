"""An arm that may fail: missing answers, lost power and a vanished port become events, and a lost arm is reconnected.

The registers of a joint that did not answer are read before it is sent another goal. Only `energise`, on a command,
switches torque on: a servo that has lost its power stays limp.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sefa_edge.edge.control.attempts import with_retries
from sefa_edge.edge.control.safety import bits, plausible
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import Torque
from sefa_edge.edge.ipc.vocabulary import Event, Progress
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.errors import (
    ArmDisconnected,
    ArmFault,
    ArmInterrupted,
    ArmTimeout,
    ArmUnconfirmed,
    JointsOutside,
    OtherArm,
)
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointGoal, Preparation, TorqueReading
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.units import ms_to_ns

MISSES_BEFORE_STANDSTILL = 3
"""Readings in a row without an answer after which the arm stops: a single one may be noise."""

ENCODER_READINGS = 5
"""Implausible readings in a row after which the encoder of a joint counts as faulty."""

FIRST_ATTEMPTS = 40
"""Attempts of the first reading, a quarter of a second: nothing depends on it yet, and the machine may be busy."""

RETRY_NS = ms_to_ns(250)
"""Time between two attempts to reach a lost arm; an attempt may take longer than a tick."""


class WatchedArm:
    """Owns a connected Arm. `open_arm` connects it, now and whenever the port has vanished.

    A joint may miss `patience` readings in a row; reconnecting to a lost arm is tried for `recovery_ns`.

    Raises, when made:
        SefaError: the arm cannot be opened, or does not answer.
    """

    def __init__(self, open_arm: Callable[[], Arm], patience: int, recovery_ns: int) -> None:
        self._open_arm = open_arm
        self._patience = patience
        self._recovery_ns = recovery_ns
        arm = open_arm()
        self._arm: Arm | None = arm
        self.state = with_retries(arm.read_state, FIRST_ATTEMPTS)
        """The last reading; joints that did not answer keep their last values."""
        self.torque = Torque.UNTOUCHED
        self._should_hold = False
        self.names, self.identity = arm.joint_names, arm.identity
        self.fault_joints = 0
        """Bit i: the last fault was about joint i."""
        self.fault_detail = ""
        """What the arm reported about its last fault; empty: only the joints."""
        self._prepares_when_armed = False
        self._pending_events: deque[tuple[Event, int]] = deque()
        self._lost_since_ns: int | None = None
        self._cut_off = False
        self._next_try_ns = 0
        self._forget()

    @property
    def lost(self) -> bool:
        """Whether the arm is lost and reconnecting is being tried."""
        return self._lost_since_ns is not None

    @property
    def answered(self) -> np.ndarray:
        """Boolean [n]: the joints that answered in this tick with a plausible position."""
        return self._answered & (not self.lost)

    @property
    def left_out(self) -> np.ndarray:
        """Boolean [n]: the joints that are sent no goal now, because they might not receive it.

        This includes a joint that did not answer in this tick: a stalled line would deliver old goals in a burst, and
        a joint that missed a goal would jump to the next one.
        """
        return self.stopped_joints | (self._silent > 0)

    @property
    def stopped_joints(self) -> np.ndarray:
        """Boolean [n]: the joints that stopped because they were sent no goals, or have lost their power."""
        return self._in_doubt | self._missed_goals | self._unpowered

    @property
    def in_doubt(self) -> bool:
        """Whether a joint was silent and its registers have not been read since."""
        return bool(self._in_doubt.any())

    @property
    def must_stand(self) -> bool:
        """Whether the arm must stop: it is lost, a joint is in doubt, or a joint reports implausible positions."""
        return self.lost or self.in_doubt or bool((self._rejected >= MISSES_BEFORE_STANDSTILL).any())

    @property
    def all_left_out(self) -> bool:
        """Whether no joint may be sent a goal."""
        return bool(self.left_out.all())

    def take_held_goals(self) -> np.ndarray:
        """The goals [n] found in the registers of joints, each returned once; NaN: not read."""
        held_deg, self._held_deg = self._held_deg, np.full_like(self._held_deg, np.nan)
        return held_deg

    def resume_goals(self) -> None:
        """Send goals again to the joints that had missed some."""
        self._missed_goals = self._in_doubt.copy()

    def prepare(self) -> Preparation:
        """Write the servo settings of the profile. Raises SefaError: it would not be safe to use the arm."""
        return self._connected().prepare()

    def prepare_when_armed(self) -> None:
        """Delay `prepare` until the torque is switched on: for an arm whose first reading is bad."""
        self._prepares_when_armed = True

    def read_torque(self) -> TorqueReading:
        """The joints with torque on, read from the servos now."""
        try:
            return self._connected().read_torque()
        except ArmFault:
            return TorqueReading((), self.names)

    def check_position_limits(self, now_ns: int) -> Fault | None:
        """The fault that forbids torque on at the present pose; None: it is allowed. Writes nothing.

        Raises:
            ArmInterrupted: an emergency stop takes precedence.
        """
        try:
            self._connected().check_position_limits()
        except ArmInterrupted:
            raise
        except JointsOutside as outside:
            self.fault_detail, self.fault_joints = str(outside), bits(np.isin(self.names, outside.joints))
            return Fault.OUTSIDE_RANGE
        except ArmUnconfirmed as unsure:
            self.fault_joints = bits(np.isin(self.names, unsure.joints))
            return Fault.POSITION_UNSURE
        except ArmDisconnected:
            self._disconnect(now_ns)
            return Fault.ARM_DISCONNECTED
        except ArmFault:
            return Fault.ARM_TIMEOUT
        return None

    def read(self, now_ns: int) -> Event | None:
        """Read every joint once; returns what changed."""
        if self._lost_since_ns is not None:
            return self._reconnect(now_ns, self._lost_since_ns)
        try:
            self._read_state()
            self._read_registers()
        except ArmInterrupted:  # the emergency stop comes next; nothing was read
            return None
        except ArmTimeout:
            self._silent += 1
            self._answered = np.zeros_like(self._answered)
        except ArmDisconnected:
            self._disconnect(now_ns)
        self._mark_in_doubt(self._silent >= MISSES_BEFORE_STANDSTILL)
        if self._silent.max() >= self._patience and not self.lost:
            self._lose(now_ns, Fault.ARM_TIMEOUT, bits(self._silent >= self._patience))
        return self._next_event()

    def send(self, goal: JointGoal) -> bool:
        """Send a goal; False if the port is gone, or is back and the arm has not been read since.

        Such an arm has missed goals: it would jump to the next one.
        """
        if self._arm is None or self._cut_off:
            return False
        try:
            self._arm.send(replace(goal, left_out=bits(self.left_out)))
        except ArmInterrupted:
            return False
        except ArmDisconnected:
            self._disconnect(goal.due_ns)
            return False
        return True

    def energise(self) -> None:
        """Torque on at the present pose. Raises ArmFault; InputError if a delayed `prepare` refuses."""
        self.torque, self._should_hold = Torque.UNKNOWN, True
        arm = self._connected()
        if self._prepares_when_armed:
            self._prepares_when_armed = False
            arm.prepare()
        with_retries(arm.enable_torque)
        self.torque = Torque.ON
        arrived = True
        try:
            self.state = with_retries(arm.read_state)
        except ArmTimeout:  # the torque is confirmed: from here on the loop handles silence
            arrived = False
        self._forget()
        if not arrived:
            self._mark_in_doubt(np.ones(len(self._silent), bool))

    def release(self) -> None:
        """Torque off, read back. Raises ArmFault."""
        self.torque, self._should_hold = Torque.UNKNOWN, False
        with_retries(self._connected().release_torque)
        self.torque = Torque.OFF

    def cut(self, now_ns: int) -> int:
        """One attempt at torque off, for the emergency stop; bit i: joint i did not confirm it."""
        names = self.names
        self.torque, self._should_hold = Torque.UNKNOWN, False
        try:
            self._connected().release_torque()
        except ArmUnconfirmed as refused:
            return bits(np.isin(names, refused.joints))
        except ArmFault as fault:
            if isinstance(fault, ArmDisconnected) and not self.lost:
                self._disconnect(now_ns)
            return bits(np.ones(len(names), bool))
        self.torque = Torque.OFF
        return 0

    def close(self) -> None:
        """Close the port; the torque stays as it is."""
        if self._arm is not None:
            self._arm.close()
            self._arm = None

    def _connected(self) -> Arm:
        if self._arm is None:
            raise ArmDisconnected("the arm's port is gone", "check the USB cable")
        return self._arm

    def _next_event(self) -> Event | None:
        if not self._pending_events:
            return None
        event, self.fault_joints = self._pending_events.popleft()
        return event

    def _read_state(self) -> None:
        """Read the arm; a joint without a position, or with an implausible one, counts as not answering."""
        state = self._connected().read_state()
        answered = state.valid_mask & np.isfinite(state.joint_deg)
        elapsed_ns = state.stamp_ns - self._answered_ns
        fresh = (self._silent >= MISSES_BEFORE_STANDSTILL) | (not self._should_hold)  # it may have been moved by hand
        accepted = answered & (fresh | plausible(state.joint_deg, self.state.joint_deg, elapsed_ns))
        if not accepted.all():
            joint_deg = np.where(accepted, state.joint_deg, self.state.joint_deg)
            state = replace(state, joint_deg=joint_deg, valid_mask=accepted)
        self.state, self._answered = state, accepted
        self._answered_ns = np.where(answered, state.stamp_ns, self._answered_ns)
        self._silent = np.where(answered, 0, self._silent + 1)
        self._rejected = np.where(answered, np.where(accepted, 0, self._rejected + 1), self._rejected)
        faulty = answered & (self._rejected == ENCODER_READINGS)
        if faulty.any():
            self._pending_events.append((Fault.ENCODER, bits(faulty)))

    def _mark_in_doubt(self, joints: np.ndarray) -> None:
        self._in_doubt = self._in_doubt | joints
        self._missed_goals = self._missed_goals | joints

    def _read_registers(self) -> None:
        """Read the registers of joints that answer again after silence."""
        returned = self._in_doubt & (self._silent == 0)
        if not returned.any():
            return
        if not self._should_hold:
            self._in_doubt = self._in_doubt & ~returned
            return
        try:
            held = self._connected().read_command()
        except ArmTimeout:  # retried in the next tick
            return
        self._classify(returned & held.valid_mask, held)
        if not self.in_doubt:
            self._report_power_loss()

    def _classify(self, asked: np.ndarray, held: HeldCommand) -> None:
        """A joint that kept torque and power continues from the goal it holds; any other is sent no more goals."""
        kept = asked & held.torque_on & held.powered_throughout
        self._held_deg = np.where(kept, held.goal_deg, self._held_deg)
        self._unpowered = self._unpowered | (asked & ~kept)
        self._limp = np.where(asked, ~held.torque_on, self._limp)
        self._in_doubt = self._in_doubt & ~asked

    def _report_power_loss(self) -> None:
        lost = bits(self._unpowered)
        if lost == self._reported_unpowered:
            return
        self._reported_unpowered = lost
        if self._limp.all():
            self.torque, self._should_hold = Torque.OFF, False
            self._pending_events.append((Progress.LIMP, lost))
        else:
            self._pending_events.append((Fault.POWER_LOST, lost))

    def _forget(self) -> None:
        n = len(self.state.joint_deg)
        self._silent, self._rejected = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._answered_ns = np.full(n, self.state.stamp_ns, np.int64)
        self._answered = np.ones(n, bool)
        self._in_doubt, self._missed_goals = np.zeros(n, bool), np.zeros(n, bool)
        self._unpowered, self._limp = np.zeros(n, bool), np.zeros(n, bool)
        self._reported_unpowered = 0
        self._held_deg = np.full(n, np.nan)

    def _disconnect(self, now_ns: int) -> None:
        self.close()
        self._cut_off = True
        self._mark_in_doubt(np.ones(len(self._silent), bool))
        self._lose(now_ns, Fault.ARM_DISCONNECTED, 0)

    def _lose(self, now_ns: int, fault: Fault, joints: int) -> None:
        self._pending_events.append((fault, joints))
        self._lost_since_ns, self._next_try_ns = now_ns, now_ns + RETRY_NS

    def _reconnect(self, now_ns: int, since_ns: int) -> Event | None:
        if self._pending_events:  # lost while sending, after the reading of that tick
            return self._next_event()
        if now_ns - since_ns > self._recovery_ns:
            self._report_power_loss()  # of the joints that could be read
            return self._next_event() or Progress.ARM_GONE
        if now_ns < self._next_try_ns:
            return None
        self._next_try_ns = now_ns + RETRY_NS
        return self._try_to_reconnect()

    def _try_to_reconnect(self) -> Event | None:
        all_joints = np.ones(len(self._silent), bool)
        try:
            if self._arm is None:
                self._arm = self._open_arm()
            state = self._arm.read_state()
            if not state.valid_mask.all():
                return None
            if self._should_hold:
                held = self._arm.read_command()
                if not held.valid_mask.all():
                    return None
                self._classify(all_joints, held)
                if not self._unpowered.any():
                    self._arm.prepare()
        except OtherArm as other:
            self.fault_detail, self.fault_joints = str(other), 0
            return Fault.OTHER_ARM
        except ArmDisconnected:
            self.close()
            return None
        except SefaError:  # the port is not back yet, or a servo is still starting: the next attempt may succeed
            return None
        self.state, self._answered = state, all_joints
        self._answered_ns = np.full(len(all_joints), state.stamp_ns, np.int64)
        self._silent, self._rejected = np.zeros_like(self._silent), np.zeros_like(self._silent)
        self._in_doubt = ~all_joints
        self._lost_since_ns = None
        self._cut_off = False
        self._report_power_loss()
        return self._next_event() or Progress.ARM_BACK
