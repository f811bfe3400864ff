"""Start time and memory of a run. A program to run, not a module to import:

    python profiles/benchmarks/runtime_start.py --repeats 10 --json out/runtime_start.json

Runs `sefa-edge run` on servos that are already running behind a pseudo-terminal, with a folder of 640 x 480 JPEGs as
camera. The start is timed from just before the process is created until the servos receive torque on; the time that
the run itself reports is also printed. The memory is that of supervisor, camera, policy and control while the arm
moves. Exit code 1 if a median or the memory is over its limit. A busy machine is slower, so its load is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from program import keep, run_program
from simulated_unit import (
    ENGINE,
    OVERLOADED,
    Footprint,
    Unit,
    error_in,
    footprint,
    resident_once_kb,
    runtime_processes,
    simulated_unit,
)

from sefa_edge.edge.ipc.process import LEAN
from sefa_edge.profiles.errors import FaultError
from sefa_edge.profiles.quantities import COUNT
from sefa_edge.profiles.units import NS_PER_S

KB = 1024 / 1e6
"""The kernel's kB (1024 bytes) in MB of a million bytes."""
START_LIMIT_S, IMPORT_LIMIT_S, MEMORY_LIMIT_MB = 1.0, 0.25, 200.0
MOVING_S = 2.0
"""Time from the first command to the memory measurement: the arm moves, the engine has run."""
MODULES = {
    "supervisor": "sefa_edge.edge.run.supervisor",
    "camera": "sefa_edge.edge.cameras.camera_process",
    "policy": "sefa_edge.edge.policy.policy_process",
    "control": "sefa_edge.edge.control.control_process",
}
IMPORT = "import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds until the servos received torque on, what the run reported, and the machine's load before.

    `fault`: why the run ended early, if it did; a busy machine may not keep the loop's rate.
    """

    seen_s: float
    told_s: float
    load: float
    fault: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measured value and its limit."""

    subject: str
    unit: str
    median: float
    worst: float
    limit: float

    @property
    def kept(self) -> bool:
        return self.median <= self.limit


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    imports = {name: [_import_s(module) for _ in range(options.repeats)] for name, module in MODULES.items()}
    with simulated_unit() as unit:
        starts, footprints = _starts(unit, options.engine, options.repeats)
    verdicts = [
        Verdict("start to first command", "s", *_median_and_worst([start.seen_s for start in starts]), START_LIMIT_S),
        *(Verdict(f"import {name}", "s", *_median_and_worst(s), IMPORT_LIMIT_S) for name, s in imports.items()),
        Verdict(
            "resident, shared once", "MB", *_median_and_worst([resident_once_kb(footprints) * KB]), MEMORY_LIMIT_MB
        ),
    ]
    _print(starts, footprints, verdicts)
    keep(options.json, _content(starts, footprints, verdicts))
    return 0 if all(verdict.kept for verdict in verdicts) else 1


def _import_s(module: str) -> float:
    """Duration of a child's import, s, in a separate interpreter."""
    program = IMPORT.format(module=module)
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | LEAN, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _starts(unit: Unit, engine: Path, repeats: int) -> tuple[list[Start], list[Footprint]]:
    starts: list[Start] = []
    footprints: list[Footprint] = []
    for _ in range(repeats):
        load, began_ns = os.getloadavg()[0], time.monotonic_ns()
        command = unit.run_command(engine, "--seconds", str(MOVING_S), "--json", "-")
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        seen_s = (unit.wait_for_torque() - began_ns) / NS_PER_S
        time.sleep(MOVING_S)
        with contextlib.suppress(OSError):  # a run that ended early, as on a busy machine, still started
            measured = [footprint(pid) for pid in runtime_processes(run.pid)]
            footprints = measured if len(measured) == len(MODULES) else footprints
        report, errors = run.communicate()
        starts.append(Start(seen_s, json.loads(report)["start_to_first_command_s"], load, error_in(errors)))
    if not footprints:
        raise FaultError(f"no run lasted {MOVING_S:g} s: {starts[-1].fault}", OVERLOADED)
    return starts, footprints


def _median_and_worst(values: Sequence[float]) -> tuple[float, float]:
    return round(statistics.median(values), 4), round(max(values), 4)


def _print(starts: Sequence[Start], footprints: Sequence[Footprint], verdicts: Sequence[Verdict]) -> None:
    print(f"{'start':>8}{'seen s':>10}{'reported s':>12}{'load':>8}")
    for number, start in enumerate(starts, 1):
        print(f"{number:8}{start.seen_s:10.3f}{start.told_s:12.3f}{start.load:8.2f}  {start.fault}")
    print(f"\n{'process':14}{'RSS MB':>9}{'PSS MB':>9}{'own MB':>9}{'files':>7}{'threads':>9}")
    for process in footprints:
        sizes = (process.rss_kb, process.pss_kb, process.anonymous_kb)
        columns = "".join(f"{size * KB:9.1f}" for size in sizes)
        print(f"{process.name:14}{columns}{process.descriptors:7}{process.threads:9}")
    rss_kb, pss_kb = sum(p.rss_kb for p in footprints), sum(p.pss_kb for p in footprints)
    print(f"{'sum':14}{rss_kb * KB:9.1f}{pss_kb * KB:9.1f}")
    print(f"\n{'':26}{'median':>9}{'worst':>9}{'limit':>9}{'of limit':>10}")
    for verdict in verdicts:
        numbers = f"{verdict.median:9.3f}{verdict.worst:9.3f}{verdict.limit:9.2f}{verdict.median / verdict.limit:10.0%}"
        print(f"{verdict.subject:26}{numbers} {'' if verdict.kept else 'OVER'}")


def _content(
    starts: Sequence[Start], footprints: Sequence[Footprint], verdicts: Sequence[Verdict]
) -> dict[str, object]:
    return {
        "starts": [asdict(start) for start in starts],
        "processes": [process.as_row() for process in footprints],
        "verdicts": [asdict(verdict) | {"kept": verdict.kept} for verdict in verdicts],
    }


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Start time and memory of a run")
    parser.add_argument("--repeats", type=COUNT.parse, default=5, help="starts, and imports of every module")
    parser.add_argument("--engine", type=Path, default=ENGINE, metavar="E", help="model.onnx, its card beside it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_program(main)
