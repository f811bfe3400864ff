"""Statistics of activations on demonstrations: their ranges, and the second moments of a layer's inputs.

Three methods choose a range, all symmetric: the largest value, a percentile, or the one whose quantised distribution
loses least information (entropy; Migacz, "8-bit inference with TensorRT", GTC 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from sefa_edge.export.int8.layers import Graph, Layer, attribute
from sefa_edge.export.session import Inputs, run_tensors
from sefa_edge.profiles.errors import InputError

Method = Literal["entropy", "percentile", "minmax"]
BINS = 2048
INT8_MAX = 127
ENTROPY_LEVELS = 128
PERCENTILE = 99.99
BLOCK_COLUMNS = 1024
"""Columns of a weight whose errors are compensated together; limits the memory for wide layers."""
WAITING_ROWS = 512
ROWS_PER_SAMPLE = 64
"""Positions of a convolution that are sampled per inference: neighbouring pixels are similar."""


class RangeHistogram:
    """Histogram of absolute values, in one pass; the bins are widened for larger values."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.width = 0.0
        self.largest = 0.0

    def add(self, values: np.ndarray) -> None:
        """Add float32 values of any shape. Raises InputError if one is not finite."""
        magnitude = np.abs(values).ravel()
        top = float(magnitude.max(initial=0.0))
        if not np.isfinite(top):
            raise InputError("an activation is not finite on this dataset", "train again, or check the weights")
        self.largest = max(self.largest, top)
        if self.width == 0.0:
            self.width = max(top, 1e-6) / BINS
        while top > self.width * BINS:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.width *= 2
        index = np.minimum(magnitude * (1 / self.width), BINS - 1).astype(np.int32)
        self.counts += np.bincount(index, minlength=BINS)

    def limit(self, method: Method) -> float:
        """The largest magnitude that INT8 should represent."""
        return {"minmax": lambda: self.largest, "percentile": self._percentile, "entropy": self._entropy}[method]()

    def _percentile(self) -> float:
        below = np.cumsum(self.counts) / self.counts.sum()
        return min(self.largest, self.width * (1 + int(np.searchsorted(below, PERCENTILE / 100))))

    def _entropy(self) -> float:
        """Smallest Kullback-Leibler divergence between the clipped and the quantised distribution."""
        counts = self.counts.copy()
        counts[0] = counts[1]  # the zeros of a ReLU are exact at any scale and would dominate the divergence
        used = int(np.flatnonzero(counts).max(initial=0)) + 1
        candidates = range(ENTROPY_LEVELS, max(used, ENTROPY_LEVELS) + 1)
        losses = [_divergence(counts[:bins], counts[bins:].sum()) for bins in candidates]
        return min(self.largest, self.width * candidates[int(np.argmin(losses))])


def _divergence(inside: np.ndarray, clipped: int) -> float:
    """KL divergence of `inside`, with the clipped values in its last bin, from its 128-level version."""
    reference = inside.astype(np.float64)
    level = np.arange(len(inside)) * ENTROPY_LEVELS // len(inside)
    occupied = inside > 0
    total = np.bincount(level, weights=reference, minlength=ENTROPY_LEVELS)
    cells = np.bincount(level, weights=occupied, minlength=ENTROPY_LEVELS)
    quantised = np.where(occupied, (total / np.maximum(cells, 1))[level], 0.0)
    reference[-1] += clipped
    p, q = reference / reference.sum(), quantised / max(quantised.sum(), 1e-12)
    shared = p > 0
    return float((p[shared] * np.log(p[shared] / np.maximum(q[shared], 1e-12))).sum())


class Moments:
    """Second moments of a layer's inputs, block by block of columns: X^T X / rows, float64."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._waiting: list[np.ndarray] = []
        self._waiting_rows = 0
        self._rows = 0

    def add(self, rows: np.ndarray) -> None:
        """Add input rows [N, columns]."""
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        if self._waiting_rows >= WAITING_ROWS:
            self._multiply()

    def mean(self) -> list[np.ndarray]:
        if self._waiting:
            self._multiply()
        return [block / self._rows for block in self._blocks]

    def _multiply(self) -> None:
        rows = np.concatenate(self._waiting).astype(np.float64)
        self._waiting, self._waiting_rows = [], 0
        self._rows += len(rows)
        parts = [rows[:, start : start + BLOCK_COLUMNS] for start in range(0, rows.shape[1], BLOCK_COLUMNS)]
        if not self._blocks:
            self._blocks = [np.zeros((part.shape[1],) * 2) for part in parts]
        for block, part in zip(self._blocks, parts, strict=True):
            block += part.T @ part


@dataclass(frozen=True, slots=True)
class Calibration:
    """Statistics of the calibration samples."""

    method: Method
    ranges: Mapping[str, RangeHistogram]
    """Per activation tensor."""
    moments: Mapping[str, Moments]
    """Per layer name."""
    samples: int

    def scale(self, tensor: str) -> np.float32:
        """Step of the symmetric INT8 grid of a tensor; representable in float16, so that both flavours agree."""
        limit = max(self.ranges[tensor].limit(self.method), 1e-3)
        return np.float32(half_exact(np.array(limit / INT8_MAX, np.float32)))


def half_exact(scale: np.ndarray) -> np.ndarray:
    """Scales float32, rounded to normal float16 numbers: the same in the typed and in the weakly typed engine."""
    smallest = np.finfo(np.float16).tiny
    return np.maximum(scale, smallest).astype(np.float16).astype(np.float32)


def calibrate(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    identities: Iterable[str],
    samples: Sequence[Inputs],
    method: Method,
    on_progress: Callable[[int], None],
) -> Calibration:
    """Run the float32 model on the samples and collect statistics of every tensor that may be quantised.

    Raises:
        InputError: an activation is not finite.
    """
    graph = Graph(model)
    watched = sorted({name for layer in layers for name in layer.activations} | set(identities))
    ranges = {name: RangeHistogram() for name in watched}
    moments = {layer.name: Moments() for layer in layers}
    before: dict[str, np.ndarray] = {}
    for count, values in enumerate(run_tensors(model, watched, samples), start=1):
        new = {name for name in watched if not np.array_equal(values[name], before.get(name, ()))}
        before = values  # with the same image and other noise, the encoder's tensors are unchanged
        for name in new:
            ranges[name].add(values[name])
        for layer in layers:
            for node_name, activation in zip(layer.nodes, layer.activations, strict=True):
                if activation in new:
                    moments[layer.name].add(input_rows(graph.nodes[node_name], graph, values[activation], count))
        on_progress(count)
    return Calibration(method, ranges, moments, len(samples))


def input_rows(node: onnx.NodeProto, graph: Graph, activation: np.ndarray, seed: int) -> np.ndarray:
    """The inputs that are multiplied with a layer's weight matrix, float32 [rows, columns]."""
    if node.op_type == "Gemm":
        return activation
    height, width = graph.initialisers[node.input[1]].dims[2:]
    pads, strides = attribute(node, "pads", [0, 0, 0, 0]), attribute(node, "strides", [1, 1])
    assert isinstance(pads, list)
    assert isinstance(strides, list)
    padded = np.pad(activation, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1]]
    rows, columns = windows.shape[2:4]
    chosen = np.random.default_rng(seed).choice(rows * columns, min(rows * columns, ROWS_PER_SAMPLE), replace=False)
    picked = windows[:, :, chosen // columns, chosen % columns]
    return picked.transpose(0, 2, 1, 3, 4).reshape(-1, activation.shape[1] * height * width)
