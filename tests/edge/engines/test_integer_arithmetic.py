"""8-bit arithmetic that saturates on x86 processors without VNNI: found in a file, refused on such processors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.engines.engine import EngineError
from sefa_edge.edge.engines.find_engine import engine_at
from sefa_edge.edge.engines.onnx_runtime import multiplies_with_saturation
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.tools.inspection.command import inspect_path
from sefa_edge.profiles.card import (
    CalibrationSummary,
    PolicyCard,
    QuantisationSummary,
    card_path,
    load_card,
    save_card,
)
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.onnxfile.integer_arithmetic import (
    EXACT_WEIGHT_LIMIT,
    computes_in_integers,
    require_exact_arithmetic,
    saturating_layers,
)
from sefa_edge.profiles.onnxfile.reader import read_onnx

onnx = pytest.importorskip("onnx")
h, t = onnx.helper, onnx.TensorProto
CARD_VALUES = 64
EMULATOR = shutil.which("qemu-x86_64")
AVX2_WITHOUT_VNNI = "Haswell"
QUANTISATION = QuantisationSummary(
    calibration=CalibrationSummary(method="minmax", dataset_sha256="0" * 64, episodes=3, samples=8, joint_coverage=0.5),
    int8_layers=["layer"],
    int8_weight_layers=[],
    kept_layers=[],
    int8_weight_share=1.0,
)


def quantised_bytes(largest: int, activations: type = np.uint8, operator: str = "MatMul") -> bytes:
    """y = x w on 8-bit integers, x float32 [1, 64], every weight `largest`."""
    zero = np.array(128 if activations is np.uint8 else 0, activations)
    weight = np.full((CARD_VALUES, CARD_VALUES), largest, np.int8)
    constants = {"s": np.array(1 / 128, np.float32), "z": zero, "w": weight, "wz": np.array(0, np.int8)}
    nodes = [h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantise")]
    if operator == "QLinearMatMul":
        nodes += [
            h.make_node(operator, ["q", "s", "z", "w", "s", "wz", "s", "z"], ["yq"], "multiply"),
            h.make_node("DequantizeLinear", ["yq", "s", "z"], ["y"], "last"),
        ]
    else:
        nodes += [
            h.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantise"),
            h.make_node("DequantizeLinear", ["w", "s", "wz"], ["wd"], "weight"),
            h.make_node(operator, ["d", "wd"], ["y"], "multiply"),
        ]
    values = [h.make_tensor_value_info(name, t.FLOAT, [1, CARD_VALUES]) for name in "xy"]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = h.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString()


def int8_engine(folder: Path, card: PolicyCard, largest: int) -> Path:
    """The reach policy's tensors around a layer on integers: chunk = noise + 0 * (joints w) + 0 * mean(image)."""
    joints, steps = len(card.joints), card.timing.horizon
    constants = {
        "s": np.array(1 / 127, np.float32), "z": np.array(128, np.uint8),
        "w": np.full((joints, joints), largest, np.int8), "wz": np.array(0, np.int8),
        "nothing": np.zeros((1, 1), np.float32), "axes": np.array([0, 1, 2, 3], np.int64),
    }  # fmt: skip
    nodes = [
        h.make_node("Cast", ["image_front"], ["pixels"], to=t.FLOAT),
        h.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        h.make_node("Mul", ["mean", "nothing"], ["nothing_seen"]),
        h.make_node("QuantizeLinear", ["joints", "s", "z"], ["q"]),
        h.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        h.make_node("DequantizeLinear", ["w", "s", "wz"], ["wd"]),
        h.make_node("MatMul", ["d", "wd"], ["product"], "layer"),
        h.make_node("QuantizeLinear", ["product", "s", "z"], ["pq"]),
        h.make_node("DequantizeLinear", ["pq", "s", "z"], ["pd"]),
        h.make_node("Mul", ["pd", "nothing"], ["nothing_moved"]),
        h.make_node("Add", ["noise", "nothing_seen"], ["seen"]),
        h.make_node("Add", ["seen", "nothing_moved"], ["chunk"]),
    ]
    pixels = card.cameras[0].height
    inputs = [
        h.make_tensor_value_info("image_front", t.UINT8, [1, pixels, pixels, 3]),
        h.make_tensor_value_info("joints", t.FLOAT, [1, joints]),
        h.make_tensor_value_info("noise", t.FLOAT, [steps, joints]),
    ]
    outputs = [h.make_tensor_value_info("chunk", t.FLOAT, [steps, joints])]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = h.make_graph(nodes, "int8", inputs, outputs, tensors)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=9)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    facts = {"engine_sha256": sha256_of(path), "precision": "int8", "quantisation": QUANTISATION}
    save_card(card.model_copy(update=facts), path)
    return path


