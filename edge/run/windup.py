"""The end of everybody once the arm rests: all at the same time, and each within its own time.

    control, policy, cameras, simulated world    end by themselves when their channels are closed
    recorder                                      writes what has arrived and closes its file
    film                                          draws, for as long as it is at work

A process that has neither used nor wanted a processor for two seconds is not at work: it was stopped, or hangs in a
disk write.

Any other process than a film at work has ended within 5 s after the arm came to rest, or is killed. A process that
cannot even be killed, because it hangs in a disk write, is left to the operating system.
"""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from sefa_edge.edge.ipc.process import Child
from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed
from sefa_edge.edge.ipc.video_command import VideoAction, VideoCommand
from sefa_edge.edge.recording.names import PARTIAL
from sefa_edge.edge.run.crew import GOODBYE_S, Crew, end_together
from sefa_edge.edge.run.run_plan import RunPlan
from sefa_edge.edge.run.status import StatusLine
from sefa_edge.profiles.stopping import EMERGENCY, StopSignals

POLL_S = 0.1
RECORDING_S = 3.5
"""How long the recorder may take; it plans with less (`recorder_process.CLOSING_NS`)."""
FILM_S = 180.0
"""How long the film may be at work."""
STUCK_S = 2.0
"""A process that has neither used nor wanted a processor for so long is not at work."""


class Worker:
    """A process that still has something to do."""

    def __init__(self, child: Child, patience_s: float) -> None:
        self.child = child
        self._give_up_s = time.monotonic() + patience_s
        self._ticks = -1
        self._worked_s = time.monotonic()

    def is_over(self, now_s: float) -> bool:
        """Whether it is stuck, or has had its time."""
        ticks = self.child.processor_ticks()
        if ticks != self._ticks or self.child.wants_processor():  # a busy machine may leave it none for seconds
            self._ticks, self._worked_s = ticks, now_s
        return now_s > self._give_up_s or now_s - self._worked_s > STUCK_S


class Windup:
    """Made when the arm rests, and used once."""

    def __init__(self, crew: Crew, plan: RunPlan, line: StatusLine, signals: StopSignals) -> None:
        self._crew, self._plan, self._line, self._signals = crew, plan, line, signals
        self._goodbye_s = time.monotonic() + GOODBYE_S
        self._workers: dict[Child, Worker] = {}
        self._killed: set[Child] = set()

    def perform(self, ending: str, draw: bool, on_emergency: Callable[[], None]) -> None:
        """End everybody.

        Args:
            ending: how the run ended, for the recording.
            draw: whether there is something to draw.
            on_emergency: called for Ctrl-\\, which may come also now.
        """
        recorder = self._begin(self._crew.recorder, RECORDING_S)
        film = self._begin(self._crew.film if draw else None, FILM_S)
        if recorder is not None:
            _send(self._crew.recorder_channel, RunEvent(RunStage.END, time.monotonic_ns(), text=ending).pack())
        if film is not None:
            _send(self._crew.film_channel, VideoCommand(VideoAction.FINISH).pack())
        elif self._crew.film_channel is not None:
            self._crew.film_channel.close()
        self._crew.let_go()
        if film is not None:
            self._line.say(f"drawing {self._plan.film}; Ctrl-C gives it up")
        while left := [child for child in self._crew.children if child.exit_code is None and child not in self._killed]:
            self._wait(left)
            self._answer_signals(film, on_emergency)
            self._kill(child for child in left if self._is_over(child))
        end_together(list(self._killed), 0.0)
        if recorder is not None:
            self._tell_recording(recorder)
        if film is not None:
            self._tell_film(film)

    def _begin(self, child: Child | None, patience_s: float) -> Child | None:
        """The process, if it is there to do its work."""
        if child is None or child.exit_code is not None:
            return None
        self._workers[child] = Worker(child, patience_s)
        return child

    def _wait(self, left: list[Child]) -> None:
        poller = select.poll()
        for descriptor in (self._signals.fileno(), *(child.exit_fd for child in left)):
            poller.register(descriptor, select.POLLIN)
        poller.poll(POLL_S * 1000)

    def _answer_signals(self, film: Child | None, on_emergency: Callable[[], None]) -> None:
        for number in self._signals.take():
            if number is EMERGENCY:
                on_emergency()
            elif film is not None and film.exit_code is None:
                self._line.say("the pictures are given up")
                self._kill([film])

    def _is_over(self, child: Child) -> bool:
        now_s = time.monotonic()
        worker = self._workers.get(child)
        return now_s > self._goodbye_s if worker is None else worker.is_over(now_s)

    def _kill(self, children: Iterable[Child]) -> None:
        for child in children:
            self._killed.add(child)
            child.send_signal(signal.SIGKILL)

    def _tell_recording(self, recorder: Child) -> None:
        plan = self._plan.recording
        if plan is None:
            return
        if recorder in self._killed:
            self._line.say(
                f"the recording is not complete: the recorder did not end in time and was killed; what it wrote is in "
                f"{plan.path}{PARTIAL}, which `replay` and `dataset from-runs` read as far as it goes"
            )
        elif recorder.exit_code == 0:
            self._line.say(f"recorded into {plan.path}: {recorder.last_words().strip()}")
        else:
            self._line.say(f"the recording ended: {recorder.failure()}")

    def _tell_film(self, film: Child) -> None:
        if film in self._killed:
            self._line.say("no pictures: the process that draws them was killed")
        elif film.exit_code:
            self._line.say(f"no pictures: {film.failure()}")


def _send(channel: Channel | None, record: bytes) -> None:
    with suppress(ChannelClosed):
        if channel is not None:
            channel.send(record)
