"""Starts, watches and stops everything. Whatever ends a run, the arm is brought home and nobody is left behind.

A run reads top to bottom in `_perform`; every wait goes through `_until`, and every wait notices a signal, a fault
of the arm, the end of a process and a silent control process. What went wrong is raised, told once, and `_bring_home`
parks and releases the arm before anything else ends.
"""

from __future__ import annotations

import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sefa_edge.edge.crew import Crew
from sefa_edge.edge.film_process import FilmOrder, Scene
from sefa_edge.edge.modes import Command, Mode
from sefa_edge.edge.policy_records import Happening, Order, PolicyCommand, PolicyReport
from sefa_edge.edge.process import Child
from sefa_edge.edge.records import ControlCommand, Final, Ready, TickReport, Torque, unpack_for_supervisor
from sefa_edge.edge.run_plan import RunPlan
from sefa_edge.edge.status import RateMeter, Status, StatusLine
from sefa_edge.edge.stop_signals import STOPPING, StopSignals
from sefa_edge.edge.summary import EpisodeResult, RunSummary
from sefa_edge.edge.transport import ChannelClosed, FrameDescriptor
from sefa_edge.firmware_bridge.simulation.client import WorldClient
from sefa_edge.firmware_bridge.simulation.state_file import StateReader
from sefa_edge.profiles.errors import FaultError, InputError, MissingError, SefaError
from sefa_edge.profiles.units import NS_PER_S, s_to_ns

START_TIMEOUT_S = 60.0
MOVE_TIMEOUT_S = 60.0
HOME_TIMEOUT_S = 90.0
FILM_TIMEOUT_S = 180.0
CONTROL_SILENCE_NS = s_to_ns(2.0)
POLL_S = 0.05
POWERED_MODES = frozenset({Mode.ARMED, Mode.RUNNING, Mode.HOLD, Mode.PARK})
STATE_WORDS = {
    Mode.IDLE: "starting",
    Mode.ARMED: "to start",
    Mode.RUNNING: "running",
    Mode.HOLD: "holding",
    Mode.PARK: "parking",
    Mode.RELEASED: "released",
    Mode.FAULT: "fault",
}


class StopAsked(Exception):  # noqa: N818  (not an error)
    """A person asked for the end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


class ControlLost(FaultError):
    """The control process ended without a word, or fell silent."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: exit code, and a message with a hint for a person."""

    exit_code: int
    message: str
    hint: str = ""


class Listener(Protocol):
    """Hears every record of a run, for a program that measures, and may end it when it has heard enough."""

    @property
    def satisfied(self) -> bool: ...

    def hear_frame(self, descriptor: FrameDescriptor, arrived_ns: int) -> None: ...

    def hear_policy(self, report: PolicyReport) -> None: ...

    def hear_tick(self, report: TickReport) -> None: ...


