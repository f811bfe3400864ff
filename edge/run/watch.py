"""What the supervisor hears: every record and every death, taken in as it comes."""

from __future__ import annotations

import selectors
import time
from contextlib import suppress
from typing import Protocol

from sefa_edge.edge.ipc.policy_records import Happening, PolicyReport
from sefa_edge.edge.ipc.process import Child
from sefa_edge.edge.ipc.records import (
    EmergencyHeard,
    Final,
    MayHold,
    Ready,
    SupervisorRecord,
    TickReport,
    Torque,
    unpack_for_supervisor,
)
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed, FrameDescriptor
from sefa_edge.edge.ipc.vocabulary import POWERED, Mode
from sefa_edge.edge.run.crew import Crew
from sefa_edge.edge.run.summary import RunSummary
from sefa_edge.profiles.stopping import StopSignals
from sefa_edge.profiles.units import s_to_ns

CONTROL_SILENCE_NS = s_to_ns(2.0)


class Listener(Protocol):
    """Hears every record of a run, for a program that measures, and may end it when it has heard enough."""

    @property
    def satisfied(self) -> bool: ...

    def hear_frame(self, descriptor: FrameDescriptor, arrived_ns: int) -> None: ...

    def hear_policy(self, report: PolicyReport) -> None: ...

    def hear_tick(self, report: TickReport) -> None: ...


class Watch:
    """Listens to the crew. Its attributes are the newest of everything."""

    def __init__(self, crew: Crew, joints: int, summary: RunSummary, listener: Listener | None) -> None:
        self.ready: Ready | None = None
        self.tick: TickReport | None = None
        self.final: Final | None = None
        self.may_hold = False
        """Control was about to switch the torque on, and no process has confirmed since that it is off."""
        self.was_powered = False
        """Some control process of this run has reported that it commands the arm."""
        self.emergency_heard = False
        """The control process that runs now is at work on an emergency stop."""
        self.policy_report: PolicyReport | None = None
        self.policy_ready = False
        self.seeing: set[str] = set()
        """Cameras that have given a picture."""
        self.dead: list[Child] = []
        self.newest_chunk_id = 0
        self._crew = crew
        self._joints = joints
        self._summary = summary
        self._listener = listener
        self._heard_ns = self._listened_ns = 0
        self._selector = selectors.DefaultSelector()

    @property
    def mode(self) -> Mode:
        return Mode.IDLE if self.tick is None else self.tick.mode

    @property
    def control_is_silent(self) -> bool:
        """A control process that runs reports a hundred times a second; whoever does not listen calls nobody silent."""
        return self.ready is not None and self._listened_ns - self._heard_ns > CONTROL_SILENCE_NS

    def take_in(self, timeout_s: float) -> None:
        """Wait for whatever comes first, then take in all that has come."""
        self._listened_ns = time.monotonic_ns()  # before: a wait that SIGSTOP cut through comes back late, with nothing
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def watch_signals(self, signals: StopSignals) -> None:
        """Let a signal end the wait."""
        self._selector.register(signals.fileno(), selectors.EVENT_READ, lambda: None)

    def watch_workers(self) -> None:
        """Listen to everybody who has been started so far; control is only watched, it has nothing to say yet."""
        for child in self._crew.children:
            self._watch_exit(child)
        if (policy := self._crew.policy_channel) is not None:
            self._selector.register(policy, selectors.EVENT_READ, lambda: self._hear_policy(policy))
        for name, channel in self._crew.camera_channels.items():
            self._selector.register(
                channel,
                selectors.EVENT_READ,
                lambda name=name, channel=channel: self._hear_camera(name, channel),
            )

    def watch_control(self) -> None:
        """Listen to the control process that may begin now, and forget what another one said."""
        control, channel = self._crew.control, self._crew.control_channel
        assert control is not None
        assert channel is not None
        self.ready = self.tick = self.final = None
        self._summary.begin_control()
        self.emergency_heard = False
        if control.exit_fd not in self._selector.get_map():
            self._watch_exit(control)
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._hear_control(channel))

    def hear_control_out(self) -> None:
        """Take in what a control process that has ended still had to say, and stop listening to it."""
        if (channel := self._crew.control_channel) is not None:
            self._hear_control(channel)
            self._stop_listening(channel)

    def close(self) -> None:
        self._selector.close()

    def _watch_exit(self, child: Child) -> None:
        def ended() -> None:
            self._selector.unregister(child.exit_fd)
            self.dead.append(child)

        self._selector.register(child.exit_fd, selectors.EVENT_READ, ended)

    def _hear_control(self, channel: Channel) -> None:
        try:
            for record in channel.drain():
                self._take_record(unpack_for_supervisor(record, self._joints))
        except ChannelClosed:
            self._stop_listening(channel)

    def _take_record(self, record: SupervisorRecord) -> None:
        self._heard_ns = time.monotonic_ns()
        if isinstance(record, TickReport):
            self.tick = record
            self.was_powered |= record.mode in POWERED
            self.newest_chunk_id = max(self.newest_chunk_id, record.chunk_id)
            self._summary.count(record)
            if self._listener is not None:
                self._listener.hear_tick(record)
        elif isinstance(record, Ready):
            self.ready = record
        elif isinstance(record, MayHold):
            self.may_hold = True
        elif isinstance(record, EmergencyHeard):
            self.emergency_heard = True
        else:
            self.final = record
            self.may_hold = self.may_hold and record.torque is not Torque.OFF

    def _hear_policy(self, channel: Channel) -> None:
        try:
            for record in channel.drain():
                self._take_policy_report(PolicyReport.unpack(record))
        except ChannelClosed:
            self._stop_listening(channel)

    def _take_policy_report(self, report: PolicyReport) -> None:
        self.policy_ready |= report.happening is Happening.READY
        if report.happening is Happening.CHUNK:
            self.policy_report = report
            self._summary.count_inference(report)
        if self._listener is not None:
            self._listener.hear_policy(report)

    def _hear_camera(self, name: str, channel: Channel) -> None:
        try:
            for record in channel.drain():
                self.seeing.add(name)
                descriptor = FrameDescriptor.unpack(record)
                self._summary.count_picture(name, descriptor)
                if self._listener is not None:
                    self._listener.hear_frame(descriptor, time.monotonic_ns())
        except ChannelClosed:
            self._stop_listening(channel)

    def _stop_listening(self, channel: Channel) -> None:
        with suppress(KeyError):  # its end may have been heard before
            self._selector.unregister(channel)
