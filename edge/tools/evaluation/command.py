"""`sefa-edge eval`: measures an engine's success in the lock-step simulated world, seed by seed.

It uses the loop, chunk hand-over and limiter of `run`, with a clock that follows the physics instead of real time.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sefa_edge.edge.engines.engine import EngineOptions
from sefa_edge.edge.engines.find_engine import engine_at
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.policy.policy import Policy
from sefa_edge.edge.run.play_arguments import add_play_arguments, hand_over_of
from sefa_edge.edge.tools.evaluation.lockstep import EpisodePlayer, EpisodeResult, Settings
from sefa_edge.edge.tools.evaluation.wilson import wilson_interval
from sefa_edge.firmware_bridge.simulation.tasks import TASKS, task_named
from sefa_edge.firmware_bridge.simulation.views import SIMULATED_VIEWS
from sefa_edge.profiles.card import PolicyCard, load_card
from sefa_edge.profiles.card_check import World, arm_of, check_card, require_arm
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import check_report_argument, write_report
from sefa_edge.profiles.progress import Progress
from sefa_edge.profiles.quantities import STEPS, Real, seed_range
from sefa_edge.profiles.units import ms_to_ns

SIMULATED_ARM = "so101_sim"
"""The arm in the simulated world."""
REQUIRED = Real("a success rate", 0.0, 1.0, above_lowest=True)
"""Not 0, which every engine would reach."""
DELAY_MS = Real("a time", 0.0, 1000.0, "ms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", type=engine_at, required=True, help="model.onnx with its model.json beside it")
    parser.add_argument("--task", choices=tuple(TASKS), help="task that decides success (default: the one on the card)")
    parser.add_argument(
        "--seeds",
        type=seed_range,
        default="0:200",
        metavar="A:B",
        help="episodes A to B - 1; training uses 100000 and up",
    )
    parser.add_argument("--execute-steps", type=STEPS.parse, help="steps played of each chunk (default: the card's)")
    parser.add_argument("--delay-ms", type=DELAY_MS.parse, default=0.0, help="age of the frame when its chunk arrives")
    add_play_arguments(parser)
    parser.add_argument(
        "--blank-camera", action="store_true", help="show the policy black frames: success should collapse"
    )
    parser.add_argument(
        "--require", type=REQUIRED.parse, metavar="RATE", help="exit with 1 when the success rate is below RATE"
    )
    parser.add_argument("--json", metavar="F", help="write the results as JSON to F; - means standard output")


def main(arguments: argparse.Namespace) -> int:
    card = load_card(arguments.engine)
    check_report_argument(arguments.json)
    arm = arm_of(card)
    require_arm(card, SIMULATED_ARM)
    check_card(card, World(arm, arm.control_rate_hz, SIMULATED_VIEWS))

    settings = Settings(
        task=task_named(arguments.task or card.task).name,
        execute_steps=_execute_steps(arguments.execute_steps, card),
        delay_ns=ms_to_ns(arguments.delay_ms),
        blank_camera=arguments.blank_camera,
        hand_over=hand_over_of(arguments),
        noise=arguments.noise,
    )
    results = evaluate(arguments.engine, settings, arguments.seeds)
    report = make_report(arguments.engine, card, settings, results)
    write_report(arguments.json, json.dumps(report, indent=2) + "\n")
    if arguments.json != "-":
        low, high = report["interval_95"]
        print(
            f"{report['successes']} of {len(results)} seeds: {report['success_rate']:.1%} (95 %: {low:.1%}..{high:.1%})"
        )
    failed = arguments.require is not None and report["success_rate"] < arguments.require
    return ExitCode.FAILED if failed else ExitCode.DONE


def evaluate(engine_path: Path, settings: Settings, seeds: range) -> list[EpisodeResult]:
    """Play all seeds with one engine."""
    engine = open_engine(engine_path, EngineOptions())
    player = EpisodePlayer(Policy(engine, settings.noise), engine.card, settings)
    try:
        results: list[EpisodeResult] = []
        with Progress("evaluating", len(seeds), sys.stderr) as progress:
            for seed in seeds:
                results.append(player.play(seed))
                progress.update(len(results), f"{sum(result.success for result in results)} succeeded")
        return results
    finally:
        player.close()
        engine.close()


def make_report(engine: Path, card: PolicyCard, settings: Settings, results: list[EpisodeResult]) -> dict[str, Any]:
    """The content of the JSON report."""
    successes = sum(result.success for result in results)
    return {
        "schema_version": 1,
        "engine": engine.name,
        "engine_sha256": card.engine_sha256,
        "stage": card.provenance.stage,
        "network_calls": card.provenance.network_calls,
        "settings": asdict(settings),
        "seeds": [results[0].seed, results[-1].seed + 1],
        "successes": successes,
        "success_rate": successes / len(results),
        "interval_95": list(wilson_interval(successes, len(results))),
        "episodes": [asdict(result) for result in results],
    }


def _execute_steps(requested: int | None, card: PolicyCard) -> int:
    """Number of steps to play of each chunk. Raises InputError when a chunk has fewer."""
    if requested is None:
        return card.timing.execute_steps
    if requested > card.timing.horizon:
        raise InputError(f"--execute-steps {requested}: a chunk of this engine has {card.timing.horizon} steps")
    return requested
