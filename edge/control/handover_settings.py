"""How a newer chunk takes over: the settings, importable without numpy; `handover.py` describes the modes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sefa_edge.profiles.quantities import Real

HandOverMode = Literal["replace", "blend", "ensemble"]
HAND_OVER_MODES: tuple[HandOverMode, ...] = ("replace", "blend", "ensemble")

FADE_MS = Real("a time", 0.0, 5000.0, "ms")
DECAY = Real("a number", -100.0, 100.0)


@dataclass(frozen=True, slots=True)
class HandOver:
    """Settings of one run."""

    mode: HandOverMode = "ensemble"
    fade_ms: Annotated[float, FADE_MS] = 200.0
    """Blend and ensemble: how long the offset between the arm and the new plan takes to fade."""
    decay: Annotated[float, DECAY] = 0.01
    """Ensemble: k of the weights. 0: equal weights; above 0 the oldest has the largest weight, below 0 the newest."""
