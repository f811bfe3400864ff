"""How long a run lasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sefa_edge.cli import CommandLine
from sefa_edge.edge.run import command
from sefa_edge.edge.run.run_plan import REAL_EPISODE_S, REAL_TOTAL_S, SIMULATED_EPISODES, Schedule, make_plan

REAL = ("--arm", "so101", "--port", "/dev/null", "--camera", "test")


def schedule(engine: Path, *arguments: str) -> Schedule:
    parser = CommandLine()
    command.add_arguments(parser)
    return make_plan(parser.parse_args(["--engine", str(engine), *arguments])).schedule


@pytest.mark.parametrize(
    ("arguments", "episodes", "episode_s", "total_s"),
    [
        ((), None, None, REAL_TOTAL_S),
        (("--seconds", "5000"), None, None, 5000.0),
        (("--episode-seconds", "10"), None, 10.0, REAL_TOTAL_S),
        (("--episodes", "3"), 3, REAL_EPISODE_S, None),
        (("--episodes", "3", "--episode-seconds", "10"), 3, 10.0, None),
    ],
)
def test_a_run_on_a_real_arm_ends(
    reach_engine: Path, arguments: tuple[str, ...], episodes: int | None, episode_s: float | None, total_s: float | None
) -> None:
    assert schedule(reach_engine, *REAL, *arguments) == Schedule(0, episodes, episode_s, total_s)


@pytest.mark.sim
def test_a_simulated_run_has_a_number_of_episodes(reach_engine: Path) -> None:
    assert schedule(reach_engine).episodes == SIMULATED_EPISODES
    assert schedule(reach_engine, "--seconds", "5").episodes is None
    assert schedule(reach_engine).total_s is None
