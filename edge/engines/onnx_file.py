"""Checks an ONNX engine before ONNX Runtime loads it: one file, and nothing that the library computes incorrectly."""

from __future__ import annotations

from pathlib import Path

from sefa_edge.edge.engines.engine import EngineError
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.onnxfile.graph import OnnxGraph
from sefa_edge.profiles.onnxfile.reader import load_onnx
from sefa_edge.profiles.onnxfile.rules import require_rules
from sefa_edge.profiles.onnxfile.targets import ONNX_RUNTIME


def read_verified(path: Path) -> OnnxGraph:
    """The graph of an engine that the hash in its card covers completely.

    Raises:
        EngineError: it keeps values in another file, or breaks a rule of ONNX Runtime, such as an endless loop.
        InputError: it cannot be read, or is damaged.
    """
    graph = load_onnx(path)
    if names := graph.external_tensors:
        raise EngineError(
            f"{path} keeps the values of '{names[0]}' in another file, which the hash in its card does not cover",
            "export again into one file",
        )
    try:
        require_rules(graph, ONNX_RUNTIME)
    except InputError as error:
        raise EngineError(f"{path}: {error}", error.hint) from None
    return graph
