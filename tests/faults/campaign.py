"""Performs every fault with many seeds, some at a time: `python -m tests.faults.campaign --seeds 20 --jobs 2`.

One line per seed that fails; in the end a table of seeds, failures, seconds, and what the monitors saw: goals decoded
on the wire, the worst step and the worst change of step of a goal, and the fastest joint, each as a share of its limit.
`--json FILE` saves it; `tests/faults/figures.json` is what edge/README.md publishes. Exit code 1 when one failed.
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
    """How it went; `trouble` is empty when all was as the row says."""

    case: Case
    seconds: float
    trouble: str
    seen: WireSummary


def perform(case: Case) -> Result:
    started_s = time.monotonic()
    trouble = ""
    seen: list[WireSummary] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            _perform(case, Path(folder), seen.append)
        except Exception:  # whatever goes wrong belongs to this seed alone
            trouble = traceback.format_exc()
    return Result(case, time.monotonic() - started_s, trouble, sum(seen, WireSummary()))


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
    parser.add_argument("--level", choices=[level.name for level in Level], help="this one only")
    parser.add_argument("--json", type=Path, help="save the figures here")
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
    rows = _by_row(results)
    print(_table(rows))
    if args.json is not None:
        args.json.write_text(json.dumps({"overall": asdict(_overall(rows)), "rows": list(map(asdict, rows))}, indent=1))
    return 1 if any(result.trouble for result in results) else 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of one row, or of all of them."""

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
    failed = sum(bool(result.trouble) for result in done)
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
