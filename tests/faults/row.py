"""One row of the fault table: what is done to a run, and everything that has to come of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import Torque
from sefa_edge.edge.ipc.vocabulary import Mode

PARKED = "arm parked and released"
DROPPED = "arm released where it stood"
LEFT = "arm left holding its last goal, torque still on"
UNTOUCHED = "arm not touched"


class Level(Enum):
    """How much is real: the lowest level at which a fault is still itself."""

    LOCK_STEP = "the loop, the protocol and the servos' bytes, on a manual clock"
    CONTROL = "the control process, on a pseudo-terminal"
    RUN = "all processes of `sefa-edge run`"


class Start(Enum):
    """When a fault strikes."""

    MOVING = "after the arm has moved for a while"
    BEFORE = "before anything else happens"


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to come of a fault."""

    says: str
    """How the message begins; `{joint}` and `{port}` stand for the one concerned, … for a number."""
    ending: str = PARKED
    """How it ends: what became of the arm. May name the joint, too."""
    fault: Fault = Fault.NONE
    mode: Mode = Mode.RELEASED
    torque: Torque = Torque.OFF
    exit_code: int = 3
    rest_s: float | None = None
    """Within how long the arm stands or is released, in time of the loop; None: it goes on until a person stops it."""

    def fits(self, message: str, **names: str) -> bool:
        """Whether a message says so; `names` are those that stand for themselves in `says` and `ending`."""
        says, ending = (re.escape(part.format(**names)).replace("…", ".+") for part in (self.says, self.ending))
        return re.fullmatch(f"{says}.*{ending}", message) is not None


GOES_ON = Expected("", exit_code=0)
"""The run takes no harm; a person ends it later."""

StageT = TypeVar("StageT")


@dataclass(frozen=True, slots=True)
class Row(Generic[StageT]):
    """`inject` may wait and act again; it returns when all that was to be done has been done."""

    name: str
    inject: Callable[[StageT], None]
    expected: Expected
    start: Start = Start.MOVING

    def __str__(self) -> str:
        return self.name
