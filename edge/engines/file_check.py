"""Whether an engine's file is what its card says, as far as that can be told without loading it."""

from __future__ import annotations

from pathlib import Path

from sefa_edge.edge.engines.engine import EngineError, require_kind, tensor_specs
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.onnxfile.reader import load_onnx

HINT = "engine and card do not belong together; export again"


def check_file(path: Path, card: PolicyCard) -> None:
    """Refuse a file of another format than the card's and, of an ONNX file, other inputs and outputs.

    The tensors of a TensorRT plan are known when TensorRT has loaded it, and are checked then.

    Raises:
        InputError: says what the file has and what its card says.
    """
    require_kind(path, card)
    if card.format == "onnx":
        _check_tensors(path, card)


def _check_tensors(path: Path, card: PolicyCard) -> None:
    graph = load_onnx(path)
    expected = {spec.name: spec for spec in tensor_specs(card)}
    wanted_inputs = sorted(set(expected) - {card.chunk_tensor.name})
    inputs, outputs = ([value.name for value in values] for values in (graph.inputs, graph.outputs))
    if sorted(inputs) != wanted_inputs or outputs != [card.chunk_tensor.name]:
        raise EngineError(
            f"{path} has inputs {sorted(inputs)} and outputs {outputs}; its card names inputs {wanted_inputs} and "
            f"output ['{card.chunk_tensor.name}']",
            HINT,
        )
    for value in (*graph.inputs, *graph.outputs):
        spec = expected[value.name]
        shape = None if value.shape is None else list(value.shape)
        if (value.dtype, shape) != (spec.dtype, spec.shape):
            raise EngineError(
                f"{path}: '{value.name}' is {value.dtype} {shape}, its card says {spec.dtype} {spec.shape}", HINT
            )