class Supervisor:
    """One run, from the first process to the last."""

    def __init__(self, plan: RunPlan, line: StatusLine, listener: Listener | None = None) -> None:
        self._plan = plan
        self._listener = listener
        self._line = line
        self._crew = Crew(plan)
        self._joints = len(plan.profile.joints)
        self._selector = selectors.DefaultSelector()
        self._signals = StopSignals()
        self._rate = RateMeter()
        self._ready: Ready | None = None
        self._tick: TickReport | None = None
        self._final: Final | None = None
        self._heard_ns = 0
        self._newest_chunk_id = 0
        self._policy_ready = False
        self._seeing: set[str] = set()
        self._policy_report: PolicyReport | None = None
        self._dead: list[Child] = []
        self._world: WorldClient | None = None
        self._state: StateReader | None = None
        self._episode = ""
        self._end_ns: int | None = None
        self.summary = RunSummary(plan.card.name, plan.arm_name, plan.control_rate_hz)

    def run(self) -> Ending:
        """Perform the run and bring the arm home, whatever happens. Nothing that was started outlives this call."""
        with self._signals:
            self._selector.register(self._signals.fileno(), selectors.EVENT_READ, lambda: None)
            try:
                ending = self._bring_home(self._attempt())
                self._develop_film()
            finally:
                self._line.finish()
                self._close()
        self.summary.ending, self.summary.exit_code = ending.message, ending.exit_code
        return ending

    def _attempt(self) -> StopAsked | SefaError | None:
        """What cut the run short, if anything did."""
        try:
            self._start()
            self._perform()
        except (StopAsked, SefaError) as cut_short:
            return cut_short
        return None

    # -- the run ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._crew.start_world()
        self._crew.start_senses()
        self._watch_workers()
        if self._crew.world_paths is not None:
            self._until(self._world_answers, START_TIMEOUT_S, "the simulated world does not start")
            self._check_world()
        self._until(self._senses_ready, START_TIMEOUT_S, "the cameras and the policy do not get ready")
        self._crew.start_film()
        self._crew.start_control()  # last: nobody opens the arm's port before everything else works
        self._watch_control()
        self._until(lambda: self._ready is not None, START_TIMEOUT_S, "the control process does not get ready")
        if self._ready is not None and self._ready.refused:
            refused = str(self._ready.refused).removeprefix("Privilege.").replace("|", ", ")
            self._line.say(f"note: not permitted here, the loop may jitter: {refused}")

    def _check_world(self) -> None:
        task = None if self._world is None else self._world.status().task
        if self._plan.world is not None and task != self._plan.world.task:
            raise InputError(f"this simulated world plays '{task}', not '{self._plan.world.task}'", "start another one")

    def _perform(self) -> None:
        schedule = self._plan.schedule
        self._end_ns = None if schedule.total_s is None else time.monotonic_ns() + s_to_ns(schedule.total_s)
        number = 0
        while (schedule.episodes is None or number < schedule.episodes) and not self._time_is_over():
            number += 1
            self._perform_episode(number, schedule.first_seed + number - 1)

    def _perform_episode(self, number: int, seed: int) -> None:
        of = f"/{self._plan.schedule.episodes}" if self._plan.schedule.episodes else ""
        self._episode = f"episode {number}{of}"
        self._command(Command.ARM)
        self._until(self._at_start_pose, MOVE_TIMEOUT_S, "the arm does not reach its start pose")
        if self._world is not None:
            self._world.place(seed)
        self._command(Command.RUN)
        self._until(lambda: self._mode is Mode.RUNNING, MOVE_TIMEOUT_S, "the control loop does not start")
        start_ns, first_chunk = time.monotonic_ns(), self._newest_chunk_id
        self._order_policy(PolicyCommand(Order.RUN, number, seed, self._tick.start_ns if self._tick else 0))
        self._film(FilmOrder(Scene.ROLL, number, f"{self._plan.card.name}  {self._episode}"))
        outcome = "stopped"
        try:
            outcome = self._follow(start_ns, seed)
        finally:
            self._film(FilmOrder(Scene.CUT, number, outcome))
            duration_s = (time.monotonic_ns() - start_ns) / NS_PER_S
            chunks = self._newest_chunk_id - first_chunk
            self.summary.episodes.append(EpisodeResult(number, seed, outcome, round(duration_s, 3), chunks))
        self._order_policy(PolicyCommand(Order.PAUSE))

    def _follow(self, start_ns: int, seed: int) -> str:
        """Watch one episode to its end; returns its outcome."""
        episode_s = self._plan.schedule.episode_s
        end_ns = None if episode_s is None else start_ns + s_to_ns(episode_s)
        while True:
            self._pump()
            verdict = self._verdict(seed)
            if verdict:
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

    # -- conditions -------------------------------------------------------------------------------------------------

    @property
    def _mode(self) -> Mode:
        return Mode.IDLE if self._tick is None else self._tick.mode

    def _time_is_over(self) -> bool:
        if self._listener is not None and self._listener.satisfied:
            return True
        return self._end_ns is not None and time.monotonic_ns() >= self._end_ns

    def _at_start_pose(self) -> bool:
        return self._tick is not None and self._tick.mode is Mode.ARMED and self._tick.settled

    def _world_answers(self) -> bool:
        assert self._crew.world_paths is not None
        try:
            self._world = WorldClient(self._crew.world_paths.port)
            self._state = StateReader(self._crew.world_paths.state)
        except MissingError:
            if self._crew.world is None:
                raise  # one that was started elsewhere must be there already
            return False
        return True

    def _senses_ready(self) -> bool:
        return self._policy_ready and self._seeing == set(self._crew.cameras)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def _until(self, condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        """Wait. Raises StopAsked, the SefaError of whatever failed, or FaultError with the complaint in the end."""
        give_up_ns = time.monotonic_ns() + s_to_ns(timeout_s)
        while not condition():
            self._pump()
            if time.monotonic_ns() > give_up_ns:
                raise FaultError(f"{complaint} within {timeout_s:g} s", "try again; if it stays, report it")

    def _pump(self) -> None:
        """Take in whatever happened, then raise what cannot be ignored."""
        self._take_in()
        for number in self._signals.take():
            raise StopAsked(number)
        if self._final is not None:
            raise _error_of(self._final)
        for child in self._dead:
            if child is self._crew.film:
                continue
            raise ControlLost("the control process ended", _ending_of(child)) if self._is_control(child) else child.failure()
        if self._control_is_silent():
            raise ControlLost("the control process fell silent", "the machine may be overloaded")

    def _take_in(self) -> None:
        for key, _ in self._selector.select(POLL_S):
            key.data()
        now_ns = time.monotonic_ns()
        report = self._policy_report
        self._line.update(
            Status(
                self._episode,
                STATE_WORDS[self._mode],
                self._rate.rate_hz,
                report.inference_ns if report else None,
                report.frame_age_ns if report else None,
                f"success {self.summary.successes}/{len(self.summary.judged)}" if self.summary.judged else "",
            ),
            now_ns,
        )

    def _control_is_silent(self) -> bool:
        return self._ready is not None and time.monotonic_ns() - self._heard_ns > CONTROL_SILENCE_NS

    def _is_control(self, child: Child) -> bool:
        return child is self._crew.control

    # -- hearing ----------------------------------------------------------------------------------------------------

    def _watch_workers(self) -> None:
        crew = self._crew
        for child in crew.children:
            self._watch_exit(child)
        if crew.policy_channel is not None:
            self._selector.register(crew.policy_channel, selectors.EVENT_READ, self._hear_policy)
        for name, channel in crew.camera_channels.items():
            self._selector.register(channel, selectors.EVENT_READ, lambda name=name: self._hear_camera(name))

    def _watch_control(self) -> None:
        assert self._crew.control is not None
        assert self._crew.control_channel is not None
        self._watch_exit(self._crew.control)
        self._selector.register(self._crew.control_channel, selectors.EVENT_READ, self._hear_control)

    def _watch_exit(self, child: Child) -> None:
        def ended() -> None:
            self._selector.unregister(child.exit_fd)
            self._dead.append(child)

        self._selector.register(child.exit_fd, selectors.EVENT_READ, ended)

    def _hear_control(self) -> None:
        channel = self._crew.control_channel
        assert channel is not None
        try:
            for record in channel.drain():
                self._take_record(unpack_for_supervisor(record, self._joints))
        except ChannelClosed:
            self._selector.unregister(channel)

    def _take_record(self, record: Ready | TickReport | Final) -> None:
        self._heard_ns = time.monotonic_ns()
        if isinstance(record, TickReport):
            self._tick = record
            if self._listener is not None:
                self._listener.hear_tick(record)
            self._rate.add(record.tick - record.skipped_ticks, record.start_ns)
            self.summary.count(record)
            self._newest_chunk_id = max(self._newest_chunk_id, record.chunk_id)
        elif isinstance(record, Ready):
            self._ready = record
        else:
            self._final = record

    def _hear_policy(self) -> None:
        channel = self._crew.policy_channel
        assert channel is not None
        try:
            for record in channel.drain():
                report = PolicyReport.unpack(record)
                if self._listener is not None:
                    self._listener.hear_policy(report)
                self._policy_ready |= report.happening is Happening.READY
                if report.happening is Happening.CHUNK:
                    self._policy_report = report
                    self.summary.inference.add(report.inference_ns)
                    self.summary.frame_age.add(report.frame_age_ns)
        except ChannelClosed:
            self._selector.unregister(channel)

    def _hear_camera(self, name: str) -> None:
        channel = self._crew.camera_channels[name]
        try:
            for record in channel.drain():
                self._seeing.add(name)
                if self._listener is not None:
                    self._listener.hear_frame(FrameDescriptor.unpack(record), time.monotonic_ns())
        except ChannelClosed:
            self._selector.unregister(channel)

    # -- telling ----------------------------------------------------------------------------------------------------

    def _command(self, command: Command) -> None:
        with suppress(ChannelClosed):  # its end is noticed, and told, by whoever waits
            if self._crew.control_channel is not None:
                self._crew.control_channel.send(ControlCommand(command).pack())

    def _order_policy(self, command: PolicyCommand) -> None:
        with suppress(ChannelClosed):
            if self._crew.policy_channel is not None:
                self._crew.policy_channel.send(command.pack())

    def _film(self, order: FilmOrder) -> None:
        with suppress(ChannelClosed):
            if self._crew.film_channel is not None:
                self._crew.film_channel.send(order.pack())

    # -- the end ----------------------------------------------------------------------------------------------------

    def _bring_home(self, cut_short: StopAsked | SefaError | None) -> Ending:
        """Hold, park, release; by a fresh control process if the first one is gone. Signals no longer interrupt."""
        if isinstance(cut_short, StopAsked):
            self._line.say(f"{STOPPING[cut_short.number]}: stopping")
        elif cut_short is not None and self._mode in POWERED_MODES:
            self._line.say(f"fault: {cut_short}")
        if isinstance(cut_short, ControlLost) and self._crew.control is not None:
            self._crew.control.stop(patience_s=0.0)
            self._hear_control()
        if self._crew.control is None:
            return self._ending(cut_short, "arm not touched")
        if self._final is None and self._crew.control.exit_code is None:
            self._command(Command.STOP)
            self._wait_for_final()
        if self._final is None and self._mode in POWERED_MODES:
            self._rescue()
        return self._ending(cut_short, self._arm_words())

    def _rescue(self) -> None:
        self._line.say("the control process is gone; another one parks the arm")
        self._crew.start_rescue()
        self._ready = self._tick = None
        self._watch_control()
        self._wait_for(lambda: self._ready is not None)
        self._command(Command.ARM)
        self._command(Command.STOP)
        self._wait_for_final()

    def _wait_for_final(self) -> None:
        self._wait_for(lambda: self._final is not None)
        if self._final is None and self._crew.control is not None:
            self._crew.control.stop(patience_s=0.0)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for the control process while it lives; a second Ctrl-C is answered, not obeyed."""
        assert self._crew.control is not None
        give_up_ns = time.monotonic_ns() + s_to_ns(HOME_TIMEOUT_S)
        self._heard_ns = time.monotonic_ns()
        while not condition() and time.monotonic_ns() < give_up_ns:
            self._take_in()
            if self._signals.take():
                self._line.say("the arm is being parked and released; it will end by itself in a few seconds")
            if self._crew.control in self._dead or self._control_is_silent():
                self._take_in()
                return

    def _arm_words(self) -> str:
        if self._final is None:
            return "arm not touched" if self._mode not in POWERED_MODES else "the arm may still hold; its state is unknown"
        if self._final.mode is Mode.IDLE:
            return "arm not touched"
        if self._final.mode is Mode.RELEASED and self._final.torque is Torque.OFF:
            return "arm parked and released"
        return "arm left holding its last goal, torque still on"

    def _ending(self, cut_short: StopAsked | SefaError | None, arm_words: str) -> Ending:
        final = self._final
        if isinstance(cut_short, StopAsked):
            message = f"stopped by {STOPPING[cut_short.number]}: {arm_words}"
            if final is not None and final.exit_code:
                return Ending(3, final.message, final.hint)
            return Ending(128 + cut_short.number, message)
        if cut_short is not None and final is not None and str(cut_short) == final.message:
            self.summary.fault = final.message
            return Ending(cut_short.exit_code, final.message, final.hint)
        if cut_short is not None:
            self.summary.fault = str(cut_short)
            touched = arm_words != "arm not touched"
            message = f"{cut_short}: {arm_words}" if touched else str(cut_short)
            return Ending(3 if touched else cut_short.exit_code, message, cut_short.hint)
        if final is not None and final.exit_code == 0:
            return Ending(0, arm_words)
        return Ending(3, final.message if final else f"the control process ended: {arm_words}", final.hint if final else "")

    def _develop_film(self) -> None:
        film = self._crew.film
        if film is None or film.exit_code is not None or not self.summary.episodes:
            return
        self._line.say(f"drawing {self._plan.film}")
        self._film(FilmOrder(Scene.DEVELOP))
        give_up_ns = time.monotonic_ns() + s_to_ns(FILM_TIMEOUT_S)
        while film.wait(POLL_S) is None and time.monotonic_ns() < give_up_ns:
            if self._signals.take():
                self._line.say("the film is given up")
                return
        if film.exit_code:
            self._line.say(f"no film: {film.failure()}")

    def _close(self) -> None:
        for resource in (self._world, self._state):
            if resource is not None:
                resource.close()
        self._selector.close()
        self._crew.dismiss()


def _error_of(final: Final) -> SefaError:
    """A Final that nobody asked for."""
    error = SefaError(final.message, final.hint)
    error.exit_code = final.exit_code or 3
    return error


def _ending_of(child: Child) -> str:
    code = child.exit_code
    return f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
