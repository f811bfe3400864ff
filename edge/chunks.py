"""Owns what is played next: chunks lie on one time axis, a newer one takes over, late steps are dropped.

chunk 7   o-----o-----o-----o-----o            knots at absolute times
chunk 8         x     x-----o-----o-----o      taken over at |: steps before it are late, never played
                         |                     the first piece leads from the commanded pose to the next step
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.records import Kind, seal, unseal
from sefa_edge.edge.shaping import Segment
from sefa_edge.edge.transport import RecordError
from sefa_edge.profiles.units import s_to_ns

PLAN_AHEAD_NS = s_to_ns(10)
"""No step lies further ahead than this; a chunk that says so was stamped by another clock."""

_HEAD = struct.Struct("<qqqqqII")


@dataclass(frozen=True, slots=True, eq=False)
class ActionChunk:
    """What the policy wants: joint_deg float32 [T, n], row i due at `first_step_ns + i * step_period_ns`.

    `chunk_id` rises for as long as the policy process lives; `observed_ns` is when the light of the newest
    picture was caught; degrees, gripper 0..100, joints in the arm profile's order.
    """

    chunk_id: int
    observed_ns: int
    first_step_ns: int
    step_period_ns: int
    joint_deg: np.ndarray
    inference_ns: int

    def pack(self) -> bytes:
        head = _HEAD.pack(
            self.chunk_id, self.observed_ns, self.first_step_ns, self.step_period_ns, self.inference_ns,
            *self.joint_deg.shape,
        )  # fmt: skip
        return seal(Kind.CHUNK, head + self.joint_deg.astype("<f4").tobytes())

    @classmethod
    def unpack(cls, record: bytes, horizon: int, joints: int) -> ActionChunk:
        """Raises RecordError when the record is not a chunk of this very horizon and number of joints."""
        body = unseal(record, Kind.CHUNK, _HEAD.size + 4 * horizon * joints)
        chunk_id, observed_ns, first_ns, period_ns, inference_ns, rows, columns = _HEAD.unpack_from(body)
        if (rows, columns) != (horizon, joints):
            raise RecordError(f"a chunk of {rows} x {columns}, expected {horizon} x {joints}")
        joint_deg = np.frombuffer(body, "<f4", horizon * joints, _HEAD.size).reshape(horizon, joints)
        return cls(chunk_id, observed_ns, first_ns, period_ns, joint_deg, inference_ns)

    @property
    def last_step_ns(self) -> int:
        return self.first_step_ns + (len(self.joint_deg) - 1) * self.step_period_ns

    def is_motion(self, now_ns: int) -> bool:
        """Whether the chunk can be played at all: finite values, rising times, on this clock."""
        return (
            0 < self.step_period_ns <= PLAN_AHEAD_NS
            and self.first_step_ns - now_ns <= PLAN_AHEAD_NS
            and bool(np.isfinite(self.joint_deg).all())
        )


class ChunkPlayer:
    """Plays one chunk at a time; hand-over is `replace`: the newest chunk wins from its next step on."""

    def __init__(self) -> None:
        self._start_ns = 0
        self._last_id: int | None = None
        self._joint_deg = np.empty((0, 0))
        self._from_deg = np.empty(0)
        self._next_row = 0
        self.chunk: ActionChunk | None = None
        """The one that is playing, or was played last since `start`."""
        self.accepted_ns = 0
        """When it was taken over."""

    def start(self, now_ns: int) -> None:
        """Forget what was; chunks that saw the world before `now_ns` are not played."""
        self._start_ns = now_ns
        self.chunk = None

    def accept(self, chunk: ActionChunk, now_ns: int, from_deg: np.ndarray) -> bool:
        """Take over a chunk, leading from the commanded pose [n] to its first step that is not late.

        False, and nothing changes, when its id is not newer than the last one, when it observed the world
        before `start`, or when even its last step is late.
        """
        if self._last_id is not None and chunk.chunk_id <= self._last_id:
            return False
        self._last_id = chunk.chunk_id
        if chunk.observed_ns < self._start_ns or chunk.last_step_ns <= now_ns:
            return False
        self.chunk, self.accepted_ns = chunk, now_ns
        self._joint_deg = chunk.joint_deg.astype(np.float64)
        self._from_deg = from_deg
        self._next_row = max(0, (now_ns - chunk.first_step_ns) // chunk.step_period_ns + 1)
        return True

    def choose(self, now_ns: int) -> Segment | None:
        """The piece of plan that covers `now_ns` (not before the last `accept`); None when none does."""
        chunk = self.chunk
        if chunk is None or now_ns > chunk.last_step_ns:
            return None
        row = max(self._next_row, -((chunk.first_step_ns - now_ns) // chunk.step_period_ns))
        due_ns = chunk.first_step_ns + row * chunk.step_period_ns
        if row == self._next_row:
            return Segment(self.accepted_ns, due_ns, self._from_deg, self._joint_deg[row])
        before_ns = due_ns - chunk.step_period_ns
        return Segment(before_ns, due_ns, self._joint_deg[row - 1], self._joint_deg[row])
