"""What a look at this machine has found, and what to do about it: told by whoever looks, shown by a command."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Weight(Enum):
    """How much a diagnosis matters."""

    GOOD = "good"
    NOTE = "note"
    """Worth knowing; everything works."""
    TROUBLE = "trouble"
    """Something does not work, or not as well as it could."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing about this machine. `remedy` is what to type or do; empty where there is nothing to mend."""

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
