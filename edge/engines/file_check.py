"""Checks an engine's file against its card, as far as possible without loading it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sefa_edge.edge.engines.engine import Tensors, require_kind, require_tensors
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.onnxfile.graph import ValueInfo
from sefa_edge.profiles.onnxfile.reader import load_onnx


def check_file(path: Path, card: PolicyCard) -> None:
    """Check the format and, for an ONNX file, its inputs and outputs.

    The tensors of a TensorRT plan are checked when TensorRT has loaded it.

    Raises:
        InputError: the file differs from its card; states both.
    """
    require_kind(path, card)
    if card.format == "onnx":
        graph = load_onnx(path)
        require_tensors(path, _tensors(graph.inputs), _tensors(graph.outputs), card)


def _tensors(values: Iterable[ValueInfo]) -> Tensors:
    return {value.name: (value.dtype, None if value.shape is None else list(value.shape)) for value in values}
