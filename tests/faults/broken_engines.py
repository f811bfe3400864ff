"""Engines that fail while the arm moves: the tests' reach engine, which breaks once it is near its target.

It breaks when every joint is less than TRIP_DEG from the target, so the first chunks are good.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sefa_edge.profiles.card import load_card, save_card
from sefa_edge.profiles.files import sha256_of
from tests.conftest import write_reach_engine

TRIP_DEG = 30.0


def write_nan_engine(folder: Path) -> Path:
    """Adds 0 * sqrt(distance - trip distance): NaN once the distance is below the trip distance."""
    nodes = [
        helper.make_node("Sub", ["distance", "trip_distance"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["zero_or_nan"]),
        helper.make_node("Add", ["planned", "zero_or_nan"], ["chunk"]),
    ]
    return _with_trip(folder, nodes, {})


def write_failing_engine(folder: Path) -> Path:
    """Gathers row 1 of a table that has only row 0."""
    nodes = [
        helper.make_node("Unsqueeze", ["planned", "zeroth"], ["table"]),
        helper.make_node("Cast", ["tripped"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "row"], ["chunk"], axis=0),
    ]
    return _with_trip(folder, nodes, {"zeroth": np.array([0], np.int64)})


def write_narrow_engine(folder: Path) -> Path:
    """Its file declares fewer joints than its card."""
    path = write_reach_engine(folder)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "planned"
    model.graph.node.append(helper.make_node("Slice", ["planned", "from", "to"], ["chunk"]))
    for name, numbers in (("from", [0, 0]), ("to", [16, 5])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    return _store(model, path)


def _with_trip(folder: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    path = write_reach_engine(folder)
    model = onnx.load(path)
    graph = model.graph
    graph.node[-1].output[0] = "planned"
    trip = [
        helper.make_node("Abs", ["way"], ["distances"]),
        helper.make_node("ReduceMax", ["distances"], ["distance"], keepdims=0),
        helper.make_node("Less", ["distance", "trip_distance"], ["tripped"]),
    ]
    graph.node.extend([*trip, *nodes])
    for name, value in ({"trip_distance": np.array(TRIP_DEG, np.float32)} | constants).items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    return _store(model, path)


def _store(model: onnx.ModelProto, path: Path) -> Path:
    card = load_card(path)
    path.write_bytes(model.SerializeToString())
    save_card(card.model_copy(update={"engine_sha256": sha256_of(path)}), path)
    return path
