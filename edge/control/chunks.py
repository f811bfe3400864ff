"""Chooses what is played next: chunks share one time axis, a newer one takes over, late steps are dropped.

chunk 7   o-----o-----o-----o-----o            knots at absolute times
chunk 8         x     x-----o-----o-----o      taken over at |: steps before it are late, never played
                         |                     the hand-over mode decides how (edge/control/handover.py)
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

import numpy as np

from sefa_edge.edge.control.handover import hand_over
from sefa_edge.edge.control.handover_settings import HandOver
from sefa_edge.edge.control.safety import Commanded, Envelope
from sefa_edge.edge.control.shaping import Path, Segment, Setpoint, path_through
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import NONE_NS
from sefa_edge.profiles.units import s_to_ns

PLAN_AHEAD_NS = s_to_ns(10)
"""No step lies further ahead than this; a chunk beyond that was stamped with another clock."""

MAX_OVERLAP = 64
"""Maximum number of chunks in an ensemble."""


def path_of(chunk: ActionChunk) -> Path:
    """The smooth path through all steps of a chunk."""
    times_ns = chunk.first_step_ns + chunk.step_period_ns * np.arange(len(chunk.joint_deg), dtype=np.int64)
    return path_through(times_ns, chunk.joint_deg.astype(np.float64))


def is_playable(chunk: ActionChunk, now_ns: int) -> bool:
    """Whether the chunk can be played at all: finite values, increasing times, this clock."""
    return (
        0 < chunk.step_period_ns <= PLAN_AHEAD_NS
        and chunk.first_step_ns - now_ns <= PLAN_AHEAD_NS
        and bool(np.isfinite(chunk.joint_deg).all())
    )


class ChunkPlayer:
    """Plays one path at a time; each chunk that is taken over starts a new one."""

    def __init__(self, settings: HandOver | None = None) -> None:
        self._settings = settings or HandOver()
        self._start_ns = 0
        self._last_id: int | None = None
        self._overlapping: deque[Path] = deque(maxlen=MAX_OVERLAP)
        self._steps = (0, 0)
        """Number of steps in each of them, and their period in ns."""
        self._path: Path | None = None
        self._times_ns: list[int] = []
        self.chunk: ActionChunk | None = None
        """The one that is playing, or was the last to play since `start`."""
        self.accepted_ns = 0
        """When it was taken over."""
        self.fed_ns = 0
        """When it last had something to play, or when RUNNING began."""
        self.late_steps = 0
        """Steps that were due before their chunk could be taken over; counted since the player was created."""

    @property
    def awaits_first(self) -> bool:
        """Whether no chunk has been taken over since `start`."""
        return self.chunk is None

    def first_deg(self, start_pose_deg: np.ndarray, present_deg: np.ndarray) -> np.ndarray:
        """A policy begins at the pose at which its demonstrations began."""
        return start_pose_deg

    def start(self, now_ns: int) -> None:
        """Forget earlier chunks; chunks whose observation is older than `now_ns` are not played."""
        self._start_ns = self.fed_ns = now_ns
        self._overlapping.clear()
        self.chunk = self._path = None

    def update(self, chunk: ActionChunk | None, commanded: Commanded, envelope: Envelope, now_ns: int) -> Fault | None:
        """Take over a newer chunk from where the joints would be now if they kept their speed."""
        if chunk is None:
            return None
        if not is_playable(chunk, now_ns):
            return Fault.BAD_CHUNK
        if self.accept(chunk, now_ns, commanded.continued(envelope)):
            self.fed_ns = now_ns  # the first one may come after more than the goal timeout
        return None

    def accept(self, chunk: ActionChunk, now_ns: int, here: Setpoint) -> bool:
        """Take over a chunk, from where the arm would be now if it kept its speed.

        Returns False, without any change, if its id is not newer than the last one, its observation is older than
        `start`, or even its last step is late.
        """
        if self._last_id is not None and chunk.chunk_id <= self._last_id:
            return False
        self._last_id = chunk.chunk_id
        if chunk.observed_ns < self._start_ns:
            return False
        self.late_steps += chunk.late_steps(now_ns)
        if chunk.last_step_ns <= now_ns:
            return False
        self._overlap(chunk, now_ns)
        self._path = hand_over(self._overlapping, here, now_ns, self._settings)
        self._times_ns = self._path.times_ns.tolist()
        self.chunk, self.accepted_ns = chunk, now_ns
        return True

    def choose(self, now_ns: int) -> Segment | None:
        """The segment of the path that covers `now_ns` (not before the last `accept`); None if there is none."""
        if self._path is None or now_ns > self._times_ns[-1]:
            return None
        self.fed_ns = now_ns
        return self._path.segment(max(1, bisect_left(self._times_ns, now_ns)))

    def playing(self, now_ns: int) -> tuple[int, int, int]:
        """Age of the frame acted on, time since the hand-over, chunk id; all NONE_NS when no chunk plays now."""
        chunk = self.chunk
        if chunk is None or self.fed_ns != now_ns:
            return NONE_NS, NONE_NS, NONE_NS
        return now_ns - chunk.observed_ns, now_ns - self.accepted_ns, chunk.chunk_id

    def _overlap(self, chunk: ActionChunk, now_ns: int) -> None:
        """Add a chunk to those that still cover the present. Only chunks with the same number of steps and the same
        period can be averaged."""
        steps = len(chunk.joint_deg), chunk.step_period_ns
        if steps != self._steps:
            self._overlapping.clear()
            self._steps = steps
        while self._overlapping and self._overlapping[0].times_ns[-1] <= now_ns:
            self._overlapping.popleft()
        self._overlapping.append(path_of(chunk))
