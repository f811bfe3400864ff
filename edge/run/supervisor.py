"""Starts, watches and ends all processes of a run. Whatever ends it, the arm is parked and no process is left behind.

A run reads top to bottom in `_start` and `_perform`. Every wait notices a signal, a fault of the arm, the end of a
process and a silent control process. The command to stop goes to control first: for a signal from its handler, for
everything else where it is detected. Then it is raised and reported once, the arm is parked and released
(edge/run/safe_stop.py), and all other processes end (edge/run/shutdown.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

from sefa_edge.edge.ipc.policy_records import Order, PolicyCommand
from sefa_edge.edge.ipc.process import Child, started_ns
from sefa_edge.edge.ipc.records import Final, Heartbeat, Privilege
from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
from sefa_edge.edge.ipc.video_command import VideoAction, VideoCommand
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.edge.run.monitor import RunMonitor, RunObserver
from sefa_edge.edge.run.notices import Notices, settings_notes
from sefa_edge.edge.run.process_group import ProcessGroup
from sefa_edge.edge.run.process_row import EXIT_PATIENCE_S, Death, ProcessRow, RunResult, Start
from sefa_edge.edge.run.processes import CONTROL, POLICY, RECORDER, VIDEO, process_rows
from sefa_edge.edge.run.run_plan import RunPlan
from sefa_edge.edge.run.safe_stop import ControlEnded, ControlLost, EarlyEnd, Ending, SafeStop, StopRequested
from sefa_edge.edge.run.shutdown import Shutdown
from sefa_edge.edge.run.status import StatusLine
from sefa_edge.edge.run.summary import EpisodeResult, RunSummary
from sefa_edge.edge.run.world_link import WorldLink
from sefa_edge.firmware_bridge.host.port_access import require_access
from sefa_edge.firmware_bridge.host.port_lock import require_free
from sefa_edge.profiles.errors import FaultError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.stopping import EMERGENCY, StopSignals
from sefa_edge.profiles.units import NS_PER_S, s_to_ns

START_TIMEOUT_S = 60.0
CONTROL_TIMEOUT_S = 20.0
"""Control has nothing left to load when it gets its configuration."""
MOVE_TIMEOUT_S = 60.0
POLL_S = 0.05
HEARTBEAT_NS = s_to_ns(0.05)


class Supervisor:
    """One run, from the first process to the last."""

    def __init__(
        self,
        plan: RunPlan,
        line: StatusLine,
        observer: RunObserver | None = None,
        rows: tuple[ProcessRow, ...] | None = None,
    ) -> None:
        """`rows`: the processes of the run; None: those of the process table."""
        self.summary = RunSummary(plan.card.name, plan.arm_name, plan.control_rate_hz, started_ns())
        self._plan = plan
        self._line = line
        self._observer = observer
        self._group = ProcessGroup(plan, process_rows(plan) if rows is None else rows)
        self._monitor = RunMonitor(self._group, len(plan.profile.joints), self.summary, observer)
        self._notices = Notices(plan, self._monitor, line)
        self._world = WorldLink(self._group)
        self.signals = StopSignals(self._group.forward_stop_signal)
        """Entered by `run`; by its caller as well where a signal must not cut short what follows."""
        self._end_ns: int | None = None
        self._heartbeat_ns = 0
        self._is_shut_down = False
        """All processes have been ended, those that could be."""

    @property
    def control_pid(self) -> int | None:
        """The process that is measured; None before it was started."""
        return None if self._group.control is None else self._group.control.pid

    @property
    def refused(self) -> Privilege:
        """What the operating system did not grant the control process."""
        return Privilege.NONE if self._monitor.ready is None else self._monitor.ready.refused

    def run(self) -> Ending:
        """Perform the run, then park the arm. No process that is started here outlives this call."""
        with self.signals:
            self._monitor.watch_signals(self.signals)
            try:
                early_end = self._attempt()
                ending = self._end(early_end)
            finally:
                self._line.finish()
                self._close()
        self.summary.ending, self.summary.exit_code = ending.message, ending.exit_code
        self.summary.fault = ending.message if ending.exit_code == ExitCode.FAULT else ""
        return ending

    def _end(self, early_end: EarlyEnd) -> Ending:
        """Park the arm, then end all processes."""
        safe_stop = SafeStop(self._group, self._monitor, self._plan.profile, self._receive, self._line)
        endings = [safe_stop.perform(early_end, self.signals)]
        result = RunResult(endings[0].message, len(self.summary.episodes))
        shutdown = Shutdown(self._group, self._line, self.signals)
        shutdown.perform(result, lambda: endings.append(safe_stop.release_now(endings[-1])))
        self._is_shut_down = True
        return endings[-1]

    def _attempt(self) -> EarlyEnd:
        """What ended the run early, if anything did."""
        try:
            self._start()
            self._perform()
        except (StopRequested, SefaError) as early_end:
            return early_end
        return None

    # -- the run ---------------------------------------------------------

    def _start(self) -> None:
        group = self._group
        group.locate_world()
        require_free(group.port)
        require_access(str(group.port))
        group.connect()
        group.start(Start.FIRST, Start.TOGETHER, Start.HELD)
        self._monitor.watch_started()
        if self._plan.world is not None:
            self._until(self._world.connect, START_TIMEOUT_S, "the simulated world does not start")
            self._world.check_task(self._plan.world)
        self._until(lambda: self._monitor.sources_ready, START_TIMEOUT_S, "the cameras and the policy do not get ready")
        group.start_control()  # last: no process opens the arm's port before everything else works
        self._monitor.watch_control()
        group.start(Start.LAST)
        self._monitor.watch_started()
        self._until(lambda: self._monitor.ready is not None, CONTROL_TIMEOUT_S, "control does not get ready")
        if (ready := self._monitor.ready) is not None:
            self._notices.ready(ready)
            for note in settings_notes(ready):
                self._record(RunEvent(RunStage.SETTINGS, time.monotonic_ns(), text=note))

    def _perform(self) -> None:
        if self._plan.untouched:
            self._observe()
            return
        schedule = self._plan.schedule
        number = 0
        while (schedule.episodes is None or number < schedule.episodes) and not self._time_is_over():
            number += 1
            self._perform_episode(number, schedule.first_seed + number - 1)

    def _observe(self) -> None:
        """Let the policy infer and control read the arm, until the observer has enough."""
        self._group.send(POLICY, PolicyCommand(Order.RUN).pack())
        while not self._time_is_over():
            self._poll()

    def _perform_episode(self, number: int, seed: int) -> None:
        of = f"/{self._plan.schedule.episodes}" if self._plan.schedule.episodes else ""
        self._notices.episode = f"episode {number}{of}"
        self._group.command(Command.ARM)
        self._until(self._at_start_pose, MOVE_TIMEOUT_S, "the arm does not reach its start pose")
        self._world.place(seed)
        self._group.command(Command.RUN)
        self._until(lambda: self._monitor.mode is Mode.RUNNING, MOVE_TIMEOUT_S, "the arm does not begin")
        if self._plan.schedule.total_s is not None and self._end_ns is None:
            self._end_ns = time.monotonic_ns() + s_to_ns(self._plan.schedule.total_s)  # the first move does not count
        after_ns = self._monitor.tick.start_ns if self._monitor.tick else 0
        self._group.send(POLICY, PolicyCommand(Order.RUN, number, seed, after_ns).pack())
        caption = f"{self._plan.card.name}  {self._notices.episode}"
        self._group.send(VIDEO, VideoCommand(VideoAction.START, number, caption).pack())
        self._follow_and_record(number, seed)
        self._group.send(POLICY, PolicyCommand(Order.PAUSE).pack())

    def _follow_and_record(self, number: int, seed: int) -> None:
        start_ns, first_chunk = time.monotonic_ns(), self._monitor.newest_chunk_id
        outcome = "stopped"
        self._record(RunEvent(RunStage.EPISODE_BEGIN, start_ns, number, seed))
        try:
            outcome = self._follow(start_ns, seed)
        finally:
            self._record(RunEvent(RunStage.EPISODE_END, time.monotonic_ns(), number, seed, outcome))
            self._group.send(VIDEO, VideoCommand(VideoAction.STOP, number, outcome).pack())
            duration_s = round((time.monotonic_ns() - start_ns) / NS_PER_S, 3)
            chunks = self._monitor.newest_chunk_id - first_chunk
            self.summary.episodes.append(EpisodeResult(number, seed, outcome, duration_s, chunks))

    def _follow(self, start_ns: int, seed: int) -> str:
        """Watch one episode to its end; returns its outcome."""
        episode_s = self._plan.schedule.episode_s
        end_ns = None if episode_s is None else start_ns + s_to_ns(episode_s)
        while True:
            self._poll()
            if outcome := self._world.outcome(seed):
                return outcome
            if end_ns is not None and time.monotonic_ns() >= end_ns:
                return "timeout" if self._world.is_connected else "ended"
            if self._time_is_over():
                return "ended"

    # -- conditions ---------------------------------------------------------

    def _time_is_over(self) -> bool:
        if self._observer is not None and self._observer.satisfied:
            return True
        return self._end_ns is not None and time.monotonic_ns() >= self._end_ns

    def _at_start_pose(self) -> bool:
        tick = self._monitor.tick
        return tick is not None and tick.mode is Mode.ARMED and tick.settled

    # -- waiting ---------------------------------------------------------

    def _until(self, condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        """Wait. Raises StopRequested, the SefaError of whatever failed, or in the end the complaint."""
        give_up_ns = time.monotonic_ns() + s_to_ns(timeout_s)
        while not condition():
            self._poll()
            if time.monotonic_ns() > give_up_ns:
                self._fail(FaultError(f"{complaint} within {timeout_s:g} s", "is this machine overloaded?"))

    def _poll(self) -> None:
        """Handle what has come, then raise what ends the run."""
        self._receive()
        taken = self.signals.take()
        if taken:
            raise StopRequested(EMERGENCY if EMERGENCY in taken else taken[0])
        if self._monitor.final is not None:
            raise _error_of(self._monitor.final)
        for child in self._monitor.dead:
            self._handle_death(child)
        if self._monitor.control_is_silent:
            raise ControlLost("the control process fell silent", "was it stopped, or is this machine overloaded?")

    def _fail(self, error: SefaError) -> NoReturn:
        """The arm stops before anything else is done about an error."""
        self._group.command(Command.STOP)
        raise error

    def _handle_death(self, child: Child) -> None:
        row = self._group.row_of(child)
        if row.death is Death.REPLACED and child is self._group.control:
            raise ControlLost(str(child.failure()), "what it printed, if anything, is above")
        if row.death is Death.PORT_LOST:
            self._group.remove_port()
        if row.death is Death.NOTE:
            self._notices.process_ended(row, child)
        elif row.death is not Death.IGNORED:
            self._fail(child.failure())

    def _receive(self) -> None:
        self._send_heartbeat()
        self._monitor.receive(POLL_S)
        self._notices.update(self.summary)

    def _send_heartbeat(self) -> None:
        """To control, from its Ready on; every wait comes through here."""
        now_ns = time.monotonic_ns()
        if self._monitor.ready is not None and now_ns - self._heartbeat_ns >= HEARTBEAT_NS:
            self._heartbeat_ns = now_ns
            self._group.send(CONTROL, Heartbeat(now_ns).pack())

    def _record(self, event: RunEvent) -> None:
        self._group.send(RECORDER, event.pack())

    # -- the end ---------------------------------------------------------

    def _close(self) -> None:
        self._group.end_all(0.0 if self._is_shut_down else EXIT_PATIENCE_S)
        self._world.close()
        self._monitor.close()


def _error_of(final: Final) -> SefaError:
    """A Final that was not asked for."""
    if final.exit_code:
        return ControlEnded(final.message, final.hint, final.exit_code)
    return FaultError("the control process was asked to end, but not by its supervisor", "who sent it SIGTERM?")
