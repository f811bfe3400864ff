"""`sefa-edge record`: demonstrations by the scripted expert, as a LeRobot v3 dataset.

The arm is commanded exactly as in a run (100 Hz interpolation between 10 Hz targets), so that action k, chosen at frame
k, is reached at frame k + 1. Small, smooth disturbances are added to the executed targets but not to the recorded ones,
so that the dataset shows how to recover from errors.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sefa_edge.edge.tools.demonstrations.dataset_writer import DatasetInfo, DatasetWriter, Episode
from sefa_edge.firmware_bridge.simulation.expert import Expert
from sefa_edge.firmware_bridge.simulation.joint_units import degrees_of_radians, goal_ticks_of_radians
from sefa_edge.firmware_bridge.simulation.scene import Renderer
from sefa_edge.firmware_bridge.simulation.tasks import TASKS, task_named
from sefa_edge.firmware_bridge.simulation.views import SIMULATED_VIEWS
from sefa_edge.firmware_bridge.simulation.world import JOINTS, PHYSICS_STEP_S, World
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import path_argument
from sefa_edge.profiles.progress import Progress
from sefa_edge.profiles.quantities import SEED, Real, Whole
from sefa_edge.profiles.shown import shown

EPISODES = Whole("a number of episodes", 1, 100_000)
SIZE = Whole("a size", 16, 640, "pixels")
DISTURBANCE_DEG = Real("an angle", 0.0, 45.0, "degrees")
RATE_HZ = 10
CONTROL_TICKS = 10
STEPS_PER_TICK = round(1 / (RATE_HZ * CONTROL_TICKS * PHYSICS_STEP_S))
DISTURBANCE_MEMORY = 0.8
START_SPREAD_DEG = 3.0
TAIL_FRAMES = 6
"""Frames recorded after success, so that the policy learns to stay there."""


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """Settings of a recording session; the same settings produce the same dataset."""

    task: str
    episodes: int
    first_seed: int
    size: int
    cameras: tuple[str, ...]
    disturbance_deg: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--expert", required=True, metavar="TASK", help=f"the expert's task: {', '.join(TASKS)}")
    parser.add_argument("--episodes", type=EPISODES.parse, default=200, help="successful demonstrations to record")
    parser.add_argument("-o", "--output", type=path_argument, required=True, metavar="DATASET", help="folder to create")
    parser.add_argument(
        "--first-seed", type=SEED.parse, default=100_000, help="seed of the first episode; evaluation uses low seeds"
    )
    parser.add_argument("--size", type=SIZE.parse, default=96, help="picture height and width in pixels")
    parser.add_argument("--camera", action="append", metavar="VIEW", help="view to record, repeatable (default: front)")
    parser.add_argument(
        "--disturbance-deg", type=DISTURBANCE_DEG.parse, default=1.0, help="standard deviation of the disturbances"
    )


def main(arguments: argparse.Namespace) -> int:
    settings = RecordSettings(
        task=task_named(arguments.expert).name,
        episodes=arguments.episodes,
        first_seed=arguments.first_seed,
        size=arguments.size,
        cameras=tuple(arguments.camera or ("front",)),
        disturbance_deg=arguments.disturbance_deg,
    )
    tried = record(settings, arguments.output)
    print(f"{arguments.output}: {settings.episodes} episodes of {tried} tried, seeds {settings.first_seed}…")
    return 0


def record(settings: RecordSettings, output: Path) -> int:
    """Record a dataset; failed demonstrations are discarded. Returns the number of seeds tried.

    Raises:
        InputError: the simulator has no such view, or the dataset cannot be written.
    """
    for name in settings.cameras:
        if name not in SIMULATED_VIEWS.names:
            raise InputError(
                f"the simulator has no view {shown(name)}", f"its views are {', '.join(SIMULATED_VIEWS.names)}"
            )
    info = DatasetInfo(
        task=task_named(settings.task).summary,
        robot_type="so101_follower",
        rate_hz=RATE_HZ,
        joint_names=JOINTS,
        cameras=dict.fromkeys(settings.cameras, (settings.size, settings.size)),
    )
    writer = DatasetWriter(output, info)
    tried = recorded = 0
    try:
        with Progress("recording", settings.episodes, sys.stderr) as progress:
            for episode in _demonstrations(settings):
                tried += 1
                if episode is not None:
                    writer.add(episode)
                    recorded += 1
                    progress.update(recorded)
                if recorded == settings.episodes:
                    break
        writer.close()
    except BaseException:
        writer.abandon()
        raise
    return tried


def _demonstrations(settings: RecordSettings) -> Iterator[Episode | None]:
    world = World(settings.task)
    renderers = {camera: Renderer(settings.size, settings.size, camera) for camera in settings.cameras}
    try:
        seed = settings.first_seed
        while True:
            yield _demonstrate(world, renderers, seed, settings.disturbance_deg)
            seed += 1
    finally:
        for renderer in renderers.values():
            renderer.close()


def _demonstrate(world: World, renderers: dict[str, Renderer], seed: int, disturbance_deg: float) -> Episode | None:
    """One episode of the expert, or None when it failed."""
    random = np.random.default_rng([seed, 202])
    start = np.radians(random.normal(0, START_SPREAD_DEG, len(JOINTS)))
    world.reset(seed, start)
    expert, episode = Expert(world), Episode()
    previous = world.joint_radians()
    disturbance = np.zeros(len(JOINTS))
    sigma = math.radians(disturbance_deg) * math.sqrt(1 - DISTURBANCE_MEMORY**2)
    frames_left = round(world.task.time_limit_s * RATE_HZ)
    while frames_left > 0 and not world.lost:
        state = world.snapshot()
        images = {name: renderer.render(state.qpos, state.goal_position_m) for name, renderer in renderers.items()}
        target = expert.joint_target()
        episode.append(degrees_of_radians(world.joint_radians()), degrees_of_radians(target), images)
        disturbance = DISTURBANCE_MEMORY * disturbance + random.normal(0, sigma, len(JOINTS))
        disturbance[-1] = 0.0
        executed = target + disturbance
        follow_target(world, previous, executed)
        previous = executed
        frames_left = min(frames_left - 1, TAIL_FRAMES) if world.success else frames_left - 1
    return episode if world.success else None


def follow_target(world: World, start: np.ndarray, end: np.ndarray) -> None:
    """One policy step of 100 ms: a straight line from `start` to `end`, radians [6], as in a run."""
    for tick in range(1, CONTROL_TICKS + 1):
        goal_ticks = goal_ticks_of_radians(start + (end - start) * (tick / CONTROL_TICKS))
        for index, ticks in enumerate(goal_ticks):
            world.set_goal_ticks(index, float(ticks))
        world.step(STEPS_PER_TICK)
