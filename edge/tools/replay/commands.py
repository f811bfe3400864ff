"""Recomputes the commands of a recorded run: the same loop, with the recorded arm and a manual clock.

The loop is replayed from its first tick to the first lost record or difference: after that its state is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

from sefa_edge.edge.control.clock import ManualClock, Slot
from sefa_edge.edge.control.control_process import Surroundings, build_loop
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.record_header import Kind, kind_of
from sefa_edge.edge.ipc.record_json import from_json
from sefa_edge.edge.ipc.records import NONE_NS, ArmOpened
from sefa_edge.edge.ipc.tick_trace import Operation, TickTrace
from sefa_edge.edge.recording.recorded_run import RecordedRun
from sefa_edge.edge.recording.topics import ARM, CHUNK, TICK
from sefa_edge.edge.tools.replay.comparison import Comparison, first_difference
from sefa_edge.edge.tools.replay.recorded_arm import Diverged, RecordedArm, RecordedLinks
from sefa_edge.firmware_bridge.host.arm_identity import nominal_identity
from sefa_edge.profiles.errors import InputError, SefaError

NOT_COMPARED = frozenset({"report.stage_ns", "report.dropped_records"})
"""Durations are not recomputed."""


def replay_commands(run: RecordedRun) -> Comparison:
    """Raises InputError for invalid messages."""
    replay = CommandReplay(run)
    waiting: dict[int, ActionChunk] = {}
    joints = len(run.arm.joints)
    for stored in run.messages(frozenset({ARM, TICK, CHUNK})):
        if stored.topic == ARM:
            replay.on_arm(from_json(stored.content, ArmOpened, ARM))
        elif stored.topic == CHUNK:
            chunk = from_json(stored.content, ActionChunk, CHUNK, n=joints)
            waiting = {chunk.chunk_id: chunk}
        else:
            replay.add(from_json(stored.content, TickTrace, TICK, n=joints), waiting)
    replay.finish()
    return replay.comparison


class LastTrace:
    """A sink that keeps the trace of the last tick."""

    def __init__(self) -> None:
        self.trace: TickTrace | None = None

    def put(self, record: bytes) -> None:
        if kind_of(record) is Kind.TICK_TRACE:
            self.trace = TickTrace.unpack(record)


class ReplayedLoop:
    """A control loop on the recorded arm."""

    def __init__(self, run: RecordedRun, arm: ArmOpened) -> None:
        self.arm, self.links, self.sink = RecordedArm(run.arm.joint_names, arm.identity), RecordedLinks(), LastTrace()
        arming = "after_looking" if arm.looks_first else "at_once"
        self._control = run.control.model_copy(update={"arming": arming, "expected_arm": None})
        self._run, self._clock = run, ManualClock()
        self._loop: ControlLoop | None = None

    def tick(self, recorded: TickTrace, chunk: ActionChunk | None) -> TickTrace:
        """Recompute one tick; returns the trace that would have been sent to the recorder. Raises Diverged."""
        self.arm.load(recorded)
        self.links.load(recorded, chunk)
        report = recorded.report
        self._clock.sleep_until(report.due_ns)
        self.loop.tick(Slot(report.tick, report.due_ns, report.lateness_ns, recorded.skipped_before))
        self.arm.expect_no_more_calls()
        assert self.sink.trace is not None
        return self.sink.trace

    @property
    def loop(self) -> ControlLoop:
        """Created at the first tick, when the recorded arm has been loaded. Raises Diverged."""
        if self._loop is None:
            surroundings = Surroundings(self._clock, self.links, self.arm.open)
            try:
                self._loop = build_loop(self._control, self._run.arm, surroundings, self.sink)
            except SefaError as error:
                raise Diverged(f"the arm does not open: {error}") from None
        return self._loop


class CommandReplay:
    """Compares tick after tick, as long as no record is missing."""

    def __init__(self, run: RecordedRun) -> None:
        self.comparison = Comparison()
        self._run = run
        self._arm = ArmOpened(nominal_identity(run.arm), looks_first=False)
        self._loop: ReplayedLoop | None = None
        self._previous: TickTrace | None = None
        self._gap_from: int | None = None

    def on_arm(self, arm: ArmOpened) -> None:
        """Set the arm of the process whose ticks follow. Without it, the arm has no ranges and was armed at once.

        Raises:
            InputError: its number of joints differs from the profile's.
        """
        if len(arm.identity.joints) != len(self._run.arm.joints):
            raise InputError(f"a message of {ARM} has {len(arm.identity.joints)} joints", "was it recorded here?")
        self._arm = arm

    def add(self, trace: TickTrace, chunks: Mapping[int, ActionChunk]) -> None:
        """Compare one tick, if possible."""
        chunk = chunks.get(trace.chunk_arrived)
        chunk_is_lost = chunk is None and trace.chunk_arrived != NONE_NS
        if not self._follows(trace):
            if self._gap_from is None and self._previous is not None and not _is_first(trace):
                self._gap_from = self._previous.report.tick + 1
            self._loop = ReplayedLoop(self._run, self._arm) if _is_first(trace) else None
        elif chunk_is_lost:
            self._loop = None
        self._compare(trace, chunk)
        self._previous = trace

    def finish(self) -> None:
        """Report the gap that is still open at the end."""
        if self._gap_from is not None and self._previous is not None:
            self._end_gap(self._previous.report.tick + 1)

    def _follows(self, trace: TickTrace) -> bool:
        previous = self._previous
        return previous is not None and trace.report.tick == previous.report.tick + 1 + trace.skipped_before

    def _compare(self, trace: TickTrace, chunk: ActionChunk | None) -> None:
        tick = trace.report.tick
        if self._loop is None:
            self._gap_from = tick if self._gap_from is None else self._gap_from
            return
        if self._gap_from is not None:
            self._end_gap(tick)
        try:
            computed = self._loop.tick(trace, chunk)
        except Diverged as error:
            self.comparison.note(f"tick {tick}: {error}")
            self._loop = None
            return
        found = first_difference(trace, computed, NOT_COMPARED)
        difference = f"tick {tick}: {found.field} is {found.recorded}, recomputed {found.computed}" if found else ""
        self.comparison.note(difference)

    def _end_gap(self, tick: int) -> None:
        self.comparison.not_comparable.append(f"ticks {self._gap_from} to {tick - 1}: after a loss or a difference")
        self._gap_from = None


def _is_first(trace: TickTrace) -> bool:
    """Whether it is the first tick of a control process: the arm was opened and used in it."""
    calls = trace.calls
    return bool(calls) and calls[0].operation is Operation.OPEN and calls[-1].operation is not Operation.OPEN
