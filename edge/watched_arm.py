"""The arm as the loop sees it: silence, complaints, a vanished port become events, and it is waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from sefa_edge.edge.faults import Fault
from sefa_edge.edge.modes import Event, Progress
from sefa_edge.edge.records import Torque
from sefa_edge.edge.safety import bits
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.errors import (
    ArmDisconnected,
    ArmFault,
    ArmInterrupted,
    ArmTimeout,
    ArmUnconfirmed,
)
from sefa_edge.firmware_bridge.host.messages import JointGoal, Preparation
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.units import ms_to_ns

QUIET = 3
"""Readings in a row without an answer after which a joint is not driven on: one alone may be noise."""

ASLEEP = 20
"""Readings in a row without an answer after which a joint may have lost its power; fewer in a slow loop."""

ATTEMPTS = 5
"""How often a request outside the rhythm of the loop is made before its failure counts."""

RETRY_NS = ms_to_ns(250)
"""Time between two attempts to reach a lost arm; an attempt may take longer than a tick."""

T = TypeVar("T")


class WatchedArm:
    """Owns a connected Arm. `open_arm` connects it, now and again after the port has vanished.

    A joint may be silent for `patience` readings in a row; an arm that is lost is sought for `recovery_ns`.

    Raises, when made:
        SefaError: the arm cannot be opened, or does not answer.
    """

    def __init__(self, open_arm: Callable[[], Arm], patience: int, recovery_ns: int) -> None:
        self._open_arm = open_arm
        self._patience = patience
        self._recovery_ns = recovery_ns
        self._asleep_after = max(QUIET, min(ASLEEP, patience * 2 // 5))  # 0.2 s of the usual half
        arm = open_arm()
        self._arm: Arm | None = arm
        self._names = arm.joint_names
        self.state = _insist(arm.read_state)
        """The last reading; joints that did not answer keep their last values."""
        self.torque = Torque.UNTOUCHED
        self._should_hold = False
        self.fault_joints = 0
        """Bit i: the last fault was about joint i."""
        self._news: Fault | None = None
        self._lost_since_ns: int | None = None
        self._cut_off = False
        self._next_try_ns = 0
        self._forget()

    @property
    def lost(self) -> bool:
        """Whether the arm is being waited for."""
        return self._lost_since_ns is not None

    @property
    def heard(self) -> np.ndarray:
        """Boolean [n]: the joints that answered in this tick."""
        return (self._silent == 0) & (not self.lost)

    @property
    def quiet(self) -> np.ndarray:
        """Boolean [n]: the joints that have not answered for a while; nobody knows what they hear."""
        return self._silent >= QUIET

    @property
    def asleep(self) -> np.ndarray:
        """Boolean [n]: the joints that may have lost their power, their torque, and their place."""
        return self._silent >= self._asleep_after

    def prepare(self) -> Preparation:
        """Set up what the profile says. Raises SefaError: it would not be safe to use the arm."""
        return self._connected().prepare()

    def read(self, now_ns: int) -> Event | None:
        """Read every joint once; tell what changed."""
        if self._lost_since_ns is not None:
            return self._seek(now_ns, self._lost_since_ns)
        try:
            self._note(now_ns)
        except ArmInterrupted:  # the emergency stop comes next; nothing was asked
            return None
        except ArmTimeout:
            self._silent += 1
        except ArmDisconnected:
            self._disconnect(now_ns)
        if self._silent.max() >= self._patience:
            self._lose(now_ns, Fault.ARM_TIMEOUT, bits(self._silent >= self._patience))
        news, self._news = self._news, None
        return news

    def send(self, goal: JointGoal) -> bool:
        """Send a goal; False when the port is gone, or is back and the arm has not been read since.

        Such an arm missed the goals in between: the next one would be a jump to it.
        """
        if self._arm is None or self._cut_off:
            return False
        try:
            self._arm.send(goal)
        except ArmInterrupted:
            return False
        except ArmDisconnected:
            self._disconnect(goal.due_ns)
            return False
        return True

    def energise(self) -> None:
        """Torque on at the present pose. Raises ArmFault."""
        self.torque, self._should_hold = Torque.UNKNOWN, True
        arm = self._connected()
        _insist(arm.enable_torque)
        self.torque = Torque.ON
        self.state = _insist(arm.read_state)

    def release(self) -> None:
        """Torque off, read back. Raises ArmFault."""
        self.torque, self._should_hold = Torque.UNKNOWN, False
        _insist(self._connected().release_torque)
        self.torque = Torque.OFF

    def cut(self, now_ns: int) -> int:
        """One attempt at torque off, for the emergency stop; bit i: joint i did not confirm it."""
        names = self._names
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
        """Give the port back; the torque stays as it is."""
        if self._arm is not None:
            self._arm.close()
            self._arm = None

    def _connected(self) -> Arm:
        if self._arm is None:
            raise ArmDisconnected("the arm's port is gone", "check the USB cable")
        return self._arm

    def _note(self, now_ns: int) -> None:
        state = self._connected().read_state()
        known = np.isfinite(state.joint_deg)
        if not known.all():  # a joint that does not know where it is has not answered
            joint_deg = np.where(known, state.joint_deg, self.state.joint_deg)
            state = replace(state, joint_deg=joint_deg, valid_mask=state.valid_mask & known)
        self.state = state
        self._silent = np.where(state.valid_mask, 0, self._silent + 1)

    def _forget(self) -> None:
        self._silent = np.zeros(len(self.state.joint_deg), np.int64)

    def _disconnect(self, now_ns: int) -> None:
        self.close()
        self._cut_off = True
        self._lose(now_ns, Fault.ARM_DISCONNECTED, 0)

    def _lose(self, now_ns: int, fault: Fault, joints: int) -> None:
        self._news, self.fault_joints = fault, joints
        self._lost_since_ns, self._next_try_ns = now_ns, now_ns + RETRY_NS

    def _seek(self, now_ns: int, since_ns: int) -> Event | None:
        if self._news is not None:  # lost while sending, after the reading of that tick
            news, self._news = self._news, None
            return news
        if now_ns - since_ns > self._recovery_ns:
            return Progress.ARM_GONE
        if now_ns < self._next_try_ns:
            return None
        self._next_try_ns = now_ns + RETRY_NS
        return self._try_again()

    def _try_again(self) -> Event | None:
        try:
            if self._arm is None:
                self._arm = self._open_arm()
            if not self._arm.read_state().valid_mask.all():
                return None
            if self._should_hold:
                self.energise()
            self.state = self._arm.read_state()
        except ArmDisconnected:
            self.close()
            return None
        except SefaError:  # the port is not there yet, or a servo not awake yet: the next attempt may succeed
            return None
        self._lost_since_ns = None
        self._cut_off = False
        self._forget()
        return Progress.ARM_BACK


def _insist(request: Callable[[], T]) -> T:
    """The answer to a request that may be repeated. Raises ArmFault when no attempt succeeds."""
    for _ in range(ATTEMPTS - 1):
        try:
            return request()
        except (ArmDisconnected, ArmInterrupted):
            raise
        except ArmFault:  # one disturbed packet is no refusal
            continue
    return request()
