"""Success of two engines in the simulated world, seed by seed: `sefa-edge eval` runs as a program, once for both."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.export.gate import LostSuccess
from sefa_edge.export.program import error_message, sefa_edge_command
from sefa_edge.profiles.card import ClosedLoop
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.exit_codes import ExitCode

REFUSED = (2, 4)
"""Exit codes of an evaluation that is impossible here: no such task, or no simulator."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one engine: success per seed."""

    task: str
    success: dict[int, bool]
    interval_95: tuple[float, float]


class CannotEvaluate(SefaError):
    """This policy cannot be evaluated in the simulated world; says why."""


def evaluate_both(reference: Path, candidate: Path, seeds: str) -> tuple[ClosedLoop, LostSuccess]:
    """Evaluate both engines on the seeds `A:B`.

    Raises:
        CannotEvaluate: the simulated world has no such task, or is not installed.
        SefaError: the evaluation failed.
    """
    with ExitStack() as stack:
        running = [stack.enter_context(_start(engine, seeds)) for engine in (reference, candidate)]
        try:
            of_reference, of_candidate = (_finish(process) for process in running)
        except BaseException:
            for process in running:
                process.kill()
            raise
    both = sorted(of_candidate.success)
    if not both or both != sorted(of_reference.success):
        raise SefaError("`sefa-edge eval` used different seeds for the two engines", "", ExitCode.FAILED)
    closed_loop = ClosedLoop(
        task=of_candidate.task,
        first_seed=both[0],
        last_seed=both[-1],
        successes=sum(of_candidate.success.values()),
        reference_successes=sum(of_reference.success.values()),
        interval_95=of_candidate.interval_95,
    )
    only = [(of_reference.success[seed], of_candidate.success[seed]) for seed in both]
    return closed_loop, LostSuccess(len(both), only.count((True, False)), only.count((False, True)))


def _start(engine: Path, seeds: str) -> subprocess.Popen[str]:
    command = sefa_edge_command("eval", "--engine", engine, "--seeds", seeds, "--json", "-")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> Evaluation:
    output, errors = process.communicate()
    if process.returncode in REFUSED:
        raise CannotEvaluate(error_message(errors) or "sefa-edge eval refused")
    if process.returncode != 0:
        raise SefaError("`sefa-edge eval` failed", error_message(errors), ExitCode.FAILED)
    return _parse(output)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"success is {value!r}")
    return value


def _parse(output: str) -> Evaluation:
    try:
        report = json.loads(output)
        success = {int(episode["seed"]): _boolean(episode["success"]) for episode in report["episodes"]}
        low, high = report["interval_95"]
        return Evaluation(str(report["settings"]["task"]), success, (float(low), float(high)))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"`sefa-edge eval` wrote no report: {error}", "run it by hand to see its messages") from None
