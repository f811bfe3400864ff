"""The arm as the loop sees it: silence, complaints, a vanished port become events, and it is waited for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sefa_edge.edge.modes import RECOVERY_NS, Event, Fault, Progress
from sefa_edge.edge.records import Torque
from sefa_edge.edge.safety import bits
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmTimeout
from sefa_edge.firmware_bridge.host.messages import JointGoal
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.units import ms_to_ns

PATIENCE = 10
"""Readings in a row that a joint may be silent, or complain, before it is a fault."""

RETRY_NS = ms_to_ns(250)
"""Time between two attempts to reach a lost arm; an attempt may take longer than a tick."""


class WatchedArm:
    """Owns a connected Arm. `open_arm` connects it, now and again after the port has vanished.

    Raises, when made:
        SefaError: the arm cannot be opened, or does not answer.
    """

    def __init__(self, open_arm: Callable[[], Arm]) -> None:
        self._open_arm = open_arm
        self._arm: Arm | None = open_arm()
        self.state = self._arm.read_state()
        """The last reading; joints that did not answer keep their last values."""
        self.torque = Torque.UNTOUCHED
        self.fault_joints = 0
        """Bit i: the last fault was about joint i."""
        self._news: Fault | None = None
        self._lost_since_ns: int | None = None
        self._next_try_ns = 0
        self._forget()

    @property
    def lost(self) -> bool:
        """Whether the arm is being waited for."""
        return self._lost_since_ns is not None

    def read(self, now_ns: int) -> Event | None:
        """Read every joint once; tell what changed."""
        if self._lost_since_ns is not None:
            return self._seek(now_ns, self._lost_since_ns)
        try:
            self._note(now_ns)
        except ArmTimeout:
            self._silent += 1
        except ArmDisconnected:
            self._disconnect(now_ns)
        if self._silent.max() >= PATIENCE:
            self._lose(now_ns, Fault.ARM_TIMEOUT, bits(self._silent >= PATIENCE))
        elif self._complaining.max() >= PATIENCE:
            self._news, self.fault_joints = Fault.SERVO_STATUS, bits(self._complaining >= PATIENCE)
        news, self._news = self._news, None
        return news

    def send(self, goal: JointGoal) -> bool:
        """Send a goal; False when the port is gone."""
        if self._arm is None:
            return False
        try:
            self._arm.send(goal)
        except ArmDisconnected:
            self._disconnect(goal.due_ns)
            return False
        return True

    def energise(self) -> None:
        """Torque on at the present pose. Raises ArmFault."""
        self.torque = Torque.UNKNOWN
        arm = self._connected()
        arm.enable_torque()
        self.torque = Torque.ON
        self.state = arm.read_state()

    def release(self) -> None:
        """Torque off, read back. Raises ArmFault."""
        self.torque = Torque.UNKNOWN
        self._connected().release_torque()
        self.torque = Torque.OFF

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
        self.state = state = self._connected().read_state()
        self._silent = np.where(state.valid_mask, 0, self._silent + 1)
        self._complaining = np.where(state.status_bits, self._complaining + 1, 0)

    def _forget(self) -> None:
        self._silent = np.zeros(len(self.state.joint_deg), np.int64)
        self._complaining = self._silent

    def _disconnect(self, now_ns: int) -> None:
        self.close()
        self._lose(now_ns, Fault.ARM_DISCONNECTED, 0)

    def _lose(self, now_ns: int, fault: Fault, joints: int) -> None:
        self._news, self.fault_joints = fault, joints
        self._lost_since_ns, self._next_try_ns = now_ns, now_ns + RETRY_NS
        self._forget()

    def _seek(self, now_ns: int, since_ns: int) -> Event | None:
        if self._news is not None:  # lost while sending, after the reading of that tick
            news, self._news = self._news, None
            return news
        if now_ns - since_ns > RECOVERY_NS:
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
            if self.torque is not Torque.UNTOUCHED:
                self.energise()
            self.state = self._arm.read_state()
        except ArmDisconnected:
            self.close()
            return None
        except SefaError:  # the port is not there yet, or a servo not awake yet: the next attempt may succeed
            return None
        self._lost_since_ns = None
        return Progress.ARM_BACK
