"""Building a plan, without TensorRT: the choice of the flavour, progress, the timing cache, the fastest candidate."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.export.plan.build_choice import Source, choose_plan_recipe, fastest_candidates, recipes_for, target_of
from sefa_edge.export.plan.build_messages import LibraryEvent, ProgressEvent
from sefa_edge.export.plan.build_progress import BuildWatcher
from sefa_edge.export.plan.fastest import Candidate, fastest, keep, table
from sefa_edge.export.plan.timing_cache import (
    MAX_BYTES,
    MAX_FILES,
    read_timing_cache,
    timing_cache_path,
    write_timing_cache,
)
from sefa_edge.profiles.card import PolicyCard, load_card, save_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.verification import VerificationReport

TRT_8 = LibraryEvent(version="8.6.1", strongly_typed=False, weakly_typed=True, compute_capabilities=[])
TRT_10 = LibraryEvent(version="10.3.0", strongly_typed=True, weakly_typed=True, compute_capabilities=[])
TRT_11 = LibraryEvent(version="11.4.0.106", strongly_typed=True, weakly_typed=False, compute_capabilities=[])
CALIBRATION = {"method": "entropy", "dataset_sha256": "0" * 64, "episodes": 2, "samples": 64, "joint_coverage": 0.9}
QUANTISATION = {
    "calibration": CALIBRATION,
    "int8_layers": ["conv"],
    "int8_weight_layers": [],
    "kept_layers": [],
    "int8_weight_share": 0.9,
}
PLAN = {
    "onnx_sha256": "0" * 64, "library_version": "10.3.0", "cuda_version": "12.6", "compute_capability": "8.7",
    "gpu_name": "Orin", "board": "p3767-0005", "l4t": "36.4.3", "power_mode": "MAXN_SUPER", "workspace_mib": 256,
    "optimisation_level": 3, "build_seconds": 1.0,
}  # fmt: skip


@pytest.fixture
def export(reach_engine: Path) -> list[Source]:
    """The cards of an INT8 export, in the order in which the files are found."""
    card = load_card(reach_engine)

    def source(name: str, **changed: object) -> Source:
        return Source(Path(name), PolicyCard.model_validate({**card.model_dump(), "engine_file": name, **changed}))

    int8 = {"precision": "int8", "quantisation": QUANTISATION}
    return [
        source("model.onnx", opset=17, **int8, engine_sha256="1" * 64),
        source("model.typed.onnx", opset=19, strongly_typed=True, **int8, engine_sha256="2" * 64),
        source("model.fp16.onnx", opset=19, strongly_typed=True, precision="fp16", engine_sha256="3" * 64),
        source("model.fp32.onnx", opset=17, engine_sha256="4" * 64),
    ]


@pytest.mark.parametrize(
    ("library", "precision", "file", "typed"),
    [
        (TRT_8, None, "model.onnx", False),
        (TRT_8, "fp16", "model.fp32.onnx", False),
        (TRT_8, "fp32", "model.fp32.onnx", False),
        (TRT_10, None, "model.typed.onnx", True),
        (TRT_10, "fp16", "model.fp16.onnx", True),
        (TRT_10, "fp32", "model.fp32.onnx", False),
        (TRT_11, None, "model.typed.onnx", True),
        (TRT_11, "fp16", "model.fp16.onnx", True),
        (TRT_11, "fp32", "model.fp32.onnx", True),
    ],
)
def test_the_flavour_that_fits_the_library_is_chosen(
    export: list[Source], library: LibraryEvent, precision: str | None, file: str, typed: bool
) -> None:
    recipe = choose_plan_recipe(export, library, precision)  # type: ignore[arg-type]
    assert (recipe.source.onnx.name, recipe.strongly_typed) == (file, typed)


def test_the_weakly_typed_flavour_is_chosen_without_a_typed_one(export: list[Source]) -> None:
    recipe = choose_plan_recipe(export[:1], TRT_11, None)
    assert (recipe.source.onnx.name, recipe.precision, recipe.strongly_typed) == ("model.onnx", "int8", True)


def test_a_typed_file_is_refused_by_a_library_without_strong_typing(export: list[Source]) -> None:
    with pytest.raises(InputError, match=r"8\.6\.1 can build nothing from model\.typed\.onnx, not int8") as refused:
        choose_plan_recipe(export[1:2], TRT_8, None)
    assert "opset 17" in refused.value.hint


@pytest.mark.parametrize(
    ("version", "opset"),
    [("8.6.1", 17), ("10.3.0", 20), ("10.16.1.11", 24), ("11.4.0.106", 24), ("1.7.1.116", 24)],
)
def test_newest_opset_of_a_version(version: str, opset: int) -> None:
    assert target_of(version).newest_opset == opset


@pytest.mark.parametrize(
    ("library", "labels"),
    [
        (TRT_8, ["int8 weakly typed", "fp16 weakly typed"]),
        (TRT_10, ["int8 weakly typed", "int8 typed", "fp16 typed", "fp16 weakly typed"]),
        (TRT_11, ["int8 typed", "int8 typed", "fp16 typed"]),
    ],
)
def test_candidates_for_the_fastest(export: list[Source], library: LibraryEvent, labels: list[str]) -> None:
    assert [recipe.label for recipe in fastest_candidates(export, library)] == labels


def _candidate(export: list[Source], p99_deg: float | None, p50_ns: int) -> Candidate:
    (recipe, *_) = recipes_for(export[0], TRT_10)
    measured = None if p99_deg is None else _report(p99_deg, p50_ns)
    return Candidate(recipe, Path("model.plan"), export[0].card, measured, "" if measured else "it crashed")


def _report(p99_deg: float, p50_ns: int) -> VerificationReport:
    """The report of `sefa-edge verify` on a plan with this error and median latency; the budget is 0.5 degrees."""
    spread = {"mean": p99_deg / 2, "p99": p99_deg, "max": p99_deg}
    joint = {"name": "gripper", "unit": "percent", "ticks_per_unit": 10.0, "joint": spread, "ticks": spread}
    engine = {"file": "x", "sha256": "0" * 64, "format": "tensorrt", "precision": "int8", "calls": 9}
    return VerificationReport.model_validate(
        {
            "schema_version": 1,
            "reference": {**engine, "p50_ns": 4_000_000, "p99_ns": 9_000_000},
            "candidate": {**engine, "p50_ns": p50_ns, "p99_ns": 2 * p50_ns},
            "latency_ratio_p50": p50_ns / 4_000_000,
            "latency_ratio_p99": 2 * p50_ns / 9_000_000,
            "threads": 1,
            "dataset": "lift",
            "dataset_sha256": "0" * 64,
            "episodes": 1,
            "frames": [0],
            "seed": 0,
            "error": {
                "samples": 1,
                "overall": spread,
                "joints": [{**joint, "steps": [spread]}],
                "steps": [spread],
                "worst_joint": "gripper",
                "worst_samples": [0],
            },
            "budget_p99_deg": 0.5,
            "passed": p99_deg <= 0.5,
        }
    )


measurements = st.tuples(st.none() | st.floats(0, 2), st.integers(1, 10**8))


@given(done=st.lists(measurements, max_size=6))
def test_the_fastest_candidate_within_the_budget_is_chosen(
    reach_engine: Path, done: list[tuple[float | None, int]]
) -> None:
    source = [Source(reach_engine, load_card(reach_engine))]
    candidates = [_candidate(source, error, ns) for error, ns in done]
    allowed = [ns for error, ns in done if error is not None and error <= 0.5]
    best = fastest(candidates)
    if best is None:
        assert allowed == []
    else:
        assert best.measured is not None
        assert best.measured.error.overall.p99 <= 0.5
        assert best.measured.candidate.p50_ns == min(allowed)
    assert len(table(candidates, best).splitlines()) == 1 + len(done)


def test_the_table_lists_errors_latencies_and_problems(export: list[Source]) -> None:
    rows = [_candidate(export, 0.3, 1_500_000), _candidate(export, 0.9, 900_000), _candidate(export, None, 1)]
    head, good, bad, broken = table(rows, fastest(rows)).splitlines()
    assert head.split() == ["flavour", "p99", "error", "budget", "p50", "p99"]
    assert good.split()[:5] == ["*", "model.onnx", "int8", "weakly", "typed"]
    assert good.split()[5:] == ["0.3000", "0.500", "1.500", "ms", "3.000", "ms"]
    assert bad.split()[0] == "model.onnx"
    assert broken.split()[-2:] == ["it", "crashed"]


def test_the_kept_plan_has_its_card_and_its_log(export: list[Source], tmp_path: Path) -> None:
    plan = tmp_path / "0-int8.plan"
    plan.write_bytes(b"a plan")
    plan.with_name("0-int8.plan.log").write_text("log")
    card = PolicyCard.model_validate(
        {
            **export[0].card.model_dump(),
            "engine_file": plan.name,
            "engine_sha256": sha256_of(plan),
            "format": "tensorrt",
            "plan": PLAN,
        }
    )
    save_card(card, plan)
    keep(replace(_candidate(export, 0.1, 1), plan=plan, card=card), tmp_path / "model.plan")
    assert load_card(tmp_path / "model.plan").precision == "int8"
    assert (tmp_path / "model.plan.log").read_text() == "log"


def _events_of(callbacks: list[tuple[object, ...]]) -> list[ProgressEvent]:
    events: list[ProgressEvent] = []
    watcher = BuildWatcher(events.append)
    for name, *arguments in callbacks:
        getattr(watcher, str(name))(*arguments)
    return events


def test_nested_phases_advance_the_step_that_contains_them() -> None:
    events = _events_of(
        [
            ("phase_start", "Building engine", None, 4),
            ("step_complete", "Building engine", 0),
            ("phase_start", "Timing", "Building engine", 2),
            ("step_complete", "Timing", 0),
            ("step_complete", "Timing", 1),
            ("phase_finish", "Timing"),
            ("step_complete", "Building engine", 1),
            ("step_complete", "Building engine", 3),
        ]
    )
    assert [(event.permille, event.phase) for event in events] == [
        (250, "Building engine"),
        (375, "Timing"),
        (500, "Timing"),
        (1000, "Building engine"),
    ]


phase_names = st.sampled_from(["a", "b", "c"])
callbacks = st.one_of(
    st.tuples(st.just("phase_start"), phase_names, st.none() | phase_names, st.integers(-1, 9)),
    st.tuples(st.just("step_complete"), phase_names, st.integers(0, 9)),
    st.tuples(st.just("phase_finish"), phase_names),
)


@given(calls=st.lists(callbacks, max_size=30))
def test_progress_never_goes_backwards(calls: list[tuple[object, ...]]) -> None:
    permille = [event.permille for event in _events_of(calls)]
    assert permille == sorted(set(permille))


def test_without_a_monitor_the_log_gives_the_progress(capfd: pytest.CaptureFixture[str]) -> None:
    events = _events_of(
        [
            ("log", "INFO", "Graph optimization time: 0.02 seconds."),
            ("log", "INFO", "Local timing cache in use. Profiling results will not be stored."),
            ("log", "INFO", "Detected 3 inputs and 1 output network tensors."),
            ("log", "INFO", "Engine generation completed in 31.2 seconds."),
        ]
    )
    assert [event.permille for event in events] == [150, 200, 850, 980]
    assert "[INFO] Graph optimization time" in capfd.readouterr().err


def test_the_reason_of_a_failure_is_the_last_error_in_one_line() -> None:
    watcher = BuildWatcher(lambda event: None)
    assert watcher.reason() == "it reports no reason"
    for severity, message in [("ERROR", "first"), ("INTERNAL_ERROR", "second\n  line"), ("INFO", "third")]:
        watcher.log(severity, message)
    assert watcher.reason() == "second line"
    assert watcher.find(["irs"]) == "first"


def test_timing_caches_are_kept_by_key(tmp_path: Path) -> None:
    nano = timing_cache_path(tmp_path, "tensorrt", "10.3.0", "Orin (nvgpu)", "8.7", "25W")
    assert nano.name.startswith("tensorrt-10.3.0-Orin_nvgpu-8.7-25W-")
    other = timing_cache_path(tmp_path, "tensorrt", "10.3.0", "Orin (nvgpu)", "8.7", "MAXN/../../../SUPER")
    assert other != nano
    assert other.parent == tmp_path
    write_timing_cache(nano, b"measured")
    assert read_timing_cache(nano) == b"measured"
    assert read_timing_cache(other) == b""


def test_timing_caches_are_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "timing"
    for number in range(MAX_FILES + 3):
        path = timing_cache_path(folder, str(number))
        write_timing_cache(path, b"measured")
        os.utime(path, (number, number))
    write_timing_cache(timing_cache_path(folder, "newest"), b"measured")
    assert len(list(folder.iterdir())) == MAX_FILES
    assert not timing_cache_path(folder, "0").exists()
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert read_timing_cache(huge) == b""
    write_timing_cache(tmp_path / "file" / "no" / "where", b"")
    assert not (tmp_path / "file").exists()


def test_the_command_imports_nothing_of_the_learning_half() -> None:
    heavy = ("torch", "onnx", "safetensors", "numpy", "onnxruntime", "tensorrt", "cv2")
    program = f"""
import sys
for name in {heavy[:3]!r}:
    sys.modules[name] = None
import sefa_edge.export.plan.build_process
print(*(set({heavy[3:]!r}) & set(sys.modules)))
import sefa_edge.export.plan.build
print(*(set({heavy[4:]!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
