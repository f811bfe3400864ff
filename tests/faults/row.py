"""One row of the fault table: the fault injected into a run, and the outcome expected."""

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
    """How much of the system is real: each fault is tested at the lowest level that reproduces it."""

    LOCK_STEP = "the loop, the protocol and the servos' bytes, on a manual clock"
    CONTROL = "the control process, on a pseudo-terminal"
    RUN = "all processes of `sefa-edge run`"


class Start(Enum):
    """When a fault is injected."""

    MOVING = "after the arm has moved for a while"
    BEFORE = "before anything else happens"


@dataclass(frozen=True, slots=True)
class Expected:
    """The outcome expected of a fault."""

    says: str
    """Beginning of the message; `{joint}` and `{port}` stand for the affected ones, … for any text."""
    ending: str = PARKED
    """End of the message: the final state of the arm. May contain `{joint}` as well."""
    fault: Fault = Fault.NONE
    mode: Mode = Mode.RELEASED
    torque: Torque = Torque.OFF
    exit_code: int = 3
    rest_s: float | None = None
    """How soon the arm rests or is released, in loop time; None: the run continues until a person stops it."""

    def fits(self, message: str, **names: str) -> bool:
        """Whether a message matches; `names` are the values of the placeholders in `says` and `ending`."""
        says, ending = (re.escape(part.format(**names)).replace("…", ".+") for part in (self.says, self.ending))
        return re.fullmatch(f"{says}.*{ending}", message) is not None


CONTINUES = Expected("", exit_code=0)
"""The run continues undisturbed; a person ends it later."""

StageT = TypeVar("StageT")


@dataclass(frozen=True, slots=True)
class Row(Generic[StageT]):
    """A fault and its expected outcome. `inject` may wait and act several times; it returns when it is finished."""

    name: str
    inject: Callable[[StageT], None]
    expected: Expected
    start: Start = Start.MOVING

    def __str__(self) -> str:
        return self.name