def as_cpu_form(folder: Path, card: PolicyCard, largest: int) -> Path:
    """`model.cpu.onnx` with its card, whose layer has weights of that size."""
    made = int8_engine(folder, card, largest)
    path = made.rename(folder / "model.cpu.onnx")
    card_path(made).unlink()
    save_card(card.model_copy(update={"engine_file": path.name, "engine_sha256": sha256_of(path)}), path)
    return path


def test_a_folder_yields_the_file_that_this_processor_computes_correctly(
    tmp_path: Path,
    reach_engine: Path,
    make_reach_engine: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = as_cpu_form(tmp_path, load_card(reach_engine), 127)
    other = make_reach_engine(tmp_path)
    taken = engine_at(str(tmp_path))
    open_engine(taken).close()
    said = capsys.readouterr().err
    if multiplies_with_saturation():
        assert taken == other
        assert said.startswith(f"note: using {other}, not model.cpu.onnx: 8-bit weights in 1 layer(s)")
        assert said.count("\n") == 1
        card_path(other).unlink()
        with pytest.raises(InputError, match=r"model\.cpu\.onnx: 8-bit .*; model\.onnx: has no"):
            engine_at(str(tmp_path))
    else:
        assert (taken, said) == (old, "")


def test_the_file_for_cpus_is_preferred_where_it_is_correct(
    tmp_path: Path, reach_engine: Path, make_reach_engine: Callable[[Path], Path]
) -> None:
    new = as_cpu_form(tmp_path, load_card(reach_engine), EXACT_WEIGHT_LIMIT)
    make_reach_engine(tmp_path)
    assert engine_at(str(tmp_path)) == new


def test_the_limit_is_the_largest_that_cannot_leave_16_bits() -> None:
    assert 2 * 255 * EXACT_WEIGHT_LIMIT <= 32767 < 2 * 255 * (EXACT_WEIGHT_LIMIT + 1)


@pytest.mark.parametrize("operator", ["MatMul", "QLinearMatMul"])
def test_weights_beyond_the_limit_are_found(operator: str) -> None:
    for weight in (EXACT_WEIGHT_LIMIT, -EXACT_WEIGHT_LIMIT, 0):
        assert saturating_layers(read_onnx(quantised_bytes(weight, operator=operator))) == []
    for weight in (EXACT_WEIGHT_LIMIT + 1, -EXACT_WEIGHT_LIMIT - 1, 127, -128):
        graph = read_onnx(quantised_bytes(weight, operator=operator))
        (found,) = saturating_layers(graph)
        assert (found.node, found.rule) == ("multiply", "saturation")
        assert str(abs(weight)) in found.explanation
        with pytest.raises(InputError, match="'multiply' saturates on x86 without VNNI") as refusal:
            require_exact_arithmetic(graph)
        assert "export again" in refusal.value.hint


def test_the_form_for_tensorrt_is_computed_in_floating_point_and_passes() -> None:
    graph = read_onnx(quantised_bytes(127, np.int8))
    assert not computes_in_integers(graph)
    assert saturating_layers(graph) == []


def test_inspect_reports_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(quantised_bytes(127))
    judged = inspect_path(path, "onnxruntime")
    assert judged.broken == 1
    assert "saturation" in judged.text
    assert "export again" in judged.text
    path.write_bytes(quantised_bytes(EXACT_WEIGHT_LIMIT))
    assert inspect_path(path, "onnxruntime").broken == 0


def test_an_engine_opens_where_it_is_right_and_is_refused_elsewhere(
    tmp_path: Path, reach_engine: Path, make_reach_engine: Callable[[Path], Path]
) -> None:
    card = load_card(reach_engine)
    open_engine(int8_engine(tmp_path, card, EXACT_WEIGHT_LIMIT)).close()
    old = int8_engine(tmp_path, card, 127)
    if multiplies_with_saturation():
        with pytest.raises(EngineError, match=r"8-bit weights in 1 layer\(s\), 'layer' first") as refusal:
            open_engine(old)
        assert "export again" in refusal.value.hint
    else:
        open_engine(old).close()


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64 (Debian: qemu-user)")
def test_the_same_on_an_emulated_processor_without_vnni(tmp_path: Path, reach_engine: Path) -> None:
    card = load_card(reach_engine)
    for largest in (EXACT_WEIGHT_LIMIT, 127):
        (tmp_path / str(largest)).mkdir()
        int8_engine(tmp_path / str(largest), card, largest)
    words = [str(tmp_path / str(largest) / "model.onnx") for largest in (EXACT_WEIGHT_LIMIT, 127)]
    done = subprocess.run(
        [str(EMULATOR), "-cpu", AVX2_WITHOUT_VNNI, sys.executable, "-c", OPEN_BOTH, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["opened", "refused"], done.stderr


OPEN_BOTH = """
import sys
from pathlib import Path
from sefa_edge.edge.engines.engine import EngineError
from sefa_edge.edge.engines.opening import open_engine
for engine in sys.argv[1:]:
    try:
        open_engine(Path(engine)).close()
        print("opened")
    except EngineError:
        print("refused")
"""
