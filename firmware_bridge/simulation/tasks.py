"""Cube tasks of the simulated world: the start of an episode, and when it succeeds or is lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sefa_edge.profiles.errors import InputError

CUBE_HALF_M = 0.02
CUBE_AREA_M = np.array([[0.15, -0.10], [0.30, 0.10]])
"""Corners x, y of the area for cubes and goals: beyond x = 0.30 m the gripper can no longer point straight down."""
WORKSPACE_M = np.array([[0.08, -0.20], [0.40, 0.20]])
MIN_GOAL_DISTANCE_M = 0.08
HIDDEN_GOAL_M = (0.0, 0.0, -1.0)

LIFT_HEIGHT_M = 0.04
LIFT_HOLD_S = 0.5
GRASP_RADIUS_M = 0.05
PLACE_RADIUS_M = 0.03
CARRY_RISE_M = 0.03
REST_SPEED_M_S = 0.01
OPEN_JAW_PERCENT = 50.0


@dataclass(frozen=True, slots=True)
class Layout:
    """The start of an episode: cube centre and goal on the table, metres."""

    cube_xy_m: tuple[float, float]
    goal_position_m: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """The state that decides about success."""

    cube_position_m: np.ndarray
    cube_speed_m_s: float
    grasp_position_m: np.ndarray
    goal_position_m: np.ndarray
    jaw_percent: float


@dataclass(frozen=True, slots=True)
class Task:
    """A task. An episode fails `time_limit_s` after its first action."""

    name: str
    summary: str
    time_limit_s: float
    has_goal: bool

    def layout(self, seed: int) -> Layout:
        """Start of the episode `seed`: the same seed gives the same layout on every machine."""
        random = np.random.default_rng([seed, 101])
        cube = random.uniform(*CUBE_AREA_M)
        goal = random.uniform(*CUBE_AREA_M)
        while np.linalg.norm(goal - cube) < MIN_GOAL_DISTANCE_M:
            goal = random.uniform(*CUBE_AREA_M)
        goal_position = (float(goal[0]), float(goal[1]), 0.0005) if self.has_goal else HIDDEN_GOAL_M
        return Layout((float(cube[0]), float(cube[1])), goal_position)


TASKS = {
    task.name: task
    for task in (
        Task("lift", "grasp the cube, lift it by 4 cm and hold it for half a second", 8.0, has_goal=False),
        Task("place", "carry the cube to the green marker, put it down and release it", 12.0, has_goal=True),
    )
}


def task_named(name: str) -> Task:
    """Raises InputError if there is no such task."""
    if name not in TASKS:
        raise InputError(f"no task is called '{name}'", f"known tasks: {', '.join(TASKS)}")
    return TASKS[name]


class Judge:
    """Follows one episode and decides when it succeeds or is lost. Flicking or pushing the cube is not a success."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._held_s = 0.0
        self._was_carried = False
        self.success = False
        self.lost = False

    def observe(self, scene: Scene, elapsed_s: float) -> None:
        """Evaluate the scene, `elapsed_s` after the last call."""
        rise_m = float(scene.cube_position_m[2]) - CUBE_HALF_M
        grasped = float(np.linalg.norm(scene.cube_position_m - scene.grasp_position_m)) < GRASP_RADIUS_M
        self._was_carried |= rise_m > CARRY_RISE_M
        self._held_s = self._held_s + elapsed_s if grasped and rise_m > LIFT_HEIGHT_M else 0.0
        self.success |= self._placed(scene) if self._task.has_goal else self._held_s >= LIFT_HOLD_S
        xy = scene.cube_position_m[:2]
        self.lost |= bool((xy < WORKSPACE_M[0]).any() or (xy > WORKSPACE_M[1]).any())

    def _placed(self, scene: Scene) -> bool:
        distance = float(np.linalg.norm(scene.cube_position_m[:2] - scene.goal_position_m[:2]))
        return (
            self._was_carried
            and distance < PLACE_RADIUS_M
            and scene.jaw_percent > OPEN_JAW_PERCENT
            and scene.cube_speed_m_s < REST_SPEED_M_S
        )
