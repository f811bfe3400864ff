"""An ONNX engine before ONNX Runtime sees it: all of it in one file, and nothing that the library computes wrongly."""

from __future__ import annotations

from pathlib import Path

from sefa_edge.edge.engines.engine import EngineError
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.onnxfile.graph import OnnxGraph
from sefa_edge.profiles.onnxfile.reader import load_onnx
from sefa_edge.profiles.onnxfile.rules import require_rules
from sefa_edge.profiles.onnxfile.targets import ONNX_RUNTIME


def read_vouched(path: Path) -> OnnxGraph:
    """The graph of an engine, all of which its card vouches for.

    Raises:
        EngineError: values in other files, or graphs that may never end: ONNX Runtime would follow both.
        InputError: it cannot be read, or is damaged.
    """
    graph = load_onnx(path)
    if names := graph.external_tensors:
        raise EngineError(
            f"{path} keeps the values of '{names[0]}' in another file, which its card does not vouch for",
            "export again into one file",
        )
    try:
        require_rules(graph, ONNX_RUNTIME)
    except InputError as broken:
        raise EngineError(f"{path}: {broken}", broken.hint) from None
    return graph
