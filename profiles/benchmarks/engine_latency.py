"""Latency of our ONNX engine, compared with its alternatives. A program to run, not a module to import:

    python profiles/benchmarks/engine_latency.py out/engines/lift --checkpoint out/checkpoints/lift/sefa

Every engine of a folder is run by `open_engine(...).infer`, by plain ONNX Runtime, by OpenVINO (where installed; in
float32 and in the precision that it chooses) and, given its checkpoint, by torch, eager and compiled: in one process,
with the same inputs, in turns of random order. Other load on a shared machine then affects all of them equally, and the
result is the ratio of medians. Each takes arrays and returns one.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime
from program import run_program

from sefa_edge.edge.engines.engine import EngineOptions
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.profiles.card import PolicyCard, TensorSpec, load_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import write_report
from sefa_edge.profiles.latency.environment import describe_environment
from sefa_edge.profiles.percentiles import Percentiles, percentiles
from sefa_edge.profiles.quantities import COUNT, THREADS
from sefa_edge.profiles.units import ns_to_ms, ns_to_us

Inputs = Mapping[str, np.ndarray]
Run = Callable[[], np.ndarray]
OURS, EAGER = "ours", "torch eager"
RIVALS = ("onnxruntime", "openvino f32")
"""Those that compute the same in the same precision; ours is compared with the faster one."""
CALLS_PER_TURN = 20
WARM_UP_CALLS = 10
LOG_FATAL_ONLY = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to run an engine."""

    name: str
    threads: int
    """0: as many as the library chooses."""
    open: Callable[[], Run]


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of one subject."""

    subject: str
    threads: int
    open_ms: float
    max_difference_deg: float
    """Largest difference from our chunk for the same inputs: all compute the same function."""
    latency: Percentiles


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    results = []
    for path in _engines(options.engine):
        card = load_card(path)
        rows, refusals = _measure(_subjects(path, card, options), options.calls)
        ratios = {str(threads): _ratios(rows, threads) for threads in options.threads}
        _print(path, card, rows, refusals, ratios)
        results.append(_result(path, card, rows, refusals, ratios))
    content = {"libraries": _versions(), "environment": describe_environment().model_dump(mode="json")}
    write_report(options.json, json.dumps(content | {"engines": results}, indent=1) + "\n")
    return 0


def _engines(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(path.rglob("*.onnx"))
    if not found:
        raise InputError(f"{path} holds no engine", "give a model.onnx, or a folder of them")
    return found


def _subjects(path: Path, card: PolicyCard, options: argparse.Namespace) -> Iterator[Subject]:
    inputs = _random_inputs(card)
    yield Subject("onnxruntime, its defaults", 0, lambda: _open_onnxruntime(path, inputs, 0))
    for threads in options.threads:
        yield Subject(OURS, threads, lambda threads=threads: _open_ours(path, card, inputs, threads))
        yield Subject("onnxruntime", threads, lambda threads=threads: _open_onnxruntime(path, inputs, threads))
        if importlib.util.find_spec("openvino"):
            for name, precision in (("openvino f32", "f32"), ("openvino, its precision", None)):
                yield Subject(
                    name,
                    threads,
                    lambda threads=threads, precision=precision: _open_openvino(path, inputs, threads, precision),
                )
        if options.checkpoint is not None:
            yield Subject(
                EAGER, threads, lambda threads=threads: _open_torch(options.checkpoint, card, inputs, threads)
            )
            if options.compile:
                yield Subject(
                    "torch compiled",
                    threads,
                    lambda threads=threads: _open_torch(options.checkpoint, card, inputs, threads, "compiled"),
                )


def _random_inputs(card: PolicyCard) -> Inputs:
    rng = np.random.default_rng(0)

    def values(spec: TensorSpec) -> np.ndarray:
        if spec.dtype == "uint8":
            return rng.integers(0, 256, spec.shape, np.uint8)
        return rng.standard_normal(spec.shape, np.float32)

    return {spec.name: values(spec) for spec in (*card.image_tensors, card.joint_tensor, card.noise_tensor)}


def _open_ours(path: Path, card: PolicyCard, inputs: Inputs, threads: int) -> Run:
    engine = open_engine(path, EngineOptions(threads=threads))
    images = {camera.name: inputs[camera.tensor] for camera in card.cameras}
    joints, noise = inputs[card.joint_tensor.name], inputs[card.noise_tensor.name]
    return lambda: engine.infer(images, joints, noise)


def _open_onnxruntime(path: Path, inputs: Inputs, threads: int) -> Run:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = LOG_FATAL_ONLY
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    feed = dict(inputs)
    return lambda: np.asarray(session.run(None, feed)[0])


def _open_openvino(path: Path, inputs: Inputs, threads: int, precision: str | None) -> Run:
    openvino = importlib.import_module("openvino")  # optional, not a dependency
    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
    settings |= {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    arrays = {name: np.empty_like(array) for name, array in inputs.items()}
    for port in request.model_inputs:
        name = next(name for name in port.names if name in arrays)
        request.set_tensor(port, openvino.Tensor(arrays[name], shared_memory=True))
    result = request.get_output_tensor(0).data

    def run() -> np.ndarray:
        for name, array in arrays.items():
            array[...] = inputs[name]
        request.infer()
        return result

    return run


def _open_torch(checkpoint: Path, card: PolicyCard, inputs: Inputs, threads: int, how: str = "eager") -> Run:
    import torch

    from sefa_edge.models.checkpoint import load_checkpoint
    from sefa_edge.models.policy import EnginePolicy

    policy, _info = load_checkpoint(checkpoint)
    network = EnginePolicy(policy, card.provenance.network_calls).eval()
    call = torch.compile(network) if how == "compiled" else network
    tensors = [torch.from_numpy(array) for array in inputs.values()]

    def run() -> np.ndarray:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return call(*tensors).numpy()

    return run


def _measure(subjects: Iterator[Subject], calls: int) -> tuple[list[Row], dict[str, str]]:
    """The rows of the subjects that run, and one line for each that does not."""
    opened: list[tuple[Subject, Run, float]] = []
    refusals: dict[str, str] = {}
    for subject in subjects:
        began_ns = time.perf_counter_ns()
        try:
            run = subject.open()
            open_ms = ns_to_ms(time.perf_counter_ns() - began_ns)
            for _ in range(WARM_UP_CALLS):
                run()
        except Exception as error:  # another library may raise any exception: it is a result, not a failure
            if subject.name == OURS:
                raise
            refusals[_label(subject.name, subject.threads)] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            continue
        opened.append((subject, run, open_ms))
    samples_ns = _take_turns([run for _, run, _ in opened], calls)
    ours = next(run for subject, run, _ in opened if subject.name == OURS)().copy()
    rows = [
        Row(subject.name, subject.threads, open_ms, float(np.abs(run() - ours).max()), percentiles(samples))
        for (subject, run, open_ms), samples in zip(opened, samples_ns, strict=True)
    ]
    return rows, refusals


def _take_turns(runs: Sequence[Run], calls: int) -> np.ndarray:
    """Durations int64[len(runs), calls]; in each round, every run has a turn, in a new random order."""
    rounds = max(calls // CALLS_PER_TURN, 1)
    samples_ns = np.zeros((len(runs), rounds * CALLS_PER_TURN), np.int64)
    rng = np.random.default_rng(0)
    gc.collect()
    gc.disable()
    try:
        for start in range(0, samples_ns.shape[1], CALLS_PER_TURN):
            for index in rng.permutation(len(runs)):
                run = runs[index]
                run()  # brings its weights back into the caches
                for call in range(start, start + CALLS_PER_TURN):
                    began_ns = time.perf_counter_ns()
                    run()
                    samples_ns[index, call] = time.perf_counter_ns() - began_ns
    finally:
        gc.enable()
    return samples_ns


def _ratios(rows: list[Row], threads: int) -> dict[str, float]:
    """Ratios of medians and 99th percentiles: ours to the fastest rival, and torch to ours, with this many threads."""
    found = {row.subject: row.latency for row in rows if row.threads == threads}
    ratios = {}
    for word in ("p50", "p99"):
        of = {name: getattr(latency, f"{word}_ns") for name, latency in found.items()}
        ratios[f"ours_to_best_rival_{word}"] = of[OURS] / min(of[name] for name in RIVALS if name in of)
        if EAGER in of:
            ratios[f"torch_eager_to_ours_{word}"] = of[EAGER] / of[OURS]
    return {name: round(value, 3) for name, value in ratios.items()}


def _label(subject: str, threads: int) -> str:
    return f"{subject}, {threads} thread{'s' if threads > 1 else ''}" if threads else subject


def _print(
    path: Path, card: PolicyCard, rows: list[Row], refusals: dict[str, str], ratios: dict[str, dict[str, float]]
) -> None:
    print(f"{path}: {card.name}, {card.precision}, {card.provenance.network_calls} network call(s); µs")
    print(f"{'':34}{'p50':>10}{'p99':>10}{'p99.9':>10}{'open ms':>10}{'differs by':>12}")
    for row in rows:
        found = row.latency
        numbers = "".join(f"{ns_to_us(value):10.0f}" for value in (found.p50_ns, found.p99_ns, found.p999_ns))
        label = _label(row.subject, row.threads)
        print(f"  {label:32}{numbers}{row.open_ms:10.0f}{row.max_difference_deg:12.2g}")
    for label, reason in refusals.items():
        print(f"  {label:32}{reason}")
    for threads, values in ratios.items():
        print(
            f"  {threads} thread(s): " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()), flush=True
        )


def _result(
    path: Path, card: PolicyCard, rows: list[Row], refusals: dict[str, str], ratios: dict[str, dict[str, float]]
) -> dict[str, object]:
    return {
        "engine": path.name,
        "name": card.name,
        "precision": card.precision,
        "network_calls": card.provenance.network_calls,
        "engine_sha256": card.engine_sha256,
        "file_bytes": path.stat().st_size,
        "rows": [asdict(row) for row in rows],
        "refusals": refusals,
        "ratios_by_threads": ratios,
    }


def _versions() -> dict[str, str]:
    found = (name for name in ("onnxruntime", "openvino", "torch", "numpy") if importlib.util.find_spec(name))
    return {name: metadata.version(name) for name in found}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Latency of our ONNX engine, compared with its alternatives")
    parser.add_argument("engine", type=Path, help="a model.onnx with its card beside it, or a folder of them")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="what the engines were exported from, for torch")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile as well; needs a C++ compiler, takes minutes"
    )
    parser.add_argument(
        "--threads", type=THREADS.parse, nargs="+", default=[1, 2], help="numbers of threads to compare on"
    )
    parser.add_argument("--calls", type=COUNT.parse, default=2000, help="measured calls of each")
    parser.add_argument("--json", metavar="FILE", help="also write everything as JSON; - is standard output")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_program(main)
