"""Selective alignment: generated chunks close to the demonstrated one are replaced by it.

From the method's description (arXiv 2511.08583) and the authors' code: a pair whose generated chunk is close to the
expert's chunk for the same observation is corrected, all others are kept, so that modes that the demonstration did not
use survive. The authors use a fixed distance in raw action units; here the threshold is a quantile of the distances in
normalised units, because it must fit the teacher and the task.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Alignment:
    """Result of the alignment: targets [N, T, n], whether each was replaced [N], and the distances [N]."""

    chunk: Tensor
    replaced: Tensor
    distance: Tensor
    threshold: float

    @property
    def replaced_fraction(self) -> float:
        return float(self.replaced.float().mean())


def chunk_distance(generated: Tensor, demonstrated: Tensor) -> Tensor:
    """Root mean square difference per chunk [N] of normalised chunks [N, T, n]."""
    return (generated - demonstrated).square().flatten(1).mean(1).sqrt()


def align(generated: Tensor, demonstrated: Tensor, replaced_quantile: float) -> Alignment:
    """Replace the closest `replaced_quantile` of the chunks by their demonstration (0: none, plain reflow; 1: all)."""
    distance = chunk_distance(generated, demonstrated)
    threshold = float(torch.quantile(distance[: 1 << 24].float(), replaced_quantile)) if len(distance) else 0.0
    replaced = distance < threshold if replaced_quantile < 1 else torch.ones_like(distance, dtype=torch.bool)
    chunk = torch.where(replaced[:, None, None], demonstrated, generated)
    return Alignment(chunk, replaced, distance, threshold)
