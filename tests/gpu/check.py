"""Check correctness and speed of every back end on every engine of a folder, in one JSON file. See README.md.

Exit codes: 0 done; 1 an available back end failed or exceeds the error budget; 2 wrong use; 4 no GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from contenders import CONTENDERS
from gpu_report import (
    EngineFacts,
    GpuFacts,
    GpuReport,
    Outcome,
    driver_version,
    library_versions,
    save_gpu_report,
)
from measure_one import SEED

from sefa_edge.profiles.card import PolicyCard, card_path, load_card
from sefa_edge.profiles.errors import InputError, MissingError, SefaError
from sefa_edge.profiles.files import writable
from sefa_edge.profiles.gpu import Gpu, search_gpu
from sefa_edge.profiles.latency.environment import describe_environment
from sefa_edge.profiles.recording.dataset import open_dataset
from sefa_edge.profiles.strict import parse_json

CONTENDER_SECONDS = 240
MIN_RUNS = 1000
STDERR_LETTERS = 400
ONE = Path(__file__).with_name("measure_one.py")


@dataclass(frozen=True, slots=True)
class Pass:
    """What all outcomes of one report have in common."""

    runs: int
    checkpoint: Path | None
    dataset: Path | None
    reference: Path | None
    work: Path
    no_gpu: str
    """Why there is no GPU; empty when there is one."""
    until_s: float
    """On the clock of time.monotonic: no measurement starts after this."""


def main() -> int:
    try:
        return check(_parse())
    except SefaError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code


def check(arguments: argparse.Namespace) -> int:
    """Measure, print a line for each, write the report, return the exit code. Raises SefaError before any work."""
    began_s = time.monotonic()
    search = search_gpu()
    if search.gpu is None and not arguments.allow_no_gpu:
        raise MissingError(f"no NVIDIA GPU: {search.reason}", "--allow-no-gpu runs the back ends that need none")
    if arguments.runs < MIN_RUNS:
        raise InputError(f"{arguments.runs} runs are too few for a p99.9", f"--runs {MIN_RUNS} or more")
    writable(arguments.json)
    engines = find_engines(arguments.engines)
    dataset = open_dataset(arguments.dataset) if arguments.dataset else None
    if arguments.reference:
        load_card(arguments.reference)
    with tempfile.TemporaryDirectory(prefix="sefa-gpu-") as work:
        until_s = began_s + arguments.limit_s
        given = (arguments.checkpoint, arguments.dataset, arguments.reference)
        pass_ = Pass(arguments.runs, *given, Path(work), search.reason, until_s)
        names = arguments.only or CONTENDERS
        outcomes = [_printed(measure(name, engine, pass_)) for engine in engines for name in names]
    report = GpuReport(
        schema_version=1,
        gpu=_gpu_facts(search.gpu) if search.gpu else None,
        environment=describe_environment(),
        libraries=library_versions(),
        engines=[_engine_facts(engine) for engine in engines],
        seed=SEED,
        dataset_sha256=dataset.fingerprint() if dataset else None,
        reference=arguments.reference.name if arguments.reference else None,
        seconds=round(time.monotonic() - began_s, 1),
        outcomes=outcomes,
        passed=not any(outcome.is_failure for outcome in outcomes),
    )
    save_gpu_report(report, arguments.json)
    print(f"{arguments.json}: {'passed' if report.passed else 'FAILED'}, {report.seconds:.0f} s")
    return 0 if report.passed else 1


def find_engines(folder: Path) -> list[Path]:
    """The ONNX engines of a folder that have a card. Raises InputError when there are none."""
    found = [path for path in sorted(folder.glob("*.onnx")) if card_path(path).is_file()]
    if not found:
        raise InputError(f"{folder} holds no engine with its card", "give a folder that `sefa-edge export` wrote")
    for path in found:
        load_card(path)
    return found


def measure(name: str, engine: Path, pass_: Pass) -> Outcome:
    """One contender on one engine, in a separate process; includes the reason if it cannot be measured."""
    card = load_card(engine)
    contender = CONTENDERS[name]
    reason = ""
    if contender.needs_gpu and pass_.no_gpu:
        reason = f"no NVIDIA GPU: {pass_.no_gpu}"
    elif contender.runs_network and card.precision != "fp32":
        reason = "the network computes in fp32, and is compared with fp32 engines"
    elif time.monotonic() > pass_.until_s:
        reason = "the time for the whole pass was used up"
    if reason:
        return _without(name, card, "absent", reason)
    return _run(name, engine, card, pass_)


def _run(name: str, engine: Path, card: PolicyCard, pass_: Pass) -> Outcome:
    outcome = pass_.work / "outcome.json"
    outcome.unlink(missing_ok=True)
    command = [sys.executable, str(ONE), "--contender", name, "--engine", str(engine), "--work", str(pass_.work)]
    command += ["--runs", str(pass_.runs), "--outcome", str(outcome)]
    for option in ("checkpoint", "dataset", "reference"):
        if (path := getattr(pass_, option)) is not None:
            command += [f"--{option}", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONTENDER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return _without(name, card, "failed", f"took longer than {CONTENDER_SECONDS} s")
    if not outcome.exists():
        errors = " ".join(done.stderr.split())[-STDERR_LETTERS:]
        return _without(
            name, card, "failed", f"its process ended with {done.returncode}: {errors or 'no error output'}"
        )
    notes = [line.removeprefix("note: ") for line in done.stderr.splitlines() if line.startswith("note: ")]
    checked = parse_json(outcome, Outcome)
    return checked.model_copy(update={"notes": [*checked.notes, *notes]})


def _without(name: str, card: PolicyCard, status: str, reason: str) -> Outcome:
    content = {"contender": name, "engine": card.engine_file, "precision": card.precision}
    return Outcome.model_validate({**content, "status": status, "reason": reason})


def _printed(outcome: Outcome) -> Outcome:
    subject = f"{outcome.engine:<18} {outcome.contender:<20}"
    if outcome.error is None or outcome.latency is None:
        print(f"{subject} {outcome.status}: {outcome.reason}", flush=True)
        return outcome
    error, latency = outcome.error, outcome.latency
    verdict = "" if error.is_within_budget else f"  OUTSIDE the budget of {error.budget_p99_deg} deg"
    device = f" (device {latency.device_p50_ms:.3f})" if latency.device_p50_ms is not None else ""
    times = f"p50 {latency.p50_ms:.3f}{device} p99 {latency.p99_ms:.3f} p99.9 {latency.p999_ms:.3f} ms"
    print(f"{subject} {times}; error p99 {error.p99_deg:.2g} max {error.max_deg:.2g} deg{verdict}", flush=True)
    return outcome


def _gpu_facts(gpu: Gpu) -> GpuFacts:
    return GpuFacts(
        name=gpu.name,
        compute_capability=gpu.compute_capability,
        is_integrated=gpu.is_integrated,
        memory_mib=gpu.memory_mib,
        driver_version=driver_version(),
        cuda_version=gpu.cuda_version,
    )


def _engine_facts(engine: Path) -> EngineFacts:
    card = load_card(engine)
    return EngineFacts(file=engine.name, sha256=card.engine_sha256, policy=card.name, precision=card.precision)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("engines", type=Path, metavar="FOLDER", help="folder that `sefa-edge export` wrote")
    parser.add_argument("--json", type=Path, required=True, metavar="F", help="the report to write")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="checkpoint of these engines, for torch")
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="recordings to take the inputs from")
    parser.add_argument("--reference", type=Path, metavar="ENGINE", help="compare with this one's chunks on the CPU")
    parser.add_argument("--only", nargs="+", choices=tuple(CONTENDERS), metavar="NAME", help="only these back ends")
    parser.add_argument("--runs", type=int, default=2000, help="timed runs of each, 1000 or more")
    parser.add_argument("--limit-s", type=float, default=330, help="start no measurement after this many seconds")
    parser.add_argument("--allow-no-gpu", action="store_true", help="without a GPU, run the back ends that need none")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
