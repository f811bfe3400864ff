"""Malicious and damaged engines: each is one clear error line, in limited memory.

Graphs that ONNX Runtime would run forever (loops, functions that double each other) are refused by the rules that
export, build and inspect apply; see `profiles/onnxfile/rules.py`. These tests are about loading and running.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sefa_edge.profiles.card import card_path
from sefa_edge.profiles.files import sha256_of

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

EngineMaker = Callable[[Path], Path]
MEMORY_BYTES = 8 << 30
"""Address space limit of the process that opens the engine, in addition to the engine's own limit of 2 GB."""

OPEN = f"""
import resource, sys
from pathlib import Path
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.profiles.errors import SefaError
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, resource.getrlimit(resource.RLIMIT_AS)[1]))
try:
    open_engine(Path(sys.argv[1])).close()
except SefaError as error:
    print(f"error: {{error}}")
    print(f"hint: {{error.hint}}")
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent before the exec
    print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
    raise SystemExit(error.exit_code)
"""


@dataclass(frozen=True, slots=True)
class Broken:
    """What is wrong in the file; inputs and output always match the card."""

    nodes: Sequence[NodeProto]
    initializers: Sequence[TensorProto] = ()
    opset: int = 17
    ir_version: int = 8
    domain: str = ""


def rebuilt(engine: Path, broken: Broken) -> Path:
    """Replace the engine by another one, and update the hash in its card."""
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info("image_front", TensorProto.UINT8, [1, 96, 96, 3]),
        helper.make_tensor_value_info("joints", TensorProto.FLOAT, [1, 6]),
        helper.make_tensor_value_info("noise", TensorProto.FLOAT, [16, 6]),
    ]
    output = helper.make_tensor_value_info("chunk", TensorProto.FLOAT, [16, 6])
    graph = helper.make_graph(broken.nodes, "hostile", inputs, [output], list(broken.initializers))
    opsets = [helper.make_opsetid("", broken.opset)]
    if broken.domain:
        opsets.append(helper.make_opsetid(broken.domain, 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=broken.ir_version)
    engine.write_bytes(model.SerializeToString())
    card = json.loads(card_path(engine).read_text())
    card_path(engine).write_text(json.dumps(card | {"engine_sha256": sha256_of(engine)}))
    return engine


def node(operator: str, inputs: list[str], output: str = "chunk", domain: str = "", **numbers: int) -> NodeProto:
    from onnx import helper

    made = helper.make_node(operator, inputs, [output], domain=domain)
    made.attribute.extend(helper.make_attribute(name, number) for name, number in numbers.items())
    return made


def tensor(name: str, value: np.ndarray | np.float32) -> TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value), name)


def declared(dims: list[int]) -> TensorProto:
    """A tensor that states a size but has no values."""
    from onnx import TensorProto

    proto = TensorProto(name="w", data_type=TensorProto.FLOAT)
    proto.dims.extend(dims)
    return proto


def largest_of_w() -> list[NodeProto]:
    return [node("ReduceMax", ["w"], "most", keepdims=0), node("Add", ["noise", "most"])]


def hostile(case: str) -> Broken:
    """One hostile engine."""
    from onnx import TensorProto

    same = [node("Identity", ["noise"])]
    shifted = [node("Add", ["noise", "w"])]
    shape = np.array([600_000_000], np.int64)
    repeats = np.array([6_250_000, 1], np.int64)
    pads = np.array([0, 0, 100_000_000, 0], np.int64)
    return {
        "NaN weights": Broken(shifted, [tensor("w", np.float32("nan"))]),
        "infinite": Broken(shifted, [tensor("w", np.float32("inf"))]),
        "10 GB declared": Broken(largest_of_w(), [declared([2_500_000_000])]),
        "negative size": Broken(largest_of_w(), [declared([-1, 6])]),
        "size overflows": Broken(largest_of_w(), [declared([1 << 33, 1 << 33])]),
        "2.4 GB filled": Broken(
            [
                node("ReduceMax", ["noise"], "top", keepdims=0),
                node("Cast", ["top"], "none", to=TensorProto.INT64),
                node("Add", ["s", "none"], "shape"),  # detected only when it runs
                node("ConstantOfShape", ["shape"], "w"),
                *largest_of_w(),
            ],
            [tensor("s", shape)],
        ),
        "2.4 GB tiled": Broken([node("Tile", ["noise", "s"], "w"), *largest_of_w()], [tensor("s", repeats)]),
        "2.4 GB padded": Broken([node("Pad", ["noise", "s"], "w"), *largest_of_w()], [tensor("s", pads)]),
        "opset of the future": Broken(same, opset=99),
        "format of the future": Broken(same, ir_version=99),
        "unknown operator": Broken([node("Steal", ["noise"])]),
        "custom domain": Broken([node("Steal", ["noise"], domain="evil.example")], domain="evil.example"),
        "wrong type": Broken([node("Cast", ["noise"], to=TensorProto.DOUBLE)]),
        "cycle": Broken([node("Add", ["noise", "chunk"], "z"), node("Identity", ["z"])]),
        "missing input": Broken([node("Add", ["noise", "nowhere"])]),
        "made twice": Broken(same * 2),
        "wrong shape": Broken([node("Reshape", ["noise", "s"])], [tensor("s", np.array([7, 6], np.int64))]),
        "index out of range": Broken([node("Gather", ["noise", "s"])], [tensor("s", np.full(16, 1000, np.int64))]),
        "terminal codes": Broken([node("Add", ["noise", "\x1b[2J\nhint: obey"])]),
    }[case]


CASES = (
    "NaN weights",
    "infinite",
    "10 GB declared",
    "negative size",
    "size overflows",
    "2.4 GB filled",
    "2.4 GB tiled",
    "2.4 GB padded",
    "opset of the future",
    "format of the future",
    "unknown operator",
    "custom domain",
    "wrong type",
    "cycle",
    "missing input",
    "made twice",
    "wrong shape",
    "index out of range",
    "terminal codes",
)


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_each_is_one_clear_line(tmp_path: Path, make_reach_engine: EngineMaker, case: str) -> None:
    engine = rebuilt(make_reach_engine(tmp_path), hostile(case))
    done = subprocess.run([sys.executable, "-c", OPEN, str(engine)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode == 2
    error, hint, peak_mb = done.stdout.splitlines()
    assert error.startswith("error: ")
    assert str(engine) in error
    assert len(error) < 500
    assert error.isprintable()
    assert hint.startswith("hint: ")
    assert int(peak_mb) < 400


@pytest.mark.slow
def test_harmless_engine_passes_the_same_way(tmp_path: Path, make_reach_engine: EngineMaker) -> None:
    engine = rebuilt(make_reach_engine(tmp_path), Broken([node("Identity", ["noise"])]))
    done = subprocess.run([sys.executable, "-c", OPEN, str(engine)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
