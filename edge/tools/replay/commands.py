"""The commands of a recorded run, computed anew: the same loop, on the recorded arm and a clock that stands.

A stretch begins where the state of the loop is known: at its start, and, after records that were lost, at the first
chunk that arrives while the arm runs, because two goals in a row and the chunks that are not over are all that a
running loop remembers.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sefa_edge.edge.control.chunks import MAX_OVERLAP, ActionChunk
from sefa_edge.edge.control.clock import ManualClock, Slot
from sefa_edge.edge.control.control_process import Surroundings, build_loop
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.modes import ModeState, Target
from sefa_edge.edge.control.safety import Commanded
from sefa_edge.edge.control.shaping import Setpoint
from sefa_edge.edge.control.tick_trace import TickTrace
from sefa_edge.edge.ipc.records import NONE_NS, ArmOpened, Kind, Torque, kind_of
from sefa_edge.edge.ipc.vocabulary import Mode, Progress
from sefa_edge.edge.recording.messages import (
    ArmMessage,
    Chunk,
    Json,
    Tick,
    arm_of,
    array_of,
    chunk_of,
    decode,
    encode,
    state_of,
    tick_message,
)
from sefa_edge.edge.recording.names import ARM, CHUNK, TICK
from sefa_edge.edge.recording.recorded_run import RecordedRun
from sefa_edge.edge.tools.replay.recorded_arm import Diverged, RecordedArm, RecordedLinks
from sefa_edge.firmware_bridge.host.arm_identity import nominal_identity
from sefa_edge.profiles.errors import InputError, SefaError

NOT_COMPARED = frozenset({"stage_ns", "dropped_records"})
"""How long something took is not computed anew."""


@dataclass(slots=True)
class Comparison:
    """What came of it. `first_difference` is empty when all that could be compared agrees."""

    compared: int = 0
    agreed: int = 0
    not_comparable: list[str] = field(default_factory=list)
    first_difference: str = ""

    def note(self, difference: str) -> None:
        self.compared += 1
        self.agreed += not difference
        self.first_difference = self.first_difference or difference

    @property
    def same(self) -> bool:
        """Whether all that there is agrees; what could not be compared at all proves nothing."""
        return self.agreed == self.compared and (self.compared > 0 or not self.not_comparable)


def replay_commands(run: RecordedRun) -> Comparison:
    """Raises InputError for messages that are none."""
    replay = CommandReplay(run)
    waiting: dict[int, ActionChunk] = {}
    joints = len(run.arm.joints)
    for stored in run.messages(frozenset({ARM, TICK, CHUNK})):
        if stored.topic == ARM:
            replay.on_arm(arm_of(decode(ARM, stored.content, ArmMessage)))
        elif stored.topic == CHUNK:
            chunk = chunk_of(decode(CHUNK, stored.content, Chunk), joints)
            waiting = {chunk.chunk_id: chunk}
            replay.remember(chunk)
        else:
            replay.take(decode(TICK, stored.content, Tick), waiting)
    replay.finish()
    return replay.comparison


class Ear:
    """A sink that keeps the trace of the last tick."""

    def __init__(self) -> None:
        self.trace: TickTrace | None = None

    def put(self, record: bytes) -> None:
        if kind_of(record) is Kind.TICK_TRACE:
            self.trace = TickTrace.unpack(record)


class Stage:
    """One loop on a recorded arm."""

    def __init__(self, run: RecordedRun, arm: ArmOpened) -> None:
        self.arm, self.links, self.ear = RecordedArm(run.arm.joint_names, arm.identity), RecordedLinks(), Ear()
        arming = "after_looking" if arm.looks_first else "at_once"
        self._control = run.control.model_copy(update={"arming": arming, "expected_arm": None})
        self._run, self._clock = run, ManualClock()
        self._resumed = False
        self._loop: ControlLoop | None = None

    def tick(self, tick: Tick, chunk: ActionChunk | None) -> Json:
        """Compute one tick anew; returns what the recorder would have written. Raises Diverged."""
        self.arm.load(tick)
        self.links.load(tick, chunk)
        self._clock.sleep_until(tick.due_ns)
        self.loop.tick(Slot(tick.tick, tick.due_ns, tick.lateness_ns, tick.skipped_before))
        self.arm.expect_silence()
        trace, resumed = self.ear.trace, self._resumed
        self._resumed = False
        assert trace is not None
        if resumed:  # without the calls that made up the arm
            trace = replace(trace, calls=trace.calls[2:], readings=trace.readings[1:])
        return tick_message(trace)

    @property
    def loop(self) -> ControlLoop:
        """Made when the arm has something to answer. Raises Diverged."""
        if self._loop is None:
            surroundings = Surroundings(self._clock, self.links, self.arm.open)
            try:
                self._loop = build_loop(self._control, self._run.arm, surroundings, self.ear)
            except SefaError as error:
                raise Diverged(f"the arm does not open: {error}") from None
        return self._loop

    def resume(self, earlier: tuple[Tick, Tick], chunks: Sequence[ActionChunk]) -> None:
        """Bring a new loop to where it was when the last of `chunks` arrived, after two ticks with goals.

        The other ones came before it, and still say where the joints should be now.
        """
        before, last = (array_of(tick.goal_deg) for tick in earlier)
        self.arm.preload(state_of(earlier[1].readings[-1]))
        self._resumed = True
        motion = self.loop.motion
        motion.arm.torque = Torque.ON
        motion.commanded = Commanded(earlier[1].goal_sequence, last, last - before)
        motion.state = ModeState(Mode.HOLD, Target.RUN)
        motion.apply(Progress.SETTLED, min(chunk.observed_ns for chunk in chunks))
        standing = Setpoint(last, np.zeros(len(last)))
        for chunk in chunks[:-1]:
            motion.player.accept(chunk, earlier[1].due_ns, standing)


class CommandReplay:
    """Takes tick after tick; knows which of them follow each other."""

    def __init__(self, run: RecordedRun) -> None:
        self.comparison = Comparison()
        self._run = run
        self._arm = ArmOpened(nominal_identity(run.arm), looks_first=False)
        self._stage: Stage | None = None
        self._earlier: tuple[Tick, ...] = ()
        self._blind_from: int | None = None
        self._chunks: deque[ActionChunk] = deque(maxlen=MAX_OVERLAP)

    def on_arm(self, arm: ArmOpened) -> None:
        """The arm of the process whose ticks follow; recordings that do not say have no ranges and armed at once.

        Raises:
            InputError: it has another number of joints than the profile.
        """
        if len(arm.identity.joints) != len(self._run.arm.joints):
            raise InputError(f"a message of {ARM} has {len(arm.identity.joints)} joints", "was it recorded here?")
        self._arm = arm

    def remember(self, chunk: ActionChunk) -> None:
        """A chunk that arrived, whether or not the tick at which it did was recorded."""
        self._chunks.append(chunk)

    def take(self, tick: Tick, chunks: Mapping[int, ActionChunk]) -> None:
        """Compare one tick, if it can be."""
        chunk = chunks.get(tick.chunk_arrived)
        lost_chunk = chunk is None and tick.chunk_arrived != NONE_NS
        begins = bool(tick.calls) and tick.calls[0].operation == "open" and tick.calls[-1].operation != "open"
        first = begins and not self._follows(tick)
        if not self._follows(tick) or lost_chunk:
            if self._blind_from is None and not first:
                self._blind_from = self._earlier[-1].tick + 1 if self._earlier else tick.tick
            self._stage, self._earlier = None, ()
        if first:
            self._stage = Stage(self._run, self._arm)
        elif self._stage is None and chunk is not None:
            self._resume(tick, chunk)
        self._compare(tick, chunk)
        self._earlier = (*self._earlier[-1:], tick)

    def finish(self) -> None:
        """Name the stretch that was open at the end."""
        if self._blind_from is not None:
            self._see(self._earlier[-1].tick + 1)

    def _follows(self, tick: Tick) -> bool:
        return bool(self._earlier) and tick.tick == self._earlier[-1].tick + 1 + tick.skipped_before

    def _resume(self, tick: Tick, chunk: ActionChunk) -> None:
        if tick.mode != Mode.RUNNING.name or len(self._earlier) < 2:
            return
        before, last = self._earlier
        joints = len(self._run.arm.joints)
        known = all(len(old.goal_deg) == joints and old.mode == Mode.RUNNING.name for old in (before, last))
        if known and last.readings and self._knows_chunks(last.due_ns):
            self._stage = Stage(self._run, self._arm)
            playable = [old for old in self._chunks if old.last_step_ns > last.due_ns]
            self._stage.resume((before, last), playable or [chunk])

    def _knows_chunks(self, now_ns: int) -> bool:
        """Whether no chunk is missing that may still have a say; only an ensemble asks more than the newest."""
        if self._run.control.hand_over.mode != "ensemble":
            return True
        chunks = list(self._chunks)
        return all(
            newer.chunk_id == older.chunk_id + 1 or newer.last_step_ns <= now_ns
            for older, newer in itertools.pairwise(chunks)
        )

    def _compare(self, tick: Tick, chunk: ActionChunk | None) -> None:
        if self._stage is None:
            if self._blind_from is None:
                self._blind_from = tick.tick
            return
        if self._blind_from is not None:
            self._see(tick.tick)
        try:
            computed = self._stage.tick(tick, chunk)
        except Diverged as error:
            self.comparison.note(f"tick {tick.tick}: {error}")
            self._stage = None
            return
        self.comparison.note(_difference(tick, computed))

    def _see(self, tick: int) -> None:
        self.comparison.not_comparable.append(f"ticks {self._blind_from} to {tick - 1}: after a loss or a difference")
        self._blind_from = None


def _difference(tick: Tick, computed: Json) -> str:
    """The first field that differs, in words; empty when none does."""
    again = decode(TICK, encode(computed), Tick)  # the way through JSON, so that like is compared with like
    for name in Tick.model_fields:
        recorded, anew = getattr(tick, name), getattr(again, name)
        if name not in NOT_COMPARED and repr(recorded) != repr(anew):  # repr tells -0.0 from 0.0
            return f"tick {tick.tick}: {name} is {_shown(recorded)}, computed anew {_shown(anew)}"
    return ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
