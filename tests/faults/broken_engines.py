"""Engines that go wrong while the arm moves: the reach engine of the tests with a fuse that burns on the way.

The fuse is how far the joints are from where the engine leads them, so that the first chunks are good.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sefa_edge.profiles.card import load_card, save_card
from sefa_edge.profiles.files import sha256_of
from tests.conftest import write_reach_engine

FUSE_DEG = 30.0


def write_nan_engine(folder: Path) -> Path:
    """Adds nothing times the root of what is left of the fuse."""
    nodes = [
        helper.make_node("Sub", ["distance", "fuse"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["nothing_or_nan"]),
        helper.make_node("Add", ["planned", "nothing_or_nan"], ["chunk"]),
    ]
    return _with_fuse(folder, nodes, {})


def write_failing_engine(folder: Path) -> Path:
    """Gathers row 1 of a table that has row 0 only."""
    nodes = [
        helper.make_node("Unsqueeze", ["planned", "zeroth"], ["table"]),
        helper.make_node("Cast", ["burnt"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "row"], ["chunk"], axis=0),
    ]
    return _with_fuse(folder, nodes, {"zeroth": np.array([0], np.int64)})


def write_narrow_engine(folder: Path) -> Path:
    """Its file promises fewer joints than its card."""
    path = write_reach_engine(folder)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "planned"
    model.graph.node.append(helper.make_node("Slice", ["planned", "from", "to"], ["chunk"]))
    for name, numbers in (("from", [0, 0]), ("to", [16, 5])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    return _store(model, path)


def _with_fuse(folder: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    path = write_reach_engine(folder)
    model = onnx.load(path)
    graph = model.graph
    graph.node[-1].output[0] = "planned"
    fuse = [
        helper.make_node("Abs", ["way"], ["distances"]),
        helper.make_node("ReduceMax", ["distances"], ["distance"], keepdims=0),
        helper.make_node("Less", ["distance", "fuse"], ["burnt"]),
    ]
    graph.node.extend([*fuse, *nodes])
    for name, value in ({"fuse": np.array(FUSE_DEG, np.float32)} | constants).items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    return _store(model, path)


def _store(model: onnx.ModelProto, path: Path) -> Path:
    card = load_card(path)
    path.write_bytes(model.SerializeToString())
    save_card(card.model_copy(update={"engine_sha256": sha256_of(path)}), path)
    return path
