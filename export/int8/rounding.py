"""Rounding of weights to INT8, column by column, each rounding error compensated in the remaining columns.

Frantar et al., "GPTQ", 2022: with the second moments H of a layer's inputs, the remaining columns are adjusted so that
the layer's output on the samples changes least. Scales per output channel, symmetric, -127..127 or a narrower range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sefa_edge.export.int8.calibration import INT8_MAX, half_exact

DAMPING = 0.01
CLIPPING = np.linspace(1.0, 0.6, 11)
"""Fractions of a channel's largest weight that are tried as its range."""
LAZY_COLUMNS = 64
"""Columns rounded before the rest is corrected in one multiplication."""


@dataclass(frozen=True, slots=True, eq=False)
class Int8Weight:
    """`values` int8 in the weight's shape; `scale` float32 [output channels]."""

    values: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Quantisation grid of weights: whole steps of `scale`, at most `largest_step`."""

    scale: np.ndarray
    largest_step: int

    def steps(self, values: np.ndarray) -> np.ndarray:
        return np.clip(np.round(values / self.scale), -self.largest_step, self.largest_step)


def round_weight(weight: np.ndarray, moments: Sequence[np.ndarray], largest_step: int = INT8_MAX) -> Int8Weight:
    """INT8 version of a weight [channels, ...] in -largest_step..largest_step.

    `moments` are the blocks of `calibration.Moments`.
    """
    matrix = weight.reshape(len(weight), -1).astype(np.float64)
    importance = np.concatenate([np.diag(block) for block in moments])
    scale = _channel_scales(matrix, importance, largest_step)
    parts, start = [], 0
    for block in moments:
        parts.append(_round_block(matrix[:, start : start + len(block)], block, Grid(scale, largest_step)))
        start += len(block)
    values = np.concatenate(parts, axis=1).astype(np.int8).reshape(weight.shape)
    return Int8Weight(values, scale.astype(np.float32))


def _channel_scales(matrix: np.ndarray, importance: np.ndarray, largest_step: int) -> np.ndarray:
    """For each channel the scale with the smallest error, weighted by the size of its inputs."""
    largest = np.abs(matrix).max(axis=1)
    best = np.full(len(matrix), np.inf)
    chosen = np.zeros(len(matrix))
    for fraction in CLIPPING:
        scale = half_exact((largest * fraction / largest_step).astype(np.float32)).astype(np.float64)
        steps = Grid(scale[:, None], largest_step).steps(matrix)
        error = ((matrix - steps * scale[:, None]) ** 2 * importance).sum(axis=1)
        better = error < best
        best[better], chosen[better] = error[better], scale[better]
    return chosen


def _round_block(matrix: np.ndarray, moments: np.ndarray, grid: Grid) -> np.ndarray:
    columns = len(moments)
    damped = moments + np.eye(columns) * (DAMPING * float(np.diag(moments).mean()) + 1e-9)
    order = np.argsort(-np.diag(damped))  # the most important columns first, while others can still compensate
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    remaining = np.ascontiguousarray(matrix[:, order].T)  # a column of the weight is a row here
    rounded = np.empty_like(remaining)
    for start in range(0, columns, LAZY_COLUMNS):
        part = slice(start, min(start + LAZY_COLUMNS, columns))
        errors = _round_columns(remaining[part], rounded[part], (upper[part, part], grid))
        remaining[part.stop :] -= upper[part, part.stop :].T @ errors
    back = np.empty_like(matrix)
    back[:, order] = rounded.T
    return back


def _round_columns(remaining: np.ndarray, rounded: np.ndarray, solver: tuple[np.ndarray, Grid]) -> np.ndarray:
    """Round a few columns one after the other; returns the errors that later columns must compensate."""
    upper, grid = solver
    errors = np.empty_like(remaining)
    for column in range(len(remaining)):
        rounded[column] = grid.steps(remaining[column])
        errors[column] = (remaining[column] - rounded[column] * grid.scale) / upper[column, column]
        remaining[column + 1 :] -= np.outer(upper[column, column + 1 :], errors[column])
    return errors
