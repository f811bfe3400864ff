"""Injects every fault with many seeds, several at a time: `python -m tests.faults.campaign --seeds 20 --jobs 2`.

Prints each seed that fails, then a table of runs, failures, seconds and what the monitors measured: goals decoded on
the wire, and the largest step, change of step and joint speed, each as a share of its limit.
`--json FILE` saves it; edge/README.md publishes `tests/faults/figures.json`. Exit code 1 if any seed failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults import control_rows, lock_step_rows, run_rows
from tests.faults.row import Level
from tests.faults.table import LEVELS
from tests.faults.wire_rules import WireSummary


@dataclass(frozen=True, slots=True)
class Case:
    """One row with one seed."""

    level: Level
    row: int
    seed: int

    @property
    def name(self) -> str:
        return LEVELS[self.level][self.row].name


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one case; `error` is the traceback, empty if the row's expectations held."""

    case: Case
    seconds: float
    error: str
    seen: WireSummary


def perform(case: Case) -> Result:
    started_s = time.monotonic()
    error = ""
    seen: list[WireSummary] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            _perform(case, Path(folder), seen.append)
        except Exception:  # any failure concerns this seed only
            error = traceback.format_exc()
    return Result(case, time.monotonic() - started_s, error, sum(seen, WireSummary()))


def _perform(case: Case, folder: Path, note: Callable[[WireSummary], None]) -> None:
    if case.level is Level.LOCK_STEP:
        lock_step_rows.perform(lock_step_rows.ROWS[case.row], case.seed, note)
    elif case.level is Level.CONTROL:
        control_rows.perform(control_rows.ROWS[case.row], case.seed, folder, note)
    else:
        run_rows.perform(run_rows.ROWS[case.row], case.seed, folder, note)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--level", choices=[level.name for level in Level], help="only this level")
    parser.add_argument("--json", type=Path, help="save the figures here")
    args = parser.parse_args()
    if args.seeds < 1 or args.jobs < 1:
        parser.error("--seeds and --jobs must be 1 or more: a campaign needs at least one run")
    levels = [level for level in LEVELS if args.level in (None, level.name)]
    cases = [
        Case(level, row, seed) for level in levels for row in range(len(LEVELS[level])) for seed in range(args.seeds)
    ]
    results: list[Result] = []
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for result in pool.imap_unordered(perform, cases):
            results.append(result)
            if result.error:
                print(f"\n{result.case.name}, seed {result.case.seed}:\n{result.error}", flush=True)
            failed = sum(bool(done.error) for done in results)
            print(f"\r{len(results)} of {len(cases)}, {failed} failed", end="", file=sys.stderr, flush=True)
    rows = _by_row(results)
    print(_table(rows))
    if args.json is not None:
        args.json.write_text(json.dumps({"overall": asdict(_overall(rows)), "rows": list(map(asdict, rows))}, indent=1))
    return 1 if any(result.error for result in results) else 0


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one row, or of all rows."""

    level: str
    name: str
    runs: int
    failed: int
    longest_s: float
    seen: WireSummary

    def line(self) -> str:
        seen = self.seen
        shares = "".join(f"{share:>8.1%}" for share in (seen.worst_step, seen.worst_change, seen.fastest_joint))
        counts = f"{self.runs:>6}{self.failed:>8}{self.longest_s:>9.1f}s{seen.goal_packets:>9}{seen.violations:>7}"
        return f"{self.level:<10}{self.name:<62}{counts}{shares}"


def _by_row(results: list[Result]) -> list[Figures]:
    by_row: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        by_row[result.case.level.name, result.case.name].append(result)
    return [_figures(level, name, done) for (level, name), done in by_row.items()]


def _figures(level: str, name: str, done: list[Result]) -> Figures:
    failed = sum(bool(result.error) for result in done)
    longest_s = round(max(result.seconds for result in done), 1)
    return Figures(level, name, len(done), failed, longest_s, sum((result.seen for result in done), WireSummary()))


def _overall(rows: list[Figures]) -> Figures:
    runs, failed = sum(row.runs for row in rows), sum(row.failed for row in rows)
    longest_s = max(row.longest_s for row in rows)
    return Figures(
        "ALL", f"{len(rows)} faults", runs, failed, longest_s, sum((row.seen for row in rows), WireSummary())
    )


def _table(rows: list[Figures]) -> str:
    counts = f"{'runs':>6}{'failed':>8}{'longest':>10}{'goals':>9}{'broken':>7}"
    head = f"\n{'level':<10}{'fault':<62}{counts}{'step':>8}{'change':>8}{'joint':>8}"
    return "\n".join([head, *(row.line() for row in rows), _overall(rows).line()])


if __name__ == "__main__":
    sys.exit(main())
