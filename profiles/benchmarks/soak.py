"""Growth of a long run: memory, file descriptors, threads. A program to run, not a module to import:

    python profiles/benchmarks/soak.py --minutes 60 --json out/soak.json

Runs `sefa-edge run` with the shipped engine on servos behind a pseudo-terminal and a folder of 640 x 480 JPEGs as
camera, and measures every process every 10 seconds: resident memory, file descriptors, threads. After the first quarter
(allocators fill up: the policy grows by 1 MB in its first thousand chunks, then stops) a line is fitted through each.
Exit code 1 if a process grows by more than the limit, if it has more descriptors or threads at the end than before, or
if a record was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from program import keep, run_program
from simulated_unit import (
    ENGINE,
    OVERLOADED,
    Footprint,
    error_in,
    footprint,
    resident_once_kb,
    runtime_processes,
    simulated_unit,
)

from sefa_edge.profiles.errors import FaultError
from sefa_edge.profiles.quantities import SECONDS

KB = 1024 / 1e6
"""The kernel's kB (1024 bytes) in MB of a million bytes."""
PERIOD_S = 10.0
GROWTH_LIMIT_KB_H = 1000.0
"""Fitted growth per process and hour that counts as none: a thousandth of the runtime, or 24 MB a day."""
SETTLING_SHARE = 0.25
FEWEST_SAMPLES = 12
"""A line through fewer samples proves nothing."""
END_PATIENCE_S = 60.0
KEPT_SAMPLES = 20
"""Number of samples written to the JSON."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The footprints of all processes at one time."""

    at_s: float
    processes: list[Footprint]


@dataclass(frozen=True, slots=True)
class Trend:
    """One process over the run. Growth per hour with the standard error of the fit; counts at the start and end."""

    name: str
    rss_mb: float
    pss_mb: float
    own_growth_kb_h: float
    own_error_kb_h: float
    descriptors: tuple[int, int]
    threads: tuple[int, int]

    @property
    def grows(self) -> bool:
        significant = self.own_growth_kb_h - 2 * self.own_error_kb_h
        more = self.descriptors[1] > self.descriptors[0] or self.threads[1] > self.threads[0]
        return significant > GROWTH_LIMIT_KB_H or more


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    samples, summary = _soak(options.engine, options.minutes * 60)
    settled = [sample for sample in samples if sample.at_s >= SETTLING_SHARE * samples[-1].at_s]
    if len(settled) < FEWEST_SAMPLES:
        raise FaultError(f"only {len(settled)} samples of a settled run", "soak longer: --minutes 3 at least")
    _require_same_processes(settled)
    trends = _trends(settled)
    losses = _losses(summary)
    _print(samples, trends, losses, summary)
    passed = not any(trend.grows for trend in trends) and not any(losses.values())
    keep(options.json, _content(samples, trends, losses, summary))
    print("no growth, nothing lost" if passed else "FAILED")
    return 0 if passed else 1


def _soak(engine: Path, seconds: float) -> tuple[list[Sample], dict[str, object]]:
    """The samples of a run of `seconds`, and the summary that it wrote."""
    with simulated_unit() as unit, tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder) / "run.json", Path(folder) / "log"
        with log.open("wb") as output:
            command = unit.run_command(engine, "--seconds", str(seconds), "--json", str(report))
            run = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            unit.wait_for_torque()
            samples = _samples(run, seconds)
            code = run.wait(END_PATIENCE_S)  # it parks
        finally:
            run.terminate()
            run.wait()
        if code:
            raise FaultError(f"the run ended with exit code {code}: {error_in(log.read_text())}", OVERLOADED)
        return samples, json.loads(report.read_text())


