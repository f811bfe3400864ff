"""The only factory of engines: opens a file as an engine that is ready to run."""

from __future__ import annotations

from pathlib import Path

from sefa_edge.edge.engines.engine import Engine, EngineOptions, require_kind
from sefa_edge.profiles.card import load_card


def open_engine(path: Path, options: EngineOptions | None = None) -> Engine:
    """Check an engine against its card, load it and warm it up.

    Raises:
        InputError: no card, another file's card, an unknown format, tensors that differ from the card, a plan for
            another GPU or TensorRT.
        MissingError: the library or the GPU for this format is missing.
        FaultError: CUDA or TensorRT fails.
    """
    card = load_card(path)
    require_kind(path, card)
    chosen = options or EngineOptions()
    if card.plan is not None:
        from sefa_edge.edge.engines.tensorrt_plan import open_plan

        return open_plan(path, card, chosen.plan)
    from sefa_edge.edge.engines.onnx_runtime import OnnxEngine

    return OnnxEngine(path, card, chosen)
