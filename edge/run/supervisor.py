"""Starts, watches and stops everything. Whatever ends a run, the arm goes home and nobody is left behind.

A run reads top to bottom in `_start` and `_perform`. Every wait notices a signal, a fault of the arm, the end
of a process and a silent control process. The command to stop goes to control first: for a signal out of its handler,
for everything else where it is found. Then it is raised and told once, the arm is parked and released
(edge/run/homecoming.py), and all other processes end (edge/run/windup.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from sefa_edge.edge.control.realtime import refusal_words, user_name
from sefa_edge.edge.ipc.policy_records import Order, PolicyCommand
from sefa_edge.edge.ipc.process import Child, started_ns
from sefa_edge.edge.ipc.records import Final, Heartbeat, Privilege, names_of
from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed
from sefa_edge.edge.ipc.video_command import VideoAction, VideoCommand
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.edge.run.crew import GOODBYE_S, Crew
from sefa_edge.edge.run.homecoming import ControlEnded, ControlLost, CutShort, Ending, Homecoming, StopAsked
from sefa_edge.edge.run.run_plan import RunPlan
from sefa_edge.edge.run.status import RateMeter, Status, StatusLine
from sefa_edge.edge.run.summary import EpisodeResult, RunSummary
from sefa_edge.edge.run.watch import Listener, Watch
from sefa_edge.edge.run.windup import Windup
from sefa_edge.firmware_bridge.host.port_access import require_access
from sefa_edge.firmware_bridge.host.port_lock import require_free
from sefa_edge.firmware_bridge.simulation.client import WorldClient
from sefa_edge.firmware_bridge.simulation.state_file import StateReader
from sefa_edge.profiles.errors import FaultError, InputError, MissingError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.stopping import EMERGENCY, StopSignals
from sefa_edge.profiles.units import NS_PER_S, s_to_ns

START_TIMEOUT_S = 60.0
CONTROL_TIMEOUT_S = 20.0
"""Control has nothing to load any more when it may begin."""
MOVE_TIMEOUT_S = 60.0
POLL_S = 0.05
HEARTBEAT_NS = s_to_ns(0.05)
STATE_WORDS = {
    Mode.IDLE: "starting",
    Mode.ARMED: "to start",
    Mode.RUNNING: "running",
    Mode.HOLD: "holding",
    Mode.PARK: "parking",
    Mode.RELEASED: "released",
    Mode.FAULT: "fault",
    Mode.EMERGENCY: "EMERGENCY",
    Mode.PARKED: "parked",
}


class Supervisor:
    """One run, from the first process to the last."""

    def __init__(self, plan: RunPlan, line: StatusLine, listener: Listener | None = None) -> None:
        self.summary = RunSummary(plan.card.name, plan.arm_name, plan.control_rate_hz, started_ns())
        self._plan = plan
        self._line = line
        self._listener = listener
        self._crew = Crew(plan)
        self._watch = Watch(self._crew, len(plan.profile.joints), self.summary, listener)
        self.signals = StopSignals(self._crew.obey)
        """Entered by `run`; by its caller as well where a signal must not cut short what follows."""
        self._rate = RateMeter()
        self._world: WorldClient | None = None
        self._state: StateReader | None = None
        self._episode = ""
        self._end_ns: int | None = None
        self._beat_ns = 0
        self._warm_joints = 0
        self._recording_ended = False
        self._wound_up = False
        """All processes have been ended, those that could be."""

    @property
    def control_pid(self) -> int | None:
        """The process that is measured; None before it was started."""
        return None if self._crew.control is None else self._crew.control.pid

    @property
    def refused(self) -> Privilege:
        """What the operating system did not grant the control process."""
        return Privilege.NONE if self._watch.ready is None else self._watch.ready.refused

    def run(self) -> Ending:
        """Perform the run, then bring the arm home. Nothing that is started here outlives this call."""
        with self.signals:
            self._watch.watch_signals(self.signals)
            try:
                cut_short = self._attempt()
                ending = self._end(cut_short)
            finally:
                self._line.finish()
                self._close()
        self.summary.ending, self.summary.exit_code = ending.message, ending.exit_code
        self.summary.fault = ending.message if ending.exit_code == ExitCode.FAULT else ""
        return ending

    def _end(self, cut_short: CutShort) -> Ending:
        """Bring the arm home, then end everybody."""
        home = Homecoming(self._crew, self._watch, self._plan.profile, self._take_in, self._line)
        endings = [home.bring(cut_short, self.signals)]
        windup = Windup(self._crew, self._plan, self._line, self.signals)
        windup.perform(
            endings[0].message,
            bool(self.summary.episodes),
            lambda: endings.append(home.release_now(endings[-1])),
        )
        self._wound_up = True
        return endings[-1]

    def _attempt(self) -> CutShort:
        """What cut the run short, if anything did."""
        try:
            self._start()
            self._perform()
        except (StopAsked, SefaError) as cut_short:
            return cut_short
        return None

    # -- the run ---------------------------------------------------------

    def _start(self) -> None:
        self._crew.locate_world()
        require_free(self._crew.port)
        require_access(str(self._crew.port))
        self._crew.start_world()
        self._crew.start_senses()
        self._watch.watch_workers()
        if self._crew.world_paths is not None:
            self._until(self._world_answers, START_TIMEOUT_S, "the simulated world does not start")
            self._check_world()
        self._until(self._senses_ready, START_TIMEOUT_S, "the cameras and the policy do not get ready")
        self._crew.start_control()  # last: nobody opens the arm's port before everything else works
        self._watch.watch_control()
        self._crew.start_film()
        self._until(lambda: self._watch.ready is not None, CONTROL_TIMEOUT_S, "control does not get ready")
        self._tell_refusals()
        self._tell_settings()
        self._tell_range()

    def _perform(self) -> None:
        if self._plan.untouched:
            self._look_on()
            return
        schedule = self._plan.schedule
        number = 0
        while (schedule.episodes is None or number < schedule.episodes) and not self._time_is_over():
            number += 1
            self._perform_episode(number, schedule.first_seed + number - 1)

    def _look_on(self) -> None:
        """Let the policy think and control read the arm, until the listener has heard enough."""
        self._send(self._crew.policy_channel, PolicyCommand(Order.RUN).pack())
        while not self._time_is_over():
            self._pump()

    def _perform_episode(self, number: int, seed: int) -> None:
        of = f"/{self._plan.schedule.episodes}" if self._plan.schedule.episodes else ""
        self._episode = f"episode {number}{of}"
        self._crew.command(Command.ARM)
        self._until(self._at_start_pose, MOVE_TIMEOUT_S, "the arm does not reach its start pose")
        if self._world is not None:
            self._world.place(seed)
        self._crew.command(Command.RUN)
        self._until(lambda: self._watch.mode is Mode.RUNNING, MOVE_TIMEOUT_S, "the arm does not begin")
        if self._plan.schedule.total_s is not None and self._end_ns is None:
            self._end_ns = time.monotonic_ns() + s_to_ns(self._plan.schedule.total_s)  # the first move does not count
        after_ns = self._watch.tick.start_ns if self._watch.tick else 0
        self._send(self._crew.policy_channel, PolicyCommand(Order.RUN, number, seed, after_ns).pack())
        caption = f"{self._plan.card.name}  {self._episode}"
        self._send(self._crew.film_channel, VideoCommand(VideoAction.START, number, caption).pack())
        self._follow_and_note(number, seed)
        self._send(self._crew.policy_channel, PolicyCommand(Order.PAUSE).pack())

    def _follow_and_note(self, number: int, seed: int) -> None:
        start_ns, first_chunk = time.monotonic_ns(), self._watch.newest_chunk_id
        outcome = "stopped"
        self._note(RunEvent(RunStage.EPISODE_BEGIN, start_ns, number, seed))
        try:
            outcome = self._follow(start_ns, seed)
        finally:
            self._note(RunEvent(RunStage.EPISODE_END, time.monotonic_ns(), number, seed, outcome))
            self._send(self._crew.film_channel, VideoCommand(VideoAction.STOP, number, outcome).pack())
            duration_s = round((time.monotonic_ns() - start_ns) / NS_PER_S, 3)
            chunks = self._watch.newest_chunk_id - first_chunk
            self.summary.episodes.append(EpisodeResult(number, seed, outcome, duration_s, chunks))

    def _follow(self, start_ns: int, seed: int) -> str:
        """Watch one episode to its end; returns its outcome."""
        episode_s = self._plan.schedule.episode_s
        end_ns = None if episode_s is None else start_ns + s_to_ns(episode_s)
        while True:
            self._pump()
            if verdict := self._verdict(seed):
                return verdict
            if end_ns is not None and time.monotonic_ns() >= end_ns:
                return "ended" if self._world is None else "timeout"
            if self._time_is_over():
                return "ended"

    def _verdict(self, seed: int) -> str:
        state = None if self._state is None else self._state.read()
        if state is None or state.placed_seed != seed:
            return ""
        return "success" if state.success else "lost" if state.lost else ""

    # -- conditions ---------------------------------------------------------

    def _time_is_over(self) -> bool:
        if self._listener is not None and self._listener.satisfied:
            return True
        return self._end_ns is not None and time.monotonic_ns() >= self._end_ns

    def _at_start_pose(self) -> bool:
        tick = self._watch.tick
        return tick is not None and tick.mode is Mode.ARMED and tick.settled

    def _senses_ready(self) -> bool:
        return self._watch.policy_ready and self._watch.seeing == set(self._crew.cameras)

    def _world_answers(self) -> bool:
        paths = self._crew.world_paths
        assert paths is not None
        try:
            self._state = self._state or StateReader(paths.state)
            self._world = WorldClient(paths.port)
        except MissingError:
            if self._crew.world is None:
                raise  # one that was started elsewhere must be there already
            return False
        return True

    def _check_world(self) -> None:
        task = None if self._world is None else self._world.status().task
        if self._plan.world is not None and task != self._plan.world.task:
            raise InputError(
                f"this simulated world plays '{task}', not '{self._plan.world.task}'",
                f"start another one: sefa-edge sim --task {self._plan.world.task}",
            )

    # -- waiting ---------------------------------------------------------

    def _until(self, condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        """Wait. Raises StopAsked, the SefaError of whatever failed, or in the end the complaint."""
        give_up_ns = time.monotonic_ns() + s_to_ns(timeout_s)
        while not condition():
            self._pump()
            if time.monotonic_ns() > give_up_ns:
                self._fail(FaultError(f"{complaint} within {timeout_s:g} s", "is this machine overloaded?"))

    def _pump(self) -> None:
        """Take in whatever happened, then raise what cannot be ignored."""
        self._take_in()
        taken = self.signals.take()
        if taken:
            raise StopAsked(EMERGENCY if EMERGENCY in taken else taken[0])
        if self._watch.final is not None:
            raise _error_of(self._watch.final)
        for child in self._watch.dead:
            self._raise_death(child)
        if self._watch.control_is_silent:
            raise ControlLost("the control process fell silent", "was it stopped, or is this machine overloaded?")

    def _fail(self, error: SefaError) -> NoReturn:
        """The arm stops before anything else is done about an error."""
        self._crew.command(Command.STOP)
        raise error

    def _raise_death(self, child: Child) -> None:
        if child is self._crew.control:
            raise ControlLost(str(child.failure()), "its last words, if it had any, are above")
        if child is self._crew.world:
            self._crew.unplug_world()
        if child is self._crew.recorder:
            self._tell_recording_ended(child)
        elif child is not self._crew.film:  # a run without its pictures is still a run
            self._fail(child.failure())

    def _beat(self) -> None:
        """Tell control that this process lives, from its Ready on; every wait comes through here."""
        now_ns = time.monotonic_ns()
        if self._watch.ready is not None and now_ns - self._beat_ns >= HEARTBEAT_NS:
            self._beat_ns = now_ns
            self._send(self._crew.control_channel, Heartbeat(now_ns).pack())

    def _take_in(self) -> None:
        self._beat()
        self._watch.take_in(POLL_S)
        tick, report = self._watch.tick, self._watch.policy_report
        if tick is not None:
            self._rate.add(tick.tick - tick.skipped_ticks, tick.start_ns)
            self._tell_warmth(tick.warm_bits)
        judged = len(self.summary.judged)
        status = Status(
            self._episode,
            STATE_WORDS[self._watch.mode],
            self._rate.rate_hz,
            report.inference_ns if report else None,
            report.frame_age_ns if report else None,
            f"success {self.summary.successes}/{judged}" if judged else "",
        )
        self._line.update(status, time.monotonic_ns())

    # -- telling ---------------------------------------------------------

    def _send(self, channel: Channel | None, record: bytes) -> None:
        with suppress(ChannelClosed):  # the end of the process is noticed, and told, by the next wait
            if channel is not None:
                channel.send(record)

    def _tell_refusals(self) -> None:
        for words in refusal_words(self.refused, self._plan.realtime.priority, user_name()):
            self._line.say(words)

    def _tell_settings(self) -> None:
        preparation = None if self._watch.ready is None else self._watch.ready.preparation
        for words in () if preparation is None else (preparation.written, preparation.left):
            if words:
                self._line.say(words)
                self._note(RunEvent(RunStage.SETTINGS, time.monotonic_ns(), text=words))

    def _tell_range(self) -> None:
        """A calibration in a file was looked at, and told, when the run was planned."""
        ready = self._watch.ready
        if ready is not None and ready.range_note and self._plan.calibration is None:
            self._line.say(f"note: {ready.range_note}")

    def _note(self, event: RunEvent) -> None:
        self._send(self._crew.recorder_channel, event.pack())

    def _tell_recording_ended(self, recorder: Child) -> None:
        """Once: the run goes on without it."""
        if not self._recording_ended:
            self._recording_ended = True
            self._line.say(f"the recording ended: {recorder.failure()}")

    def _tell_warmth(self, warm_bits: int) -> None:
        """Once for each joint of the run."""
        fresh, self._warm_joints = warm_bits & ~self._warm_joints, warm_bits | self._warm_joints
        for name in names_of(fresh, self._plan.profile.joint_names):
            self._line.say(f"note: the servo of {name} gets warm")

    # -- the end ---------------------------------------------------------

    def _close(self) -> None:
        self._crew.dismiss(0.0 if self._wound_up else GOODBYE_S)
        for resource in (self._world, self._state, self._watch):
            if resource is not None:
                resource.close()


def _error_of(final: Final) -> SefaError:
    """A Final that nobody asked for."""
    if final.exit_code:
        return ControlEnded(final.message, final.hint, final.exit_code)
    return FaultError("the control process was told to end, but not by its supervisor", "who sent it SIGTERM?")
