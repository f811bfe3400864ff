"""The cameras of the simulated world, as plain facts: nothing here needs MuJoCo."""

from __future__ import annotations

from dataclasses import dataclass

from sefa_edge.profiles.card_check import SimulatedViews

MAX_WIDTH, MAX_HEIGHT = 1280, 720


@dataclass(frozen=True, slots=True)
class View:
    """A fixed camera of the scene; metres, vertical field of view in degrees."""

    name: str
    position_m: tuple[float, float, float]
    target_m: tuple[float, float, float]
    fovy_deg: float


VIEWS = (
    View("front", (0.48, 0.26, 0.36), (0.215, 0.0, 0.03), 36.0),
    View("side", (0.52, -0.22, 0.40), (0.215, 0.0, 0.03), 36.0),
    View("overview", (0.55, 0.38, 0.42), (0.15, 0.0, 0.08), 42.0),
)
"""`front` and `side` are for policies, `overview` for people."""

SIMULATED_VIEWS = SimulatedViews(tuple(view.name for view in VIEWS), MAX_WIDTH, MAX_HEIGHT)
