"""TensorRT plans: header, match with the machine, and every error. Needs neither a GPU nor TensorRT."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sefa_edge.edge.engines.engine import EngineError, EngineOptions, PlanOptions
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.engines.plan_file import PlanHeader, check_unit, check_version, read_plan_header
from sefa_edge.profiles.card import PlanSpec, card_path
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.gpu import Gpu
from sefa_edge.profiles.jetson import Jetson

PLAN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(100)
RTX_PLAN = b"vtrt" + bytes(20) + bytes([1, 7, 1, 116]) + bytes(100)
ORIN = Gpu("Orin", "8.7", is_integrated=True, cuda_version="12.6", memory_mib=7620)
NANO = Jetson("Jetson Orin Nano", "p3767-0005", "36.4.3", "R36 (release), REVISION: 4.3", "MAXN_SUPER")
SPEC = PlanSpec(
    onnx_sha256="0" * 64,
    library_version="10.3.0.26",
    cuda_version="12.6",
    compute_capability="8.7",
    gpu_name="Orin",
    board="p3767-0005",
    l4t="36.4.3",
    power_mode="MAXN_SUPER",
    workspace_mib=512,
    optimisation_level=3,
    build_seconds=30.0,
)


def write_plan(folder: Path, make_engine: Callable[[Path], Path], content: bytes, **changes: object) -> Path:
    """`model.plan` with a card derived from the reach engine's."""
    card = json.loads(card_path(make_engine(folder)).read_text())
    plan = folder / "model.plan"
    plan.write_bytes(content)
    facts = {"engine_file": plan.name, "engine_sha256": sha256_of(plan), "format": "tensorrt"}
    card_path(plan).write_text(json.dumps(card | facts | {"plan": SPEC.model_dump()} | changes))
    return plan


def test_the_header_contains_library_and_version(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(PLAN)
    assert read_plan_header(plan) == PlanHeader("tensorrt", (10, 3, 0, 26))
    plan.write_bytes(RTX_PLAN)
    assert str(read_plan_header(plan)) == "TensorRT-RTX 1.7.1.116"
    plan.write_bytes(PLAN[:26])
    with pytest.raises(EngineError, match="inside its header"):
        read_plan_header(plan)
    plan.write_bytes(b"\x08" + PLAN)
    with pytest.raises(EngineError, match="not a TensorRT plan"):
        read_plan_header(plan)


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("10.3.0.26", True),
        ("10.3.0", True),  # all that JetPack's module reports
        ("10.3.0.post1", True),
        ("10.3.0.30", False),
        ("10.3.1", False),
        ("10.13.0", False),
        ("10.3", False),
        ("", False),
    ],
)
def test_versions_are_compared_as_far_as_they_are_given(version: str, fits: bool) -> None:
    assert PlanHeader("tensorrt", (10, 3, 0, 26)).is_of(version) == fits


def test_a_plan_of_another_version_is_refused_with_what_to_do() -> None:
    header = PlanHeader("tensorrt", (10, 3, 0, 26))
    check_version(Path("model.plan"), header, SPEC, "10.3.0")
    with pytest.raises(EngineError, match=r"built by TensorRT 10\.3\.0\.26, but TensorRT 10\.16\.2 is") as caught:
        check_version(Path("model.plan"), header, SPEC, "10.16.2")
    assert "sefa-edge build" in caught.value.hint
    assert caught.value.exit_code == 2
    with pytest.raises(EngineError, match=r"its card says 8\.6\.2"):
        check_version(Path("model.plan"), header, SPEC.model_copy(update={"library_version": "8.6.2"}), "10.3.0")


