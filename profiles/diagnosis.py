"""A finding about this machine, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Weight(Enum):
    """Severity of a diagnosis."""

    GOOD = "good"
    NOTE = "note"
    """Worth knowing; everything works."""
    TROUBLE = "trouble"
    """Something does not work, or not as well as it should."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding. `remedy` is what to type or do; empty if there is nothing to fix."""

    subject: str
    weight: Weight
    message: str
    remedy: str = ""

    def as_plain(self) -> dict[str, str]:
        """For a JSON report."""
        return {
            "subject": self.subject,
            "weight": self.weight.value,
            "message": self.message,
            "remedy": self.remedy,
        }
