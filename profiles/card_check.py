"""Whether an engine's card fits its world: the same check for run, profile, eval, verify, replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sefa_edge.profiles.arms import load_arm_profile, shipped_arms
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile


class CardError(InputError):
    """An engine that was made for another world; says what its card expects and what was found."""


@dataclass(frozen=True, slots=True)
class SimulatedViews:
    """The cameras of a simulator, and the largest image that it can render."""

    names: tuple[str, ...]
    max_width: int
    max_height: int


@dataclass(frozen=True, slots=True)
class World:
    """The world that is present. `drawn`: the card's cameras that the simulator renders; None: all of them."""

    arm: ArmProfile
    control_rate_hz: float
    views: SimulatedViews | None = None
    drawn: frozenset[str] | None = None


Problem = tuple[str, str]
"""Message and hint."""
VARIANTS = ("_percent", "_sim")
"""Suffixes of arms with the same mechanics: in LeRobot's other unit, or simulated."""


def arm_of(card: PolicyCard) -> ArmProfile:
    """The profile of the arm that an engine was made for.

    Raises:
        CardError: its name is not that of a known arm.
        InputError: it was a file, which is missing or damaged here.
    """
    for message, hint in _known_arm(card):
        raise CardError(message, hint)
    return load_arm_profile(card.arm)


def require_arm(card: PolicyCard, present: str) -> None:
    """Refuse an engine that was made for other mechanics than those of the arm `present`. Raises CardError."""
    for message, hint in _same_mechanics(card, present):
        raise CardError(message, hint)


def check_card(card: PolicyCard, world: World) -> None:
    """Refuse a card that expects another arm, or other joints, units, rates or cameras than are present.

    Raises:
        CardError: the first difference.
    """
    for check in CHECKS:
        for message, hint in check(card, world):
            raise CardError(message, hint)


def _known_arm(card: PolicyCard) -> Iterator[Problem]:
    """The card must name a shipped arm, or a profile file, which need not exist on this machine."""
    if not _is_file(card.arm) and _mechanics(card.arm) not in shipped_arms():
        yield (
            f"this engine was made for arm '{card.arm}', which is unknown",
            f"known arms: {', '.join(shipped_arms())}; export it again with --arm",
        )


def _arm(card: PolicyCard, world: World) -> Iterator[Problem]:
    yield from _known_arm(card)
    yield from _same_mechanics(card, world.arm.name)


def _same_mechanics(card: PolicyCard, present: str) -> Iterator[Problem]:
    """A shipped arm must match by name; users' own profiles are only checked by joints and units."""
    is_shipped = _mechanics(present) in shipped_arms()
    if is_shipped and not _is_file(card.arm) and _mechanics(card.arm) != _mechanics(present):
        yield (
            f"this engine was made for arm '{card.arm}', but the arm is '{present}'",
            f"give the arm that it was made for, --arm {card.arm}, or train and export for this one",
        )


def _is_file(arm: str) -> bool:
    return "/" in arm or arm.endswith((".yaml", ".yml"))


def _mechanics(arm: str) -> str:
    """The name of an arm without the suffix for its unit or for simulation."""
    for ending in VARIANTS:
        arm = arm.removesuffix(ending)
    return arm


def _trained_ranges(card: PolicyCard, world: World) -> Iterator[Problem]:
    """A joint that was trained entirely outside its present range must have another zero."""
    for trained, present in zip(card.joints, world.arm.joints, strict=True):
        if trained.trained_min_deg > present.max_deg or trained.trained_max_deg < present.min_deg:
            yield (
                f"joint {trained.name}: trained on {trained.trained_min_deg:g}..{trained.trained_max_deg:g}, arm "
                f"'{world.arm.name}' allows {present.min_deg:g}..{present.max_deg:g}",
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
                f"joint {wanted.name}: the engine uses {wanted.unit}, arm '{world.arm.name}' {present.unit}",
                f"this engine was made for arm '{card.arm}'; range_percent is LeRobot's -100..100: --arm so101_percent",
            )


def _rates(card: PolicyCard, world: World) -> Iterator[Problem]:
    policy_rate_hz = card.timing.policy_rate_hz
    if policy_rate_hz > world.control_rate_hz:
        yield (
            f"the engine plans {policy_rate_hz:g} steps per second, the control loop runs {world.control_rate_hz:g}",
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
                f"the engine needs camera '{camera.name}', which the simulator does not have",
                f"the simulator's cameras: {', '.join(views.names)}",
            )
        elif camera.width > views.max_width or camera.height > views.max_height:
            yield (
                f"the engine needs frames of {camera.width} x {camera.height} from camera '{camera.name}'",
                f"the simulator renders up to {views.max_width} x {views.max_height}",
            )


CHECKS: tuple[Callable[[PolicyCard, World], Iterator[Problem]], ...] = (
    _joint_order,
    _units,
    _arm,
    _trained_ranges,
    _rates,
    _cameras,
)