def test_the_machine_that_built_it_accepts_it_without_a_note() -> None:
    assert check_unit(Path("model.plan"), SPEC, ORIN, NANO) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compute_capability": "8.6"}, r"GPU Orin \(SM 8\.6\), this one is Orin \(SM 8\.7\)"),
        ({"gpu_name": "Thor"}, "GPU Thor"),
        ({"board": "p3701-0005"}, "module p3701-0005, this is module p3767-0005"),
        ({"board": None}, "no Jetson, this is module p3767-0005"),
        ({"l4t": "36.4.0"}, r"L4T 36\.4\.0, this unit runs 36\.4\.3"),
    ],
)
def test_another_machine_is_refused_by_name(changes: dict[str, object], words: str) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        check_unit(Path("model.plan"), SPEC.model_copy(update=changes), ORIN, NANO)
    assert "build it again" in caught.value.hint


def test_a_jetsons_plan_is_refused_on_a_workstation() -> None:
    with pytest.raises(EngineError, match="module p3767-0005, this is no Jetson"):
        check_unit(Path("model.plan"), SPEC, ORIN, None)


def test_another_power_mode_is_a_note() -> None:
    notes = check_unit(Path("model.plan"), SPEC.model_copy(update={"power_mode": "15W"}), ORIN, NANO)
    assert len(notes) == 1
    assert "power mode 15W, but MAXN_SUPER is set" in notes[0]


def test_a_plan_built_ahead_of_time_fits_the_gpus_that_it_names() -> None:
    changes = {"compute_capability": "none", "board": None, "l4t": None, "power_mode": None}
    for targets, fits in (("SM86 SM87", True), ("SM86 SM120", False), ("SM870", False)):
        spec = SPEC.model_copy(update={**changes, "gpu_name": targets})
        if fits:
            assert check_unit(Path("model.plan"), spec, ORIN, None) == []
        else:
            with pytest.raises(EngineError, match=f"was built for {targets}, this GPU is Orin"):
                check_unit(Path("model.plan"), spec, ORIN, None)


@pytest.mark.parametrize(
    ("library", "content", "version", "words"),
    [
        ("tensorrt", PLAN, "10.3.0.26", r"TensorRT 10\.3\.0\.26 plan.*not installed"),
        ("tensorrt_rtx", RTX_PLAN, "1.7.1.116", r"TensorRT-RTX 1\.7\.1\.116 plan.*not installed"),
    ],
)
def test_a_missing_library_is_reported_with_its_source(
    tmp_path: Path, make_reach_engine: Callable[[Path], Path], library: str, content: bytes, version: str, words: str
) -> None:
    if importlib.util.find_spec(library) or importlib.util.find_spec(f"{library}_bindings"):
        pytest.skip(f"{library} is installed here")
    spec = SPEC.model_copy(update={"library_version": version}).model_dump()
    plan = write_plan(tmp_path, make_reach_engine, content, format=library, plan=spec)
    with pytest.raises(MissingError, match=words) as caught:
        open_engine(plan, EngineOptions(plan=PlanOptions(warm_up_s=0.0)))
    assert caught.value.exit_code == 4
    assert ("JetPack" if library == "tensorrt" else "pip install tensorrt-rtx-cu13") in caught.value.hint


def test_card_and_bytes_must_agree_on_the_format(tmp_path: Path, make_reach_engine: Callable[[Path], Path]) -> None:
    plan = write_plan(tmp_path, make_reach_engine, PLAN, format="tensorrt_rtx")
    with pytest.raises(EngineError, match="of format tensorrt, its card says tensorrt_rtx"):
        open_engine(plan)


def test_a_truncated_or_bare_plan_never_reaches_tensorrt(
    tmp_path: Path, make_reach_engine: Callable[[Path], Path]
) -> None:
    plan = write_plan(tmp_path, make_reach_engine, PLAN)
    plan.write_bytes(PLAN[:-1])
    with pytest.raises(InputError, match="not the file that its card describes"):
        open_engine(plan)
    card_path(plan).unlink()
    with pytest.raises(InputError, match=r"no policy card: model\.plan\.json is not in the same folder"):
        open_engine(plan)
