"""Opening engines: the kind of file, whether it matches its card, and the error messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.engines.engine import Engine, EngineError, engine_kind
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import card_path, load_card
from sefa_edge.profiles.card_check import CardError, World, check_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.onnxfile.reader import read_onnx

PLAN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(100)


def inputs() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    images = {"front": np.full((1, 96, 96, 3), 128, np.uint8)}
    return images, np.zeros((1, 6), np.float32), np.zeros((16, 6), np.float32)


def edit_card(engine: Path, **changes: object) -> None:
    card = json.loads(card_path(engine).read_text())
    card_path(engine).write_text(json.dumps(card | {"engine_sha256": sha256_of(engine)} | changes))


def test_runs_and_reads_new_inputs_each_time(reach_engine: Path) -> None:
    engine: Engine = open_engine(reach_engine)
    images, joints, noise = inputs()
    first = engine.infer(images, joints, noise).copy()
    second = engine.infer(images, joints + 10, noise).copy()
    engine.close()
    assert first.shape == (16, 6)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first[0], 0.03 * np.array([20, -20, 20, 15, 10, 50]), rtol=1e-5)
    np.testing.assert_allclose(second - first, 10 * (1 - 0.03 * np.arange(1, 17))[:, None].repeat(6, 1), rtol=1e-4)


def test_refuses_inputs_of_another_shape_or_type(reach_engine: Path) -> None:
    engine = open_engine(reach_engine)
    images, joints, noise = inputs()
    with pytest.raises(EngineError, match="noise"):
        engine.infer(images, joints, noise[:8])
    with pytest.raises(EngineError, match="joints"):
        engine.infer(images, joints.astype(np.float64), noise)
    with pytest.raises(EngineError, match="front"):
        engine.infer({"front": images["front"][:, :48]}, joints, noise)
    engine.close()


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "empty"),
        (b"\x10\x00\x00\x00ORTM" + bytes(60), "ONNX Runtime's own format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "it is a PNG picture"),
        (b"\x80\x02}q\x00", "Python pickle, perhaps a torch checkpoint"),
        (b"\x1f\x8b\x08" + bytes(60), "gzip data; unpack it first"),
        (b"some notes\n", "it is a text file"),
        (b"\x01\x02\x03\x04", "begins with 01 02 03 04"),
        (b"PK\x03\x04" + bytes(60), "checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<html><body>404", "HTML page"),
    ],
)
def test_says_what_an_unknown_file_seems_to_be(tmp_path: Path, head: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(head)
    with pytest.raises(EngineError, match=words):
        engine_kind(path)


def test_the_name_does_not_decide(tmp_path: Path, reach_engine: Path) -> None:
    plan, onnx = tmp_path / "model.onnx", tmp_path / "model.plan"
    plan.write_bytes(PLAN)
    onnx.write_bytes(reach_engine.read_bytes())
    assert engine_kind(plan) == "tensorrt"
    assert engine_kind(onnx) == "onnx"


def test_refuses_a_damaged_file(tmp_path: Path, make_reach_engine: Callable[[Path], Path]) -> None:
    engine = make_reach_engine(tmp_path)
    engine.write_bytes(engine.read_bytes()[:-200])
    with pytest.raises(InputError, match="not the file that its card describes"):
        open_engine(engine)
    edit_card(engine)
    with pytest.raises(EngineError, match="ONNX Runtime refuses"):
        open_engine(engine)


def test_refuses_tensors_that_differ_from_the_card(tmp_path: Path, make_reach_engine: Callable[[Path], Path]) -> None:
    engine = make_reach_engine(tmp_path)
    edit_card(engine, chunk_tensor={"name": "actions", "dtype": "float32", "shape": [16, 6]})
    with pytest.raises(EngineError, match="actions"):
        open_engine(engine)
    card = json.loads(card_path(engine).read_text())
    camera = card["cameras"][0] | {"height": 64}
    image = card["image_tensors"][0] | {"shape": [1, 64, 96, 3]}
    edit_card(engine, chunk_tensor=card["noise_tensor"] | {"name": "chunk"}, cameras=[camera], image_tensors=[image])
    with pytest.raises(EngineError, match="image_front"):
        open_engine(engine)


def test_refuses_values_kept_in_another_file(tmp_path: Path, make_reach_engine: Callable[[Path], Path]) -> None:
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    engine = make_reach_engine(tmp_path)
    model = onnx.load(engine)
    assert read_onnx(engine.read_bytes()).external_tensors == ()
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, engine)
    edit_card(engine)
    assert set(read_onnx(engine.read_bytes()).external_tensors) == {"target", "ramp", "zero", "axes"}
    with pytest.raises(EngineError, match="in another file"):
        open_engine(engine)


def test_refuses_an_arm_with_other_joints(reach_engine: Path) -> None:
    card = load_card(reach_engine)
    arm = load_arm_profile("so101_sim")
    check_card(card, World(arm, 100.0))
    swapped = card.model_copy(update={"joints": [card.joints[1], card.joints[0], *card.joints[2:]]})
    with pytest.raises(CardError, match="shoulder_lift shoulder_pan"):
        check_card(swapped, World(arm, 100.0))
    degrees = card.joints[5].model_copy(update={"unit": "degrees"})
    with pytest.raises(CardError, match="gripper"):
        check_card(card.model_copy(update={"joints": [*card.joints[:5], degrees]}), World(arm, 100.0))
