"""One tick of control: read, choose, shape, check, send, report.

The loop only defines the order. Clock, links, arm and motion are passed in, so the same tick runs at a
fixed rate in the control process and in lock-step with a simulated world (see `DirectLinks`).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from sefa_edge.edge.control.clock import Clock, Slot
from sefa_edge.edge.control.links import Links
from sefa_edge.edge.control.modes import ModeState
from sefa_edge.edge.control.motion import Motion
from sefa_edge.edge.control.safety import Verdict, check
from sefa_edge.edge.ipc.records import TickReport

NOTHING = Verdict(None, 0, None)


class ControlLoop:
    """Call `tick` once per slot of a Pacer until `state.finished`."""

    def __init__(self, clock: Clock, links: Links, motion: Motion) -> None:
        self.arm, self.motion = motion.arm, motion
        self._clock, self._links = clock, links
        self.ticks = 0
        self._skipped_ticks = 0
        self._no_goal = np.full(len(self.arm.state.joint_deg), np.nan)

    @property
    def state(self) -> ModeState:
        return self.motion.state

    @np.errstate(invalid="ignore")  # guard and limiter handle NaN; numpy need not warn
    def tick(self, slot: Slot) -> TickReport:
        """Run one control period. Errors of the arm or of a peer become faults, not exceptions."""
        clock_ns, now_ns = self._clock.now_ns, slot.due_ns
        arm, links, motion = self.arm, self._links, self.motion
        marks = [clock_ns()]

        arm_event = arm.read(now_ns)
        links.publish(arm.state)
        marks.append(clock_ns())

        motion.advance(arm_event, links, slot)
        piece = motion.choose(now_ns)
        marks.append(clock_ns())

        setpoint = None if motion.silent else motion.shape(piece, now_ns)
        marks.append(clock_ns())

        verdict = check(setpoint, motion.commanded, motion.envelope, now_ns) if setpoint else NOTHING
        marks.append(clock_ns())

        if verdict.goal is not None:
            arm.send(verdict.goal)
        motion.conclude(verdict, now_ns)
        marks.append(clock_ns())

        self.ticks += 1
        report = self._describe(slot, verdict, marks)
        links.report(report)
        return report

    def _describe(self, slot: Slot, verdict: Verdict, marks: list[int]) -> TickReport:
        motion = self.motion
        self._skipped_ticks += slot.skipped_before
        read, choose, shape, check, send = (after - before for before, after in pairwise(marks))
        goal_deg = verdict.goal.joint_deg if verdict.goal else self._no_goal
        return TickReport(
            slot.tick, slot.due_ns + slot.lateness_ns, slot.lateness_ns, (read, choose, shape, check, send),
            self._skipped_ticks, self._links.dropped, *motion.playing(slot.due_ns),
            motion.state.mode, motion.settled(slot.due_ns), motion.state.fault, motion.fault_joints,
            verdict.clipped_bits, self.arm.state.joint_deg, goal_deg, motion.warm_bits,
        )  # fmt: skip
