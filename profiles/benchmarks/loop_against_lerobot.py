"""Timing of our control loop compared with LeRobot's, under the same load. A program to run, not a module to import:

    python profiles/benchmarks/loop_against_lerobot.py --seconds 30 --json out/loop_against_lerobot.json

In turns, on this machine: `sefa-edge bench-loop`, and a loop built like that of LeRobot 0.4.4
(described in profiles/benchmarks/lerobot_loop.py). Both read the same stream of 640x480 JPEGs, read and
command the same simulated servos in every tick, and run the same engine equally often. With `--lerobot
FOLDER` a further loop uses LeRobot's own camera and sleep. Our loop also runs without privileges and without
spinning, like LeRobot's.

Two measures. Lateness: how long after its due time a tick began. Ours is due on a fixed grid; LeRobot's is due
one period after the last tick, so that earlier delays do not count. Period error: how much the time between two
ticks differs from the period, the same for both. Ratios are theirs to ours, the median of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from statistics import median

import numpy as np
from program import run_program

from sefa_edge.edge.tools.bench_loop.servos import simulated_servos
from sefa_edge.profiles.errors import FaultError, InputError
from sefa_edge.profiles.files import check_report_argument, write_report
from sefa_edge.profiles.latency.environment import describe_environment
from sefa_edge.profiles.page.axes import format_duration
from sefa_edge.profiles.percentiles import Percentiles, percentiles
from sefa_edge.profiles.quantities import CONTROL_RATE_HZ, COUNT, SECONDS
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM
from sefa_edge.profiles.units import NS_PER_S, period_ns

FOLDER = Path(__file__).resolve().parent
COLUMNS = ("p50_ns", "p99_ns", "p999_ns", "max_ns")
OURS, OURS_PLAIN = "sefa-edge", "sefa-edge, no priority, no spin"
THEIRS, THEIRS_OWN = "LeRobot's loop, rebuilt", "the same, camera and sleep its own"
PLAIN_WORDS = ("--realtime-priority", "0", "--spin-us", "0")
TARGET_RATIO = 10.0
END_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Round:
    """The measurements of one loop in one turn."""

    subject: str
    rate_hz: float
    inferences: int
    lateness: Percentiles
    period_error: Percentiles


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings that all loops share."""

    seconds: float
    rate_hz: float
    camera: str
    engine: Path


def main(arguments: Sequence[str]) -> int:
    args = _parse(arguments)
    check_report_argument(args.json)
    rounds: list[Round] = []
    with _picture_stream() as camera:
        setting = Setting(args.seconds, args.rate, camera, args.engine)
        subjects: dict[str, Callable[[], Round]] = {
            OURS: lambda: _run_ours(OURS, setting, ()),
            OURS_PLAIN: lambda: _run_ours(OURS_PLAIN, setting, PLAIN_WORDS),
            THEIRS: lambda: _run_theirs(THEIRS, setting, None),
        }
        if args.lerobot is not None:
            subjects[THEIRS_OWN] = lambda: _run_theirs(THEIRS_OWN, setting, args.lerobot)
        for number in range(args.rounds):
            for subject, run in subjects.items():
                print(f"round {number + 1} of {args.rounds}: {subject}", file=sys.stderr, flush=True)
                rounds.append(run())
    ratios = {subject: _ratios(rounds, subject) for subject in subjects if subject in (THEIRS, THEIRS_OWN)}
    write_report(args.json, _as_json(rounds, ratios, setting))
    print("\n".join(_table(rounds, ratios)), file=sys.stderr if args.json == "-" else sys.stdout)
    return 0 if all(found["lateness"]["p99"] >= TARGET_RATIO for found in ratios.values()) else 1


def _run_ours(subject: str, setting: Setting, words: Sequence[str]) -> Round:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "sefa_edge", "bench-loop", "--seconds", str(setting.seconds)]
        command += ["--rate", str(setting.rate_hz), "--camera", setting.camera, "--engine", str(setting.engine)]
        _run_checked([*command, *words, "--json", str(report)], setting.seconds, allowed=(0, 1))
        content = json.loads(report.read_text())
    found = [_percentiles_in(content[key]) for key in ("lateness", "period_error")]
    return Round(subject, content["rate_hz"], content["beside"]["chunks"], *found)


