"""What moves the arm in RUNNING: a policy's chunks (`chunks.py`) or another program's targets (`targets.py`)."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sefa_edge.edge.control.safety import Commanded, Envelope
from sefa_edge.edge.control.shaping import Setpoint
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk


class Piece(Protocol):
    """A piece of motion that covers the present tick."""

    def setpoint(self, now_ns: int) -> Setpoint: ...


class SetpointSource(Protocol):
    """Called by `Motion`, which owns modes, limits and faults; joints are float64 [n], degrees."""

    fed_ns: int
    """When it last had something to play, or when RUNNING began; the guard limits its age."""

    @property
    def awaits_first(self) -> bool:
        """Whether nothing has arrived since RUNNING began: the guard then allows more time."""
        ...

    def first_deg(self, start_pose_deg: np.ndarray, present_deg: np.ndarray) -> np.ndarray:
        """The end of the planned move after torque on."""
        ...

    def start(self, now_ns: int) -> None:
        """RUNNING begins, with the arm at rest."""
        ...

    def update(self, chunk: ActionChunk | None, commanded: Commanded, envelope: Envelope, now_ns: int) -> Fault | None:
        """Accept what has arrived since the last tick; returns what is wrong with it."""
        ...

    def choose(self, now_ns: int) -> Piece | None:
        """The piece that covers this tick; None: stop."""
        ...

    def playing(self, now_ns: int) -> tuple[int, int, int]:
        """Age of the frame acted on, time since the hand-over, chunk id; all NONE_NS when no chunk plays."""
        ...
