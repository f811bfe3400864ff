"""Which ONNX file to build a plan from, and how: the flavours of an export, and what a library can build from each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sefa_edge.export.plan.build_messages import LibraryEvent, Precision
from sefa_edge.profiles.card import PolicyCard, load_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.onnxfile.targets import (
    TENSORRT_8_6,
    TENSORRT_10_3,
    TENSORRT_10_16,
    TENSORRT_11,
    TENSORRT_RTX,
    Target,
)

ENGINE, REFERENCE = "model.onnx", "model.fp32.onnx"
SOURCE_FILES = (ENGINE, "model.typed.onnx", "model.fp16.onnx", REFERENCE)
TARGETS = ((11, 0, TENSORRT_11), (10, 13, TENSORRT_10_16), (10, 0, TENSORRT_10_3), (8, 5, TENSORRT_8_6))
"""(major, minor, rules of the parser from that release on), newest first."""


@dataclass(frozen=True, slots=True)
class Source:
    """One ONNX file of an export, with its card."""

    onnx: Path
    card: PolicyCard


@dataclass(frozen=True, slots=True)
class PlanRecipe:
    """A flavour, and how to build it."""

    source: Source
    precision: Precision
    strongly_typed: bool
    """Whether every tensor of the built network keeps its type in the graph."""

    @property
    def label(self) -> str:
        return f"{self.precision} {'typed' if self.strongly_typed else 'weakly typed'}"


def find_sources(model: Path) -> list[Source]:
    """The file itself, or every flavour in an export folder, `model.onnx` first.

    Raises:
        InputError: no file, one without a valid card, or files from different checkpoints.
    """
    if not model.is_dir():
        return [_source(model)]
    found = [_source(model / name) for name in SOURCE_FILES if (model / name).exists()]
    if not found or found[0].onnx.name != ENGINE:
        raise InputError(f"{model} has no {ENGINE}", "give an export folder or an ONNX file")
    for source in found[1:]:
        if _origin(source) != _origin(found[0]):
            raise InputError(
                f"{source.onnx} and {ENGINE} in that folder come from different checkpoints",
                "export to an empty folder",
            )
    return found


def recipes_for(source: Source, library: LibraryEvent) -> list[PlanRecipe]:
    """The plans that a library can build from a flavour, best first."""
    card = source.card
    if card.opset > target_of(library.version).newest_opset:
        return []
    if card.strongly_typed:
        return [PlanRecipe(source, card.precision, strongly_typed=True)] if library.strongly_typed else []
    if not library.weakly_typed:  # float32 and INT8 are final types as well
        return [PlanRecipe(source, card.precision, strongly_typed=True)]
    weak = [PlanRecipe(source, card.precision, strongly_typed=False)]
    return [*weak, PlanRecipe(source, "fp16", strongly_typed=False)] if card.precision == "fp32" else weak


def choose_plan_recipe(sources: list[Source], library: LibraryEvent, precision: Precision | None) -> PlanRecipe:
    """The recipe for a precision (None: that of the first flavour), strongly typed if possible.

    Raises:
        InputError: no flavour gives that precision with this library; lists the possible ones.
    """
    wanted = precision or sources[0].card.precision
    every = [recipe for source in sources for recipe in recipes_for(source, library)]
    suitable = [recipe for recipe in every if recipe.precision == wanted]
    if not suitable:
        offered = ", ".join(sorted({recipe.precision for recipe in every})) or "nothing"
        raise InputError(
            f"TensorRT {library.version} can build {offered} from {_names(sources)}, not {wanted}",
            _what_to_do(sources, library),
        )
    return max(suitable, key=lambda recipe: (recipe.strongly_typed, recipe.source.card.strongly_typed))


def fastest_candidates(sources: list[Source], library: LibraryEvent) -> list[PlanRecipe]:
    """Everything below fp32 that the library can build from an export folder."""
    every = [recipe for source in sources for recipe in recipes_for(source, library)]
    below = [recipe for recipe in every if recipe.precision != "fp32"]
    distinct = {(recipe.source.card.engine_sha256, recipe.precision): recipe for recipe in below}
    return list(distinct.values())


def target_of(version: str) -> Target:
    """The rules for a version's parser. Versions of TensorRT-RTX start again at 1."""
    release = tuple(int(part) for part in version.split(".")[:2])
    if release < (2, 0):
        return TENSORRT_RTX
    return next((target for *since, target in TARGETS if release >= tuple(since)), TENSORRT_8_6)


def _source(onnx: Path) -> Source:
    card = load_card(onnx)
    if card.format != "onnx":
        raise InputError(f"{onnx} is already built: its card says {card.format}", "give the model.onnx")
    return Source(onnx, card)


def _origin(source: Source) -> tuple[str, int]:
    return source.card.provenance.checkpoint_sha256, source.card.provenance.network_calls


def _names(sources: list[Source]) -> str:
    return ", ".join(source.onnx.name for source in sources)


def _what_to_do(sources: list[Source], library: LibraryEvent) -> str:
    ceiling = target_of(library.version).newest_opset
    newest = max(source.card.opset for source in sources)
    if newest > ceiling:
        return f"it supports opset {ceiling} at most, the newest here is {newest}; export with --precision int8 or fp32"
    return "export again with that --precision, or give the whole export folder"
