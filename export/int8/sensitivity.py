"""How much the action changes when only one layer is in INT8, and the choice of layers based on that.

Errors of layers add up roughly like variances, so the criterion is the squared error of a layer per work that it saves.
The layers with the worst ratio fall back to INT8 weights only, then to floating point, as few as the budget requires.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from sefa_edge.export.int8.layers import Layer
from sefa_edge.export.int8.quantise import COMPUTES_IN_INT8, Mode, Recipe
from sefa_edge.export.session import Inputs, Kernels, run_chunks
from sefa_edge.profiles.percentiles import nearest_rank

BUDGET_SHARE = 0.8
"""Share of the budget to aim at: the error is slightly larger on other samples than on those that choose."""
NOT_FINITE_DEG = 1e9
"""Error of a model that returns NaN or infinity: over every budget, but a number in the report."""
WORTH_RETRYING = 0.01
"""A smaller share saves no significant time."""


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How a recipe becomes a model, and the modes to which a layer falls back, step by step."""

    layers: Sequence[Layer]
    render: Callable[[Recipe], onnx.ModelProto]
    fallbacks: tuple[Mode, ...]
    retry_share: float = WORTH_RETRYING
    """Share of all multiplications above which a layer that fell back from INT8 is tried again."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """99th percentile of the action error, in joint units, with only this layer quantised."""

    layer: Layer
    p99_deg: Mapping[Mode, float]
    """By mode; 0 for `kept`."""


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Samples with their reference chunks float32 [N, T, n], and the kernels to run them with."""

    samples: Sequence[Inputs]
    reference: np.ndarray
    kernels: Kernels = "as_written"

    def p99_deg(self, model: onnx.ModelProto) -> float:
        error = np.sort(np.abs(run_chunks(model, self.samples, self.kernels) - self.reference), axis=None)
        if not np.isfinite(error[-1]):  # NaN sorts last, and a few would be above the percentile
            return NOT_FINITE_DEG
        return float(error[nearest_rank(0.99, error.size)])


def core_layers(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that may be INT8."""
    return [layer for layer in layers if layer.role == "core"]


def measure_sensitivity(form: Form, judge: Judge, on_progress: Callable[[int], None]) -> list[Sensitivity]:
    """The sensitivity of every layer that may be INT8, in graph order."""
    found: list[Sensitivity] = []
    modes: list[Mode] = ["int8", *(mode for mode in form.fallbacks if mode != "kept")]
    for layer in core_layers(form.layers):
        errors: dict[Mode, float] = {mode: judge.p99_deg(form.render({layer.name: mode})) for mode in modes}
        found.append(Sensitivity(layer, {**errors, "kept": 0.0}))
        on_progress(len(found))
    return found


def choose_recipe(form: Form, sensitivities: Sequence[Sensitivity], judge: Judge, budget_deg: float) -> Recipe:
    """The most INT8 whose 99th percentile of the action error is within `BUDGET_SHARE` of the budget."""

    def fits(recipe: Recipe) -> bool:
        return judge.p99_deg(form.render(recipe)) <= budget_deg * BUDGET_SHARE

    steps = demotions(sensitivities, form.fallbacks)
    low, high = 0, len(steps)  # after all steps nothing is quantised, which always fits
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(recipe_after(sensitivities, steps[:middle])) else (middle + 1, high)
    recipe = recipe_after(sensitivities, steps[:low])
    total = sum(found.layer.macs for found in sensitivities)
    largest_first = sorted((found.layer for found in sensitivities), key=lambda layer: layer.macs, reverse=True)
    # Retry the most accurate INT8 mode for all layers first, then the fastest one.
    modes: list[Mode] = ["int8", *(mode for mode in form.fallbacks if mode in COMPUTES_IN_INT8)]
    for mode in reversed(modes):
        for layer in largest_first:
            is_worth_it = layer.macs > form.retry_share * total or recipe[layer.name] in COMPUTES_IN_INT8
            again: Recipe = {**recipe, layer.name: mode}
            if recipe[layer.name] not in ("int8", mode) and is_worth_it and fits(again):
                recipe = again
    return recipe


def demotions(sensitivities: Sequence[Sensitivity], fallbacks: Sequence[Mode]) -> list[tuple[str, Mode]]:
    """Layers in the order in which they fall back, all of them to the first fallback, then to the next."""
    steps: list[tuple[str, Mode]] = []
    previous: Mode = "int8"
    for mode in fallbacks:
        worst_first = sorted(sensitivities, key=lambda s, m=previous: _error_per_saving(s, m), reverse=True)
        steps.extend((found.layer.name, mode) for found in worst_first)
        previous = mode
    return steps


def _error_per_saving(found: Sensitivity, mode: Mode) -> float:
    return found.p99_deg[mode] ** 2 / (found.layer.weights if mode == "weights" else found.layer.macs)


def recipe_after(sensitivities: Sequence[Sensitivity], steps: Sequence[tuple[str, Mode]]) -> Recipe:
    """Everything in INT8, except for the given demotions."""
    recipe: dict[str, Mode] = {s.layer.name: "int8" for s in sensitivities}
    recipe.update(steps)
    return recipe


def layers_in(recipe: Mapping[str, Mode], *modes: Mode) -> list[str]:
    """Names of the layers in one of the given modes, in the recipe's order."""
    return [name for name, chosen in recipe.items() if chosen in modes]
