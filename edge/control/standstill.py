"""While a joint does not answer, the whole arm stops; afterwards it continues from the goals that its servos hold.

A joint that may miss goals is sent none: it would jump to the next one it receives, and a servo that has lost its power
would switch its torque on. The others brake inside their acceleration limits and wait.
"""

from __future__ import annotations

import numpy as np

from sefa_edge.edge.control.safety import Commanded, Envelope
from sefa_edge.edge.control.shaping import Setpoint
from sefa_edge.edge.control.watched_arm import WatchedArm
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns

AT_REST_DEG = 1e-6

SHORTEST_NS = ms_to_ns(100)
"""How long all joints must have answered before the arm continues: a loose contact must not make it jerk."""


class Standstill:
    """Whether the arm must stop because a joint does not answer. Call `update` once a tick, after reading the arm."""

    def __init__(self, arm: WatchedArm, envelope: Envelope) -> None:
        self._arm = arm
        self._envelope = envelope
        self._until_ns: int | None = None
        self._ends = False
        """The joints are sent goals again, for one tick those that they hold."""

    @property
    def active(self) -> bool:
        return self._until_ns is not None

    def update(self, commanded: Commanded, now_ns: int) -> Commanded:
        """Begin or end the standstill; returns the last command, corrected by the goals that the servos hold."""
        arm = self._arm
        if self._ends:
            self._until_ns, self._ends = None, False
        if arm.must_stand:
            begun_ns = now_ns + self._braking_ns(commanded) if self._until_ns is None else self._until_ns
            self._until_ns = max(begun_ns, now_ns + SHORTEST_NS)
        if self._until_ns is None:
            return commanded
        held_deg = arm.take_held_goals()
        known = np.isfinite(held_deg)
        commanded = Commanded(
            commanded.sequence,
            np.where(known, held_deg, commanded.joint_deg),
            np.where(known | arm.stopped_joints, 0.0, commanded.step_deg),
        )
        if now_ns >= self._until_ns and (np.abs(commanded.step_deg) <= AT_REST_DEG).all():
            self._ends = True
            arm.resume_goals()
        return commanded

    def setpoint(self, commanded: Commanded) -> Setpoint:
        """Braking inside the acceleration limits."""
        rest_deg = commanded.stopping_deg(self._envelope)
        return Setpoint(rest_deg, np.zeros_like(rest_deg))

    def _braking_ns(self, commanded: Commanded) -> int:
        """How long the joints take to stop, including those that no longer receive goals."""
        ticks = np.abs(commanded.step_deg) / self._envelope.change_deg
        return round(float(ticks.max()) * self._envelope.period_s * NS_PER_S)
