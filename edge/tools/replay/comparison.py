"""The result of a replay, and the first field in which two records differ."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from sefa_edge.edge.ipc.record_json import to_json
from sefa_edge.edge.ipc.wire_record import WireRecord

MAX_SHOWN_LETTERS = 120


@dataclass(slots=True)
class Comparison:
    """The result of a replay. `first_difference` is empty when everything that was compared agrees."""

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
        """Whether everything agrees; False also when nothing could be compared, although there was something."""
        return self.agreed == self.compared and (self.compared > 0 or not self.not_comparable)


@dataclass(frozen=True, slots=True)
class Difference:
    """A field (`report.mode`) with its two values, shortened."""

    field: str
    recorded: str
    computed: str


def first_difference(
    recorded: WireRecord, computed: WireRecord, left_out: frozenset[str] = frozenset()
) -> Difference | None:
    """The first field that differs between two records of one class, ignoring `left_out`; None when all agree."""
    return _difference("", json.loads(to_json(recorded)), json.loads(to_json(computed)), left_out)


def _difference(place: str, recorded: object, computed: object, left_out: frozenset[str]) -> Difference | None:
    if place in left_out or repr(recorded) == repr(computed):  # repr distinguishes -0.0 from 0.0
        return None
    if not isinstance(recorded, dict) or not isinstance(computed, dict):
        return Difference(place, _shown(recorded), _shown(computed))
    differences = (
        _difference(f"{place}.{key}" if place else key, value, computed[key], left_out)
        for key, value in recorded.items()
    )
    return next((difference for difference in differences if difference is not None), None)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_LETTERS else text[: MAX_SHOWN_LETTERS - 3] + "..."
