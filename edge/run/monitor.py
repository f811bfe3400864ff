"""What the supervisor receives: every record and the end of every process, in the order in which they come."""

from __future__ import annotations

import selectors
import time
from contextlib import suppress
from functools import partial
from typing import Protocol

from sefa_edge.edge.ipc.policy_records import PolicyEvent, PolicyReport
from sefa_edge.edge.ipc.process import Child
from sefa_edge.edge.ipc.records import (
    EmergencyReceived,
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
from sefa_edge.edge.run.process_group import ProcessGroup
from sefa_edge.edge.run.process_row import ProcessRow, Reports
from sefa_edge.edge.run.processes import CONTROL
from sefa_edge.edge.run.summary import RunSummary
from sefa_edge.profiles.stopping import StopSignals
from sefa_edge.profiles.units import s_to_ns

CONTROL_SILENCE_NS = s_to_ns(2.0)
SOURCES = (Reports.FRAMES, Reports.POLICY)
"""What is received from the start on, and must have come before control may begin."""


class RunObserver(Protocol):
    """Gets every record of a run, for a program that measures, and may end the run when it has enough."""

    @property
    def satisfied(self) -> bool: ...

    def on_frame(self, descriptor: FrameDescriptor, arrived_ns: int) -> None: ...

    def on_policy_report(self, report: PolicyReport) -> None: ...

    def on_tick(self, report: TickReport) -> None: ...


class RunMonitor:
    """Receives from all processes of a run. Its attributes are the newest of everything."""

    def __init__(self, group: ProcessGroup, joints: int, summary: RunSummary, observer: RunObserver | None) -> None:
        self.ready: Ready | None = None
        self.tick: TickReport | None = None
        self.final: Final | None = None
        self.may_hold = False
        """Control was about to switch the torque on, and no process has confirmed since that it is off."""
        self.was_powered = False
        """Some control process of this run has reported that it commands the arm."""
        self.emergency_acknowledged = False
        """The control process that runs now handles an emergency stop."""
        self.policy_report: PolicyReport | None = None
        self.dead: list[Child] = []
        self.newest_chunk_id = 0
        self._group = group
        self._joints = joints
        self._summary = summary
        self._observer = observer
        self._ready_rows: set[str] = set()
        """Of the policy once it is warm, and of the cameras that have sent a frame."""
        self._watched: set[Child] = set()
        self._received_ns = self._polled_ns = 0
        self._selector = selectors.DefaultSelector()

    @property
    def mode(self) -> Mode:
        return Mode.IDLE if self.tick is None else self.tick.mode

    @property
    def sources_ready(self) -> bool:
        """Whether the policy and all cameras deliver."""
        return self._ready_rows == {row.name for row in self._group.rows if row.reports in SOURCES}

    @property
    def control_is_silent(self) -> bool:
        """Whether it has sent nothing for 2 s. It reports every tick; while this process does not poll: False."""
        return self.ready is not None and self._polled_ns - self._received_ns > CONTROL_SILENCE_NS

    def receive(self, timeout_s: float) -> None:
        """Wait for whatever comes first, then handle all that has come."""
        self._polled_ns = time.monotonic_ns()  # before: a wait that SIGSTOP interrupts returns late, with nothing
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def watch_signals(self, signals: StopSignals) -> None:
        """Let a signal end the wait."""
        self._selector.register(signals.fileno(), selectors.EVENT_READ, lambda: None)

    def watch_started(self) -> None:
        """Watch all processes that were started since the last call; of control only its end, until `watch_control`."""
        for row in self._group.rows:
            child = self._group.child(row.name)
            if child is None or child in self._watched:
                continue
            self._watch_exit(child)
            channel = self._group.channel(row.name)
            if channel is not None and row.reports in SOURCES:
                self._selector.register(channel, selectors.EVENT_READ, partial(self._receive_from, row, channel))

    def watch_control(self) -> None:
        """Receive from the control process that may begin now, and forget what another one sent."""
        control, channel = self._group.control, self._group.channel(CONTROL)
        assert control is not None
        assert channel is not None
        self.ready = self.tick = self.final = None
        self._summary.begin_control()
        self.emergency_acknowledged = False
        if control not in self._watched:
            self._watch_exit(control)
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._receive_control(channel))

    def receive_last_of_control(self) -> None:
        """Handle what a control process that has ended sent before, and stop receiving from it."""
        if (channel := self._group.channel(CONTROL)) is not None:
            self._receive_control(channel)
            self._stop_receiving(channel)

    def close(self) -> None:
        self._selector.close()

    def _watch_exit(self, child: Child) -> None:
        def ended() -> None:
            self._selector.unregister(child.exit_fd)
            self.dead.append(child)

        self._watched.add(child)
        self._selector.register(child.exit_fd, selectors.EVENT_READ, ended)

    def _receive_control(self, channel: Channel) -> None:
        try:
            for record in channel.drain():
                self._handle_control(unpack_for_supervisor(record, self._joints))
        except ChannelClosed:
            self._stop_receiving(channel)

    def _handle_control(self, record: SupervisorRecord) -> None:
        self._received_ns = time.monotonic_ns()
        if isinstance(record, TickReport):
            self.tick = record
            self.was_powered |= record.mode in POWERED
            self.newest_chunk_id = max(self.newest_chunk_id, record.chunk_id)
            self._summary.count(record)
            if self._observer is not None:
                self._observer.on_tick(record)
        elif isinstance(record, Ready):
            self.ready = record
        elif isinstance(record, MayHold):
            self.may_hold = True
        elif isinstance(record, EmergencyReceived):
            self.emergency_acknowledged = True
        else:
            self.final = record
            self.may_hold = self.may_hold and record.torque is not Torque.OFF

    def _receive_from(self, row: ProcessRow, channel: Channel) -> None:
        try:
            for record in channel.drain():
                if row.frames is not None:
                    self._handle_frame(row.name, row.frames.name, FrameDescriptor.unpack(record))
                else:
                    self._handle_policy(row.name, PolicyReport.unpack(record))
        except ChannelClosed:
            self._stop_receiving(channel)

    def _handle_policy(self, name: str, report: PolicyReport) -> None:
        if report.event is PolicyEvent.READY:
            self._ready_rows.add(name)
        if report.event is PolicyEvent.CHUNK:
            self.policy_report = report
            self._summary.count_inference(report)
        if self._observer is not None:
            self._observer.on_policy_report(report)

    def _handle_frame(self, name: str, camera: str, descriptor: FrameDescriptor) -> None:
        self._ready_rows.add(name)
        self._summary.count_frame(camera, descriptor)
        if self._observer is not None:
            self._observer.on_frame(descriptor, time.monotonic_ns())

    def _stop_receiving(self, channel: Channel) -> None:
        with suppress(KeyError):  # its end may have been received before
            self._selector.unregister(channel)
