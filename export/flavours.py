"""Which ONNX file to build a plan from, and how: the flavours of one export, and what a library can do with each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sefa_edge.export.build_messages import LibraryEvent, Precision
from sefa_edge.profiles.card import PolicyCard, load_card
from sefa_edge.profiles.errors import InputError

ENGINE, REFERENCE = "model.onnx", "model.fp32.onnx"
FLAVOUR_FILES = (ENGINE, "model.typed.onnx", "model.fp16.onnx", REFERENCE)
OPSET_CEILINGS = ((10, 13, 24), (10, 9, 22), (10, 0, 20), (8, 5, 17))
"""(major, minor, newest opset that its parser reads), newest first. Source: onnx-tensorrt, docs/operators.md."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """One ONNX file of an export, with its card."""

    onnx: Path
    card: PolicyCard


@dataclass(frozen=True, slots=True)
class Recipe:
    """A flavour, and what to make of it."""

    flavour: Flavour
    precision: Precision
    strongly_typed: bool
    """Of the network that is built: every tensor keeps the type that the graph gives it."""

    @property
    def label(self) -> str:
        return f"{self.precision} {'typed' if self.strongly_typed else 'weakly typed'}"


def find_flavours(model: Path) -> list[Flavour]:
    """The file itself, or every flavour in an export folder, `model.onnx` first.

    Raises:
        InputError: none there, one without a valid card, or one that another checkpoint was exported to.
    """
    if not model.is_dir():
        return [_flavour(model)]
    found = [_flavour(model / name) for name in FLAVOUR_FILES if (model / name).exists()]
    if not found or found[0].onnx.name != ENGINE:
        raise InputError(f"{model} holds no {ENGINE}", "give an export folder or an ONNX file")
    for flavour in found[1:]:
        if _origin(flavour) != _origin(found[0]):
            raise InputError(
                f"{flavour.onnx} and {ENGINE} beside it come from different checkpoints", "export into an empty folder"
            )
    return found


def recipes_for(flavour: Flavour, library: LibraryEvent) -> list[Recipe]:
    """What a library can make of a flavour, best first; empty when it can do nothing with it."""
    card = flavour.card
    if card.opset > opset_ceiling(library.version):
        return []
    if card.strongly_typed:
        return [Recipe(flavour, card.precision, strongly_typed=True)] if library.strongly_typed else []
    if not library.weakly_typed:  # float32 and INT8 are final types as well
        return [Recipe(flavour, card.precision, strongly_typed=True)]
    weak = [Recipe(flavour, card.precision, strongly_typed=False)]
    return [*weak, Recipe(flavour, "fp16", strongly_typed=False)] if card.precision == "fp32" else weak


def choose_recipe(flavours: list[Flavour], library: LibraryEvent, precision: Precision | None) -> Recipe:
    """The recipe to build: of the asked precision (None: that of the first flavour), strongly typed where possible.

    Raises:
        InputError: no flavour gives that precision with this library; says which ones there are.
    """
    wanted = precision or flavours[0].card.precision
    every = [recipe for flavour in flavours for recipe in recipes_for(flavour, library)]
    suitable = [recipe for recipe in every if recipe.precision == wanted]
    if not suitable:
        offered = ", ".join(sorted({recipe.precision for recipe in every})) or "nothing"
        raise InputError(
            f"TensorRT {library.version} can build {offered} of {_names(flavours)}, not {wanted}",
            _what_to_do(flavours, library),
        )
    return max(suitable, key=lambda recipe: (recipe.strongly_typed, recipe.flavour.card.strongly_typed))


def fastest_candidates(flavours: list[Flavour], library: LibraryEvent) -> list[Recipe]:
    """Everything below fp32 that the library can make of an export folder."""
    every = [recipe for flavour in flavours for recipe in recipes_for(flavour, library)]
    below = [recipe for recipe in every if recipe.precision != "fp32"]
    distinct = {(recipe.flavour.card.engine_sha256, recipe.precision): recipe for recipe in below}
    return list(distinct.values())


def opset_ceiling(version: str) -> int:
    """Newest opset that a version reads. TensorRT-RTX 1.x has the parser of TensorRT 11."""
    major, minor = (int(word) for word in version.split(".")[:2])
    if major < OPSET_CEILINGS[-1][0]:
        return OPSET_CEILINGS[0][2]
    return next((opset for *known, opset in OPSET_CEILINGS if (major, minor) >= tuple(known)), OPSET_CEILINGS[-1][2])


def _flavour(onnx: Path) -> Flavour:
    card = load_card(onnx)
    if card.format != "onnx":
        raise InputError(f"{onnx} is already built: its card says {card.format}", "give the model.onnx")
    return Flavour(onnx, card)


def _origin(flavour: Flavour) -> tuple[str, int]:
    return flavour.card.provenance.checkpoint_sha256, flavour.card.provenance.network_calls


def _names(flavours: list[Flavour]) -> str:
    return ", ".join(flavour.onnx.name for flavour in flavours)


def _what_to_do(flavours: list[Flavour], library: LibraryEvent) -> str:
    ceiling = opset_ceiling(library.version)
    newest = max(flavour.card.opset for flavour in flavours)
    if newest > ceiling:
        return (
            f"it reads opset {ceiling} at most, and the newest here is {newest}; export with --precision int8 or fp32"
        )
    return "export again with that --precision, or give the whole export folder"
