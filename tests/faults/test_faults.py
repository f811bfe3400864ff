"""Tests every row of the fault table: five seeds in lock-step, one seed with real processes.

FAULT_SEEDS=N sets the number of seeds in lock-step; `make faults` uses 20 seeds for every row. Rows that depend on the
Python version are in `EVERY_PYTHON`; the other rows with processes are marked `once`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from _pytest.mark.structures import ParameterSet

from tests.faults import control_rows, lock_step_rows, run_rows, setpoint_sources, table
from tests.faults.control_rig import Rig
from tests.faults.lock_step import Bench
from tests.faults.row import Row, StageT
from tests.faults.run_rig import RunRig

Performed = dict[str, "Future[None]"]
LOCK_STEP_SEEDS = range(int(os.environ.get("FAULT_SEEDS", "5")))
SOURCE_SEEDS = range(1, 1 + max(1, len(LOCK_STEP_SEEDS) // 5))
"""Seeds for the arms that something other than a policy moves. Seed 1 has a 50 Hz loop: half the cost of seed 0."""


EVERY_PYTHON = frozenset(
    {
        "cable pulled and put back",
        "SIGSTOP and SIGCONT of control",
        "SIGQUIT of the control process alone",
        "Ctrl-C",
        "SIGKILL of the supervisor",
        "SIGKILL of the policy",
        "SIGSTOP of control",
        "the picture is frozen",
        "the engine fails",
    }
)
"""Signals, killed processes, threads and libraries: the rows with processes that depend most on the Python version."""


def with_processes(rows: list[Row[StageT]]) -> list[ParameterSet]:
    return [pytest.param(row, id=row.name, marks=() if row.name in EVERY_PYTHON else pytest.mark.once) for row in rows]


@pytest.mark.parametrize("row", lock_step_rows.ROWS, ids=str)
def test_fault_in_lock_step(row: Row[Bench]) -> None:
    for seed in LOCK_STEP_SEEDS:
        lock_step_rows.perform(row, seed)


@pytest.mark.once
@pytest.mark.parametrize("row", setpoint_sources.ROWS, ids=str)
def test_fault_of_an_arm_led_by_a_program(row: Row[Bench]) -> None:
    for seed in SOURCE_SEEDS:
        setpoint_sources.perform(setpoint_sources.TargetsBench(seed), row)


@pytest.mark.once
@pytest.mark.parametrize(
    "row", [row for row in setpoint_sources.ROWS if row.name not in setpoint_sources.NEEDS_CHUNKS], ids=str
)
def test_fault_during_a_planned_move(row: Row[Bench]) -> None:
    for seed in SOURCE_SEEDS:
        setpoint_sources.perform(setpoint_sources.PlannedBench(seed), row)


@pytest.fixture(scope="session")
def performed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Performed]:
    """The selected rows with processes, two at a time, because they mostly wait."""
    pool = ThreadPoolExecutor(2)
    performers = {"test_fault_of_the_control_process": control_rows.perform, "test_fault_of_a_run": run_rows.perform}
    selected = [item for item in request.session.items if isinstance(item, pytest.Function)]
    yield {
        str(item.callspec.params["row"]): pool.submit(
            performers[item.originalname], item.callspec.params["row"], 0, tmp_path_factory.mktemp("fault")
        )
        for item in selected
        if item.originalname in performers
    }
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("row", with_processes(control_rows.ROWS))
def test_fault_of_the_control_process(row: Row[Rig], performed: Performed) -> None:
    performed[row.name].result()


@pytest.mark.sim
@pytest.mark.parametrize("row", with_processes(run_rows.ROWS))
def test_fault_of_a_run(row: Row[RunRig], performed: Performed) -> None:
    performed[row.name].result()


def test_the_readme_prints_these_rows() -> None:
    assert table.in_readme() == table.published(), "run: python -m tests.faults.table --write"


def test_the_readme_prints_the_figures_of_a_campaign_without_violations() -> None:
    assert table.figures_in_readme() == table.published_figures(), "run: python -m tests.faults.table --write"
    overall = json.loads(table.FIGURES.read_text())["overall"]
    assert (overall["failed"], overall["seen"]["violations"]) == (0, 0)


def test_at_least_forty_rows_have_unique_names() -> None:
    names = [row.name for rows in table.LEVELS.values() for row in rows]
    assert len(set(names)) == len(names) >= 40
    assert set(names) >= EVERY_PYTHON
