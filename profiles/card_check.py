"""Whether an engine's card fits the world that it is to act in: the one check of run, profile, eval, verify, replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile


class CardError(InputError):
    """An engine that was made for another world; says what its card wants and what there is."""


@dataclass(frozen=True, slots=True)
class SimulatedViews:
    """The cameras that a simulator draws, and the largest picture that it can draw."""

    names: tuple[str, ...]
    max_width: int
    max_height: int


@dataclass(frozen=True, slots=True)
class World:
    """What there is. `drawn`: the card's cameras that the simulator draws; None: all of them."""

    arm: ArmProfile
    control_rate_hz: float
    views: SimulatedViews | None = None
    drawn: frozenset[str] | None = None


Problem = tuple[str, str]
"""What is wrong, and what to do."""


def check_card(card: PolicyCard, world: World) -> None:
    """Refuse a card that wants other joints, units, rates or cameras than there are.

    Raises:
        CardError: the first difference.
    """
    for check in CHECKS:
        for message, hint in check(card, world):
            raise CardError(message, hint)


def _joint_order(card: PolicyCard, world: World) -> Iterator[Problem]:
    if card.joint_names != world.arm.joint_names:
        yield (
            f"engine joints: {' '.join(card.joint_names)}; arm '{world.arm.name}': {' '.join(world.arm.joint_names)}",
            f"this engine was made for arm '{card.arm}'",
        )


def _units(card: PolicyCard, world: World) -> Iterator[Problem]:
    for wanted, present in zip(card.joints, world.arm.joints, strict=True):
        if wanted.unit != present.unit:
            yield (
                f"joint {wanted.name}: the engine speaks {wanted.unit}, arm '{world.arm.name}' {present.unit}",
                f"this engine was made for arm '{card.arm}'; range_percent is LeRobot's -100..100: --arm so101_percent",
            )


def _rates(card: PolicyCard, world: World) -> Iterator[Problem]:
    policy_rate_hz = card.timing.policy_rate_hz
    if policy_rate_hz > world.control_rate_hz:
        yield (
            f"the engine plans {policy_rate_hz:g} steps a second, the control loop plays {world.control_rate_hz:g}",
            f"a control rate of {policy_rate_hz:g} Hz or more is needed (up to 500 Hz)",
        )


def _cameras(card: PolicyCard, world: World) -> Iterator[Problem]:
    views = world.views
    if views is None:
        return
    for camera in card.cameras:
        if world.drawn is not None and camera.name not in world.drawn:
            continue
        if camera.name not in views.names:
            yield (
                f"the engine looks through camera '{camera.name}', which the simulator does not have",
                f"the simulator's cameras: {', '.join(views.names)}",
            )
        elif camera.width > views.max_width or camera.height > views.max_height:
            yield (
                f"the engine takes pictures of {camera.width} x {camera.height} of camera '{camera.name}'",
                f"the simulator draws up to {views.max_width} x {views.max_height}",
            )


CHECKS: tuple[Callable[[PolicyCard, World], Iterator[Problem]], ...] = (_joint_order, _units, _rates, _cameras)
