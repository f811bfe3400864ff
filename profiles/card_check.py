"""Whether an engine's card fits the world that it is to act in: the one check of run, profile, eval, verify, replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sefa_edge.profiles.arms import load_arm_profile, shipped_arms
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
VARIANTS = ("_percent", "_sim")
"""Endings of arms that are the same mechanics: in LeRobot's other unit, or simulated."""


def arm_of(card: PolicyCard) -> ArmProfile:
    """The profile of the arm that an engine was made for.

    Raises:
        CardError: it has the name of no arm that is known here.
        InputError: it was a file, which is not here or is damaged.
    """
    for message, hint in _known_arm(card):
        raise CardError(message, hint)
    return load_arm_profile(card.arm)


def require_arm(card: PolicyCard, present: str) -> None:
    """Refuse an engine that was made for other mechanics than those of the arm called `present`. Raises CardError."""
    for message, hint in _same_mechanics(card, present):
        raise CardError(message, hint)


def check_card(card: PolicyCard, world: World) -> None:
    """Refuse a card that wants another arm, or other joints, units, rates or cameras than there are.

    Raises:
        CardError: the first difference.
    """
    for check in CHECKS:
        for message, hint in check(card, world):
            raise CardError(message, hint)


def _known_arm(card: PolicyCard) -> Iterator[Problem]:
    """The card names an arm of ours, or a profile's file, which need not be on this machine."""
    if not _is_file(card.arm) and _mechanics(card.arm) not in shipped_arms():
        yield (
            f"this engine was made for arm '{card.arm}', which is not known here",
            f"known arms: {', '.join(shipped_arms())}; export it again with --arm",
        )


def _arm(card: PolicyCard, world: World) -> Iterator[Problem]:
    yield from _known_arm(card)
    yield from _same_mechanics(card, world.arm.name)


def _same_mechanics(card: PolicyCard, present: str) -> Iterator[Problem]:
    """Of the arms that are known by name it must be the one; joints and units judge a person's own profiles."""
    is_shipped = _mechanics(present) in shipped_arms()
    if is_shipped and not _is_file(card.arm) and _mechanics(card.arm) != _mechanics(present):
        yield (
            f"this engine was made for arm '{card.arm}', and here is arm '{present}'",
            f"give the arm that it was made for, --arm {card.arm}, or train and export for this one",
        )


def _is_file(arm: str) -> bool:
    return "/" in arm or arm.endswith((".yaml", ".yml"))


def _mechanics(arm: str) -> str:
    """The name of an arm without what says its unit, or that it is simulated."""
    for ending in VARIANTS:
        arm = arm.removesuffix(ending)
    return arm


def _trained_ranges(card: PolicyCard, world: World) -> Iterator[Problem]:
    """A joint that was trained outside of all that it can reach here has its zero elsewhere."""
    for trained, present in zip(card.joints, world.arm.joints, strict=True):
        if trained.trained_min_deg > present.max_deg or trained.trained_max_deg < present.min_deg:
            yield (
                f"joint {trained.name}: trained on {trained.trained_min_deg:g}..{trained.trained_max_deg:g}, arm "
                f"'{world.arm.name}' moves it in {present.min_deg:g}..{present.max_deg:g}",
                "was it recorded with another calibration? record and train again",
            )


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


CHECKS: tuple[Callable[[PolicyCard, World], Iterator[Problem]], ...] = (
    _joint_order,
    _units,
    _arm,
    _trained_ranges,
    _rates,
    _cameras,
)