def _samples(run: subprocess.Popen[bytes], seconds: float) -> list[Sample]:
    samples: list[Sample] = []
    began_s = time.monotonic()
    while (at_s := time.monotonic() - began_s) < seconds and run.poll() is None:
        with contextlib.suppress(OSError):  # a process that ended while it was being measured also ends the run
            samples.append(Sample(at_s, [footprint(pid) for pid in runtime_processes(run.pid)]))
        time.sleep(max(0.0, began_s + (len(samples) + 1) * PERIOD_S - time.monotonic()))
    return samples


def _require_same_processes(samples: Sequence[Sample]) -> None:
    """A process that was replaced starts with little memory, which would hide growth. Raises FaultError."""
    seen = {frozenset(process.pid for process in sample.processes) for sample in samples}
    if len(seen) != 1 or not next(iter(seen)):
        raise FaultError("the run was not made of the same processes throughout", "see the log of the run")


def _trends(samples: Sequence[Sample]) -> list[Trend]:
    by_process: dict[str, list[tuple[float, Footprint]]] = defaultdict(list)
    for sample in samples:
        for process in sample.processes:
            by_process[f"{process.name} {process.pid}"].append((sample.at_s, process))
    return [_trend(seen) for seen in by_process.values()]


def _trend(seen: Sequence[tuple[float, Footprint]]) -> Trend:
    hours = np.array([at_s / 3600 for at_s, _ in seen])
    growth, error = _slope(hours, np.array([process.anonymous_kb for _, process in seen], np.float64))
    first, last = seen[0][1], seen[-1][1]
    return Trend(
        name=last.name,
        rss_mb=last.rss_kb * KB,
        pss_mb=last.pss_kb * KB,
        own_growth_kb_h=growth,
        own_error_kb_h=error,
        descriptors=(first.descriptors, last.descriptors),
        threads=(first.threads, last.threads),
    )


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line and its standard error."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    if len(x) < 3 or spread == 0:
        return 0.0, 0.0
    slope = float(centred @ y) / spread
    left = y - y.mean() - slope * centred
    return slope, float(np.sqrt(left @ left / (len(x) - 2) / spread))


def _losses(summary: dict[str, object]) -> dict[str, int]:
    loop = summary["loop"]
    assert isinstance(loop, dict)
    return {"lost_reports": int(loop["lost_reports"]), "dropped_records": int(loop["dropped_records"])}


def _print(
    samples: Sequence[Sample], trends: Sequence[Trend], losses: dict[str, int], summary: dict[str, object]
) -> None:
    print(f"{len(samples)} samples in {samples[-1].at_s / 60:.1f} minutes")
    print(f"{'process':14}{'RSS MB':>9}{'PSS MB':>9}{'kB/h':>9}{'+-':>7}{'files':>12}{'threads':>12}")
    for trend in trends:
        counts = "".join(f"{f'{before} -> {after}':>12}" for before, after in (trend.descriptors, trend.threads))
        growth = f"{trend.own_growth_kb_h:9.0f}{trend.own_error_kb_h:7.0f}"
        print(f"{trend.name:14}{trend.rss_mb:9.1f}{trend.pss_mb:9.1f}{growth}{counts}{'  GROWS' * trend.grows}")
    print(f"resident, shared once: {resident_once_kb(samples[-1].processes) * KB:.1f} MB")
    print(f"lost: {losses}; loop: {summary['loop']}")


def _content(
    samples: Sequence[Sample], trends: Sequence[Trend], losses: dict[str, int], summary: dict[str, object]
) -> dict[str, object]:
    return {
        "samples": [
            {"at_s": round(s.at_s, 2), "processes": [process.as_row() for process in s.processes]}
            for s in samples[:: -(-len(samples) // KEPT_SAMPLES)]
        ],
        "trends": [asdict(trend) | {"grows": trend.grows} for trend in trends],
        "losses": losses,
        "summary": summary,
    }


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Growth of a long run: memory, file descriptors, threads")
    parser.add_argument("--minutes", type=SECONDS.parse, default=60.0, help="length of the run")
    parser.add_argument("--engine", type=Path, default=ENGINE, metavar="E", help="model.onnx, its card beside it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_program(main)