def _run_theirs(subject: str, setting: Setting, lerobot: Path | None) -> Round:
    cores = frozenset(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, simulated_servos(SIMULATED_ARM, cores) as port:
        report = Path(folder) / "loop.json"
        command = [sys.executable, str(FOLDER / "lerobot_loop.py"), "--port", str(port), "--camera", setting.camera]
        command += ["--engine", str(setting.engine), "--rate", str(setting.rate_hz)]
        command += ["--lerobot", str(lerobot)] if lerobot else []
        _run_checked(
            [*command, "--seconds", str(setting.seconds), "--json", str(report)], setting.seconds, allowed=(0,)
        )
        content = json.loads(report.read_text())
    begun_ns = np.array(content["begun_ns"], np.int64)
    intervals_ns, wanted_ns = np.diff(begun_ns), period_ns(setting.rate_hz)
    return Round(
        subject,
        len(intervals_ns) * NS_PER_S / int(begun_ns[-1] - begun_ns[0]),
        content["inferences"],
        percentiles(np.maximum(intervals_ns - wanted_ns, 0)),
        percentiles(np.abs(intervals_ns - wanted_ns)),
    )


def _run_checked(command: list[str], seconds: float, allowed: tuple[int, ...]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + END_TIMEOUT_S, check=False)
    if done.returncode not in allowed:
        raise FaultError(f"{' '.join(command[1:4])} ended with {done.returncode}", done.stderr[-400:])


@contextlib.contextmanager
def _picture_stream() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, str(FOLDER / "picture_stream.py")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise FaultError("the picture stream does not start", "run it by hand")
        yield address
    finally:
        process.kill()
        process.communicate()


def _percentiles_in(stage: dict[str, float]) -> Percentiles:
    fields = ("count", "mean_ns", "min_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")
    return Percentiles(**{field: stage[field] for field in fields})  # pyright: ignore[reportArgumentType]


def _ratios(rounds: list[Round], subject: str) -> dict[str, dict[str, float]]:
    """Theirs to ours, median of the rounds, by measure and percentile."""
    pairs = list(zip(_of(rounds, subject), _of(rounds, OURS), strict=True))
    return {
        measure: {
            column.removesuffix("_ns"): median(
                getattr(getattr(theirs, measure), column) / max(getattr(getattr(ours, measure), column), 1)
                for theirs, ours in pairs
            )
            for column in COLUMNS
        }
        for measure in ("lateness", "period_error")
    }


def _of(rounds: list[Round], subject: str) -> list[Round]:
    return [turn for turn in rounds if turn.subject == subject]


def _table(rounds: list[Round], ratios: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    for measure in ("lateness", "period_error"):
        header = "".join(f"{head:>10}" for head in ("p50", "p99", "p99.9", "max"))
        yield f"{measure.replace('_', ' '):48}{header}{'rate':>12}{'inferences':>12}"
        for turn in rounds:
            numbers = "".join(f"{format_duration(getattr(getattr(turn, measure), column)):>10}" for column in COLUMNS)
            yield f"{turn.subject:48}{numbers}{turn.rate_hz:9.3f} Hz{turn.inferences:12}"
        for subject, found in ratios.items():
            numbers = "".join(f"{f'{ratio:.3g} x':>10}" for ratio in found[measure].values())
            yield f"{f'{subject} to ours':48}{numbers}"


def _as_json(rounds: list[Round], ratios: dict[str, dict[str, dict[str, float]]], setting: Setting) -> str:
    content = {
        "schema_version": 1,
        "rate_hz": setting.rate_hz,
        "seconds": setting.seconds,
        "engine": setting.engine.name,
        "rounds": [asdict(turn) for turn in rounds],
        "theirs_to_ours": ratios,
        "environment": describe_environment().model_dump(mode="json"),
    }
    return json.dumps(content, indent=1) + "\n"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    shipped = Path(str(resources.files("sefa_edge.edge") / "shipped" / "lift" / "model.onnx"))
    parser = argparse.ArgumentParser(description="Timing of our control loop and LeRobot's, under the same load")
    parser.add_argument("--seconds", type=SECONDS.parse, default=30.0, metavar="S", help="per loop and round")
    parser.add_argument("--rounds", type=COUNT.parse, default=1, metavar="N", help="turns of each loop")
    parser.add_argument(
        "--rate", type=CONTROL_RATE_HZ.parse, default=30.0, metavar="HZ", help="rate of every loop; LeRobot's is 30"
    )
    parser.add_argument("--engine", type=Path, default=shipped, metavar="E", help="engine that infers")
    parser.add_argument("--lerobot", type=Path, metavar="FOLDER", help="where LeRobot 0.4.4 is installed")
    parser.add_argument("--json", metavar="F", help="also write everything as JSON")
    args = parser.parse_args(arguments)
    if args.seconds < 1 or args.rounds < 1 or not 20 <= args.rate <= 500:
        raise InputError("--seconds and --rounds must be 1 or more, --rate 20 to 500")
    return args


if __name__ == "__main__":
    run_program(main)
