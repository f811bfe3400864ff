"""Performs every fault with many seeds, some at a time: `python -m tests.faults.campaign --seeds 20 --jobs 2`.

One line per seed that fails; in the end a table of seeds, failures, and seconds. Exit code 1 when one failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tests.faults import control_rows, lock_step_rows, run_rows
from tests.faults.row import Level
from tests.faults.table import LEVELS


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
    """How it went; `trouble` is empty when all was as the row says."""

    case: Case
    seconds: float
    trouble: str


def perform(case: Case) -> Result:
    started_s = time.monotonic()
    trouble = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _perform(case, Path(folder))
        except Exception:  # whatever goes wrong belongs to this seed alone
            trouble = traceback.format_exc()
    return Result(case, time.monotonic() - started_s, trouble)


def _perform(case: Case, folder: Path) -> None:
    if case.level is Level.LOCK_STEP:
        lock_step_rows.perform(lock_step_rows.ROWS[case.row], case.seed)
    elif case.level is Level.CONTROL:
        control_rows.perform(control_rows.ROWS[case.row], case.seed, folder)
    else:
        run_rows.perform(run_rows.ROWS[case.row], case.seed, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--level", choices=[level.name for level in Level], help="this one only")
    args = parser.parse_args()
    if args.seeds < 1 or args.jobs < 1:
        parser.error("--seeds and --jobs must be 1 or more: a campaign without a run proves nothing")
    levels = [level for level in LEVELS if args.level in (None, level.name)]
    cases = [
        Case(level, row, seed) for level in levels for row in range(len(LEVELS[level])) for seed in range(args.seeds)
    ]
    results: list[Result] = []
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for result in pool.imap_unordered(perform, cases):
            results.append(result)
            if result.trouble:
                print(f"\n{result.case.name}, seed {result.case.seed}:\n{result.trouble}", flush=True)
            failed = sum(bool(done.trouble) for done in results)
            print(f"\r{len(results)} of {len(cases)}, {failed} failed", end="", file=sys.stderr, flush=True)
    print(_summary(results))
    return 1 if any(result.trouble for result in results) else 0


def _summary(results: list[Result]) -> str:
    by_row: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        by_row[result.case.level.name, result.case.name].append(result)
    lines = [f"\n{'level':<10}{'fault':<62}{'seeds':>6}{'failed':>8}{'longest':>10}"]
    for (level, name), done in by_row.items():
        failed = sum(bool(result.trouble) for result in done)
        lines.append(f"{level:<10}{name:<62}{len(done):>6}{failed:>8}{max(r.seconds for r in done):>9.1f}s")
    failed = sum(bool(result.trouble) for result in results)
    lines.append(f"{len(by_row)} faults, {len(results)} runs, {failed} failed")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
