"""The commands of a recorded run, computed anew: the same loop, on the recorded arm and a clock that stands.

A stretch begins where the state of the loop is known: at its start, and, after records that were lost, at the first
chunk that arrives while the arm runs, because two goals in a row and the chunks that are not over are all that a
running loop remembers.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sefa_edge.edge.control.chunks import MAX_OVERLAP
from sefa_edge.edge.control.clock import ManualClock, Slot
from sefa_edge.edge.control.control_process import Surroundings, build_loop
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.modes import ModeState, Target
from sefa_edge.edge.control.safety import Commanded
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.record_header import Kind, kind_of
from sefa_edge.edge.ipc.record_json import from_json
from sefa_edge.edge.ipc.records import NONE_NS, ArmOpened, Torque
from sefa_edge.edge.ipc.tick_trace import Operation, TickTrace
from sefa_edge.edge.ipc.vocabulary import Mode, Progress
from sefa_edge.edge.recording.recorded_run import RecordedRun
from sefa_edge.edge.recording.topics import ARM, CHUNK, TICK
from sefa_edge.edge.tools.replay.comparison import Comparison, first_difference
from sefa_edge.edge.tools.replay.recorded_arm import Diverged, RecordedArm, RecordedLinks
from sefa_edge.firmware_bridge.host.arm_identity import nominal_identity
from sefa_edge.firmware_bridge.host.messages import JointGoal
from sefa_edge.profiles.errors import InputError, SefaError

NOT_COMPARED = frozenset({"report.stage_ns", "report.dropped_records"})
"""How long something took is not computed anew."""


def replay_commands(run: RecordedRun) -> Comparison:
    """Raises InputError for messages that are none."""
    replay = CommandReplay(run)
    waiting: dict[int, ActionChunk] = {}
    joints = len(run.arm.joints)
    for stored in run.messages(frozenset({ARM, TICK, CHUNK})):
        if stored.topic == ARM:
            replay.on_arm(from_json(stored.content, ArmOpened, ARM))
        elif stored.topic == CHUNK:
            chunk = from_json(stored.content, ActionChunk, CHUNK, n=joints)
            waiting = {chunk.chunk_id: chunk}
            replay.remember(chunk)
        else:
            replay.take(from_json(stored.content, TickTrace, TICK, n=joints), waiting)
    replay.finish()
    return replay.comparison


class LastTrace:
    """A sink that keeps the trace of the last tick."""

    def __init__(self) -> None:
        self.trace: TickTrace | None = None

    def put(self, record: bytes) -> None:
        if kind_of(record) is Kind.TICK_TRACE:
            self.trace = TickTrace.unpack(record)


class Stage:
    """One loop on a recorded arm."""

    def __init__(self, run: RecordedRun, arm: ArmOpened) -> None:
        self.arm, self.links, self.sink = RecordedArm(run.arm.joint_names, arm.identity), RecordedLinks(), LastTrace()
        arming = "after_looking" if arm.looks_first else "at_once"
        self._control = run.control.model_copy(update={"arming": arming, "expected_arm": None})
        self._run, self._clock = run, ManualClock()
        self._resumed = False
        self._loop: ControlLoop | None = None

    def tick(self, recorded: TickTrace, chunk: ActionChunk | None) -> TickTrace:
        """Compute one tick anew; returns what the recorder would have been sent. Raises Diverged."""
        self.arm.load(recorded)
        self.links.load(recorded, chunk)
        report = recorded.report
        self._clock.sleep_until(report.due_ns)
        self.loop.tick(Slot(report.tick, report.due_ns, report.lateness_ns, recorded.skipped_before))
        self.arm.expect_silence()
        trace, resumed = self.sink.trace, self._resumed
        self._resumed = False
        assert trace is not None
        if resumed:  # without the calls that made up the arm
            trace = replace(trace, calls=trace.calls[2:], readings=trace.readings[1:])
        return trace

    @property
    def loop(self) -> ControlLoop:
        """Made when the arm has something to answer. Raises Diverged."""
        if self._loop is None:
            surroundings = Surroundings(self._clock, self.links, self.arm.open)
            try:
                self._loop = build_loop(self._control, self._run.arm, surroundings, self.sink)
            except SefaError as error:
                raise Diverged(f"the arm does not open: {error}") from None
        return self._loop

    def resume(self, earlier: tuple[TickTrace, TickTrace], chunks: Sequence[ActionChunk]) -> None:
        """Bring a new loop to where it was when the last of `chunks` arrived, after two ticks with goals.

        The other ones came before it, and still say where the joints should be now.
        """
        before, last = (_goal_of(trace) for trace in earlier)
        self.arm.preload(earlier[1].readings[-1])
        self._resumed = True
        motion = self.loop.motion
        motion.arm.torque = Torque.ON
        motion.commanded = Commanded(last.sequence, last.joint_deg, last.joint_deg - before.joint_deg)
        motion.state = ModeState(Mode.HOLD, Target.RUN)
        motion.apply(Progress.SETTLED, min(chunk.observed_ns for chunk in chunks))
        standing = Commanded.standing(last.joint_deg)
        for chunk in chunks[:-1]:
            motion.source.update(chunk, standing, motion.envelope, earlier[1].report.due_ns)


class CommandReplay:
    """Takes tick after tick; knows which of them follow each other."""

    def __init__(self, run: RecordedRun) -> None:
        self.comparison = Comparison()
        self._run = run
        self._arm = ArmOpened(nominal_identity(run.arm), looks_first=False)
        self._stage: Stage | None = None
        self._earlier: tuple[TickTrace, ...] = ()
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

    def take(self, trace: TickTrace, chunks: Mapping[int, ActionChunk]) -> None:
        """Compare one tick, if it can be."""
        tick, calls = trace.report.tick, trace.calls
        chunk = chunks.get(trace.chunk_arrived)
        lost_chunk = chunk is None and trace.chunk_arrived != NONE_NS
        begins = bool(calls) and calls[0].operation is Operation.OPEN and calls[-1].operation is not Operation.OPEN
        first = begins and not self._follows(trace)
        if not self._follows(trace) or lost_chunk:
            if self._blind_from is None and not first:
                self._blind_from = self._earlier[-1].report.tick + 1 if self._earlier else tick
            self._stage, self._earlier = None, ()
        if first:
            self._stage = Stage(self._run, self._arm)
        elif self._stage is None and chunk is not None:
            self._resume(trace, chunk)
        self._compare(trace, chunk)
        self._earlier = (*self._earlier[-1:], trace)

    def finish(self) -> None:
        """Name the stretch that was open at the end."""
        if self._blind_from is not None:
            self._see(self._earlier[-1].report.tick + 1)

    def _follows(self, trace: TickTrace) -> bool:
        return bool(self._earlier) and (trace.report.tick == self._earlier[-1].report.tick + 1 + trace.skipped_before)

    def _resume(self, trace: TickTrace, chunk: ActionChunk) -> None:
        if trace.report.mode is not Mode.RUNNING or len(self._earlier) < 2:
            return
        before, last = self._earlier
        known = all(old.goal is not None and old.report.mode is Mode.RUNNING for old in (before, last))
        if known and last.readings and self._knows_chunks(last.report.due_ns):
            self._stage = Stage(self._run, self._arm)
            playable = [old for old in self._chunks if old.last_step_ns > last.report.due_ns]
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

    def _compare(self, trace: TickTrace, chunk: ActionChunk | None) -> None:
        tick = trace.report.tick
        if self._stage is None:
            if self._blind_from is None:
                self._blind_from = tick
            return
        if self._blind_from is not None:
            self._see(tick)
        try:
            computed = self._stage.tick(trace, chunk)
        except Diverged as error:
            self.comparison.note(f"tick {tick}: {error}")
            self._stage = None
            return
        found = first_difference(trace, computed, NOT_COMPARED)
        words = f"tick {tick}: {found.field} is {found.recorded}, computed anew {found.computed}" if found else ""
        self.comparison.note(words)

    def _see(self, tick: int) -> None:
        self.comparison.not_comparable.append(f"ticks {self._blind_from} to {tick - 1}: after a loss or a difference")
        self._blind_from = None


def _goal_of(trace: TickTrace) -> JointGoal:
    assert trace.goal is not None
    return trace.goal
