"""One contender on one engine, in a separate process, because a failing driver or library may crash it.

    python tests/gpu/measure_one.py --contender NAME --engine FILE --work DIR --runs N --outcome OUT.json

Writes an `Outcome`; exits with 0 whenever it could.
"""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contenders import CONTENDERS, Absent, Ready, Task
from gpu_report import Outcome, compare_chunks, summarise_latency
from samples import make_samples, recorded_samples

from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import PolicyCard, load_card
from sefa_edge.profiles.files import write_atomic
from sefa_edge.profiles.recording.recordings import Sample

SAMPLES, RECORDED_SAMPLES = 64, 256
SEED = 0
WARM_UP_RUNS, WARM_UP_S = 20, 0.5


@dataclass(frozen=True, slots=True)
class Measure:
    """The measurement settings."""

    runs: int
    dataset: Path | None = None
    """Dataset of the inputs."""
    reference: Path | None = None
    """Reference engine; None: the contender's own."""


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--contender", choices=tuple(CONTENDERS), required=True)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--outcome", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--reference", type=Path)
    arguments = parser.parse_args()
    task = Task(arguments.engine, arguments.checkpoint, arguments.work)
    outcome = run(arguments.contender, task, Measure(arguments.runs, arguments.dataset, arguments.reference))
    write_atomic(arguments.outcome, outcome.model_dump_json().encode())
    return 0


def run(name: str, task: Task, measure: Measure) -> Outcome:
    """Measure one contender. Errors become part of the outcome, except a crash of the whole process."""
    card = load_card(task.engine)
    fields: dict[str, object] = {"contender": name, "engine": task.engine.name, "precision": card.precision}
    try:
        fields |= {"status": "measured", **_measure(CONTENDERS[name].open(task), task.engine, measure)}
    except Absent as reason:
        fields |= {"status": "absent", "reason": str(reason)}
    except Exception as error:  # a library may raise anything, and the report includes it
        fields |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:1000]}
    return Outcome.model_validate(fields)


def _measure(ready: Ready, engine: Path, measure: Measure) -> dict[str, object]:
    card = load_card(engine)
    samples = _samples(card, measure.dataset)
    budget = load_arm_profile(card.arm).action_error_budget.p99_deg(card.precision)
    try:
        chunks = _chunks(ready, samples)
        error = compare_chunks(chunks, _reference(measure.reference or engine, samples), budget)
        latency_ns = _time(ready, samples, measure.runs)
        device = ready.device_p50_ms() if ready.device_p50_ms else None
    finally:
        ready.runner.close()
    return {"error": error, "latency": summarise_latency(latency_ns, device), "notes": ready.notes}


def _samples(card: PolicyCard, dataset: Path | None) -> list[Sample]:
    return recorded_samples(dataset, card, RECORDED_SAMPLES, SEED) if dataset else make_samples(card, SAMPLES, SEED)


def _chunks(ready: Ready, samples: list[Sample]) -> np.ndarray:
    return np.stack([ready.runner.infer(s.images, s.joint_deg, s.noise).copy() for s in samples])


def _reference(engine: Path, samples: list[Sample]) -> np.ndarray:
    """ONNX Runtime on the CPU."""
    reference = open_engine(engine)
    try:
        return _chunks(Ready(reference), samples)
    finally:
        reference.close()


def _time(ready: Ready, samples: list[Sample], runs: int) -> np.ndarray:
    """int64[runs] nanoseconds from arrays to array."""
    infer, count = ready.runner.infer, len(samples)
    warm, until = 0, time.monotonic() + WARM_UP_S
    while warm < WARM_UP_RUNS or time.monotonic() < until:
        sample = samples[warm % count]
        infer(sample.images, sample.joint_deg, sample.noise)
        warm += 1
    took = np.zeros(runs, np.int64)
    gc.collect()
    gc.disable()
    for index in range(runs):
        sample = samples[index % count]
        started = time.perf_counter_ns()
        infer(sample.images, sample.joint_deg, sample.noise)
        took[index] = time.perf_counter_ns() - started
    gc.enable()
    return took


if __name__ == "__main__":
    raise SystemExit(main())
