"""The loop's connections: to the supervisor and policy processes, or to a program that drives the loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

import numpy as np

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk, InferenceBegun, Trouble
from sefa_edge.edge.ipc.record_header import Kind, RecordError, kind_of
from sefa_edge.edge.ipc.records import ControlCommand, EmergencyReceived, Heartbeat, JointSample, MayHold, TickReport
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed
from sefa_edge.edge.ipc.vocabulary import Command, Event
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.profiles.units import ms_to_ns, ns_to_ms

NO_BEAT_NS = ms_to_ns(250)
"""A supervisor that has sent no heartbeat for this long does not read either."""

MAY_HOLD_PATIENCE_S = 1.0
"""How long arming waits until MayHold can be sent to the supervisor."""


class Links(Protocol):
    """What the loop needs from outside. No method blocks."""

    @property
    def dropped(self) -> int:
        """Records lost because a reader was behind, since the start."""
        ...

    @property
    def heartbeat_ns(self) -> int | None:
        """When the supervisor last sent a heartbeat; None: it never has."""
        ...

    def events(self) -> Iterator[Event]:
        """Commands, and faults of the links themselves, oldest first."""
        ...

    def newest_chunk(self) -> ActionChunk | None:
        """The newest chunk that arrived since the last call."""
        ...

    def publish(self, state: JointState) -> None:
        """Offer a reading of the joints to the policy."""
        ...

    def report(self, report: TickReport) -> None:
        """Offer the report of a tick."""
        ...


class DirectLinks:
    """For a program that calls `ControlLoop.tick` itself, in lock-step with a simulated world:

    clock, links = ManualClock(), DirectLinks()
    loop = ControlLoop(clock, links, Motion.connect(lambda: arm, profile, period_ns))
    pacer = Pacer(clock, period_ns)
    links.waiting_events.append(Command.ARM)
    while not loop.state.finished:
        slot = pacer.wait()                # moves the manual clock to the next grid point
        world.step_to(slot.due_ns)
        report = loop.tick(slot)           # between ticks: put chunks into links.waiting_chunks
    """

    def __init__(self) -> None:
        self.waiting_events: deque[Event] = deque()
        self.waiting_chunks: deque[ActionChunk] = deque()
        self.state: JointState | None = None
        self.last_report: TickReport | None = None
        self.heartbeat_ns: int | None = None
        self.dropped = 0

    def events(self) -> Iterator[Event]:
        while self.waiting_events:
            yield self.waiting_events.popleft()

    def newest_chunk(self) -> ActionChunk | None:
        chunk = self.waiting_chunks.pop() if self.waiting_chunks else None
        self.waiting_chunks.clear()
        return chunk

    def publish(self, state: JointState) -> None:
        self.state = state

    def report(self, report: TickReport) -> None:
        self.last_report = report


class ProcessLinks:
    """Records over two channels. A channel whose other end dies is reported as a fault once; nothing follows.

    The command ARM is passed on once the supervisor has been sent MayHold; a supervisor that cannot take that record
    within `MAY_HOLD_PATIENCE_S` is silent, and the arm is not armed.
    """

    def __init__(
        self, supervisor: Channel, policy: Channel, horizon: int, joints: int, emergency: Emergency | None = None
    ) -> None:
        self._supervisor: Channel | None = supervisor
        self._policy: Channel | None = policy
        self._horizon, self._joints = horizon, joints
        self._chunk: ActionChunk | None = None
        self.trouble: Trouble | None = None
        """The last one that the policy reported."""
        self.heartbeat_ns: int | None = None
        self._stop_requested = False
        self._emergency = emergency or Emergency()
        self._may_hold_sent = False
        self._waiting: deque[Command] = deque()
        self._inference_begun_ns: int | None = None
        self._inference_ns = self._step_ns = 0

    @property
    def dropped(self) -> int:
        return sum(channel.dropped for channel in (self._supervisor, self._policy) if channel is not None)

    def request_stop(self) -> None:
        """Make the next `events` begin with STOP; safe to call from a signal handler."""
        self._stop_requested = True

    def request_emergency(self) -> None:
        """Torque off at once, and EMERGENCY as the next of `events`; safe to call from a signal handler."""
        self._emergency.request()
        if self._supervisor is not None:
            self._offer(self._supervisor, EmergencyReceived(time.monotonic_ns()).pack())

    @property
    def emergency_requested(self) -> bool:
        """Whether an emergency stop is pending that `events` has not returned yet."""
        return self._emergency.requested

    def rescue(self) -> None:
        """Take over an arm that an earlier process left holding: hold, park, release, even without a supervisor."""
        self._waiting.extend((Command.ARM, Command.STOP))

    def events(self) -> Iterator[Event]:
        if self._emergency.take_request():
            yield Command.EMERGENCY
        if self._stop_requested:
            self._stop_requested = False
            yield Command.STOP
        while self._waiting:
            yield self._waiting.popleft()
        yield from self._from_supervisor()
        yield from self._from_policy()
        if self._emergency.take_request():  # requested meanwhile: do not wait for the next tick
            yield Command.EMERGENCY

    def newest_chunk(self) -> ActionChunk | None:
        chunk, self._chunk = self._chunk, None
        return chunk

    def publish(self, state: JointState) -> None:
        if self._policy is not None:
            self._offer(self._policy, JointSample(state.stamp_ns, state.joint_deg.astype(np.float32)).pack())

    def report(self, report: TickReport) -> None:
        if self._supervisor is None or self._goes_unread(report):
            return
        self._offer(self._supervisor, report.pack())

    def _goes_unread(self, report: TickReport) -> bool:
        """Keep room in the channel for the Final record while the supervisor does not read."""
        beat_ns = self.heartbeat_ns
        return report.fault is Fault.SUPERVISOR_SILENT and (beat_ns is None or report.start_ns - beat_ns > NO_BEAT_NS)

    def inference_note(self, now_ns: int) -> str:
        """How inference explains a missing chunk, as text; empty if it does not."""
        if self._inference_begun_ns is not None:
            return f"inference has taken {ns_to_ms(now_ns - self._inference_begun_ns):.0f} ms so far"
        slow = self._inference_ns > self._step_ns
        return f"the last inference took {ns_to_ms(self._inference_ns):.0f} ms" if slow else ""

    def _from_supervisor(self) -> Iterator[Event]:
        if self._supervisor is None:
            return
        try:
            for record in self._supervisor.drain():
                if kind_of(record) is Kind.HEARTBEAT:
                    self.heartbeat_ns = Heartbeat.unpack(record).stamp_ns
                else:
                    yield self._permitted(ControlCommand.unpack(record).command)
        except (ChannelClosed, RecordError):  # a supervisor that sends invalid records counts as gone
            self._supervisor.close()
            self._supervisor = None
            yield Fault.SUPERVISOR_LOST

    def _permitted(self, command: Command) -> Event:
        """The command; before the first ARM, send MayHold: from now on the arm may hold."""
        if command is not Command.ARM or self._may_hold_sent or self._supervisor is None:
            return command
        record = MayHold(time.monotonic_ns()).pack()
        self._may_hold_sent = self._supervisor.send_within(record, MAY_HOLD_PATIENCE_S)
        return command if self._may_hold_sent else Fault.SUPERVISOR_SILENT

    def _from_policy(self) -> Iterator[Event]:
        if self._policy is None:
            return
        try:
            for record in self._policy.drain():
                kind = kind_of(record)
                if kind is Kind.TROUBLE:
                    self.trouble = Trouble.unpack(record)
                    yield self.trouble.fault
                elif kind is Kind.INFERENCE_BEGUN:
                    self._inference_begun_ns = InferenceBegun.unpack(record).begun_ns
                else:
                    self._chunk = ActionChunk.unpack(record, T=self._horizon, n=self._joints)
                    self._inference_begun_ns = None
                    self._inference_ns, self._step_ns = self._chunk.inference_ns, self._chunk.step_period_ns
        except RecordError:
            yield Fault.BAD_CHUNK
        except ChannelClosed:
            self._policy.close()
            self._policy = None
            yield Fault.POLICY_LOST

    @staticmethod
    def _offer(channel: Channel, record: bytes) -> None:
        with suppress(ChannelClosed):  # the next `events` finds the end of the channel and reports it
            channel.send(record)
