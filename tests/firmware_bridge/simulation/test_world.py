"""The simulated world: repeatable physics, fair judging, usable images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.tools.demonstrations.command import RATE_HZ, follow_target
from sefa_edge.firmware_bridge.simulation.expert import Expert
from sefa_edge.firmware_bridge.simulation.joint_units import (
    degrees_of_radians,
    radians_of_degrees,
)
from sefa_edge.firmware_bridge.simulation.scene import Renderer, build_drawing_model, build_physics_model
from sefa_edge.firmware_bridge.simulation.tasks import TASKS, Judge, Scene, task_named
from sefa_edge.firmware_bridge.simulation.world import CENTRE_TICKS, World
from sefa_edge.profiles.errors import InputError

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def lift() -> World:
    return World("lift")


def _play_expert(world: World, seed: int) -> None:
    world.reset(seed)
    expert, previous = Expert(world), world.joint_radians()
    for _ in range(round(world.task.time_limit_s * RATE_HZ)):
        target = expert.joint_target()
        follow_target(world, previous, target)
        previous = target
        if world.success:
            return


@pytest.mark.once
@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_expert_succeeds(task: str) -> None:
    world = World(task)
    for seed in (0, 1, 2):
        _play_expert(world, seed)
        assert world.success, f"{task}, seed {seed}"


def test_the_same_seed_gives_the_same_world(lift: World) -> None:
    states = []
    for _ in range(2):
        lift.reset(7)
        lift.set_goal_ticks(0, CENTRE_TICKS + 300)
        lift.step(200)
        states.append(lift.snapshot().qpos)
    np.testing.assert_array_equal(*states)


def test_different_seeds_put_the_cube_elsewhere() -> None:
    layouts = {task_named("lift").layout(seed).cube_xy_m for seed in range(100)}
    assert len(layouts) == 100


def test_place_moves_the_cube_and_leaves_the_arm(lift: World) -> None:
    lift.reset(1)
    lift.set_goal_ticks(1, CENTRE_TICKS - 400)
    lift.step(300)
    arm, cube = lift.joint_radians(), lift.scene().cube_position_m
    lift.place(2)
    np.testing.assert_array_equal(lift.joint_radians(), arm)
    assert np.linalg.norm(lift.scene().cube_position_m - cube) > 0.001
    assert not lift.success


def test_an_arm_without_torque_falls_and_one_with_torque_stands(lift: World) -> None:
    lift.reset(0)
    lift.step(500)
    assert np.abs(lift.joint_radians()).max() < 0.2
    for index in range(6):
        lift.set_torque(index, on=False)
    lift.step(1500)
    assert np.abs(lift.joint_radians()).max() > 0.3


def test_goals_beyond_the_joint_are_clipped(lift: World) -> None:
    lift.reset(0)
    lift.set_goal_ticks(0, 1e9)
    assert lift.data.ctrl[0] == lift.model.actuator_ctrlrange[0, 1]


def test_units_round_trip() -> None:
    degrees = np.array([10.0, -20.0, 30.0, 40.0, -50.0, 60.0])
    np.testing.assert_allclose(degrees_of_radians(radians_of_degrees(degrees)), degrees, atol=1e-4)


def _scene(rise_m: float, gap_m: float) -> Scene:
    cube = np.array([0.2, 0.0, 0.02 + rise_m])
    return Scene(cube, 0.0, cube + np.array([0, 0, gap_m]), np.array([0.2, 0.0, 0.0]), 100.0)


def test_a_cube_must_stay_up_to_count_as_lifted() -> None:
    judge = Judge(task_named("lift"))
    for rise_m in (0.06, 0.06, 0.0, 0.06, 0.06):
        judge.observe(_scene(rise_m, 0.0), 0.2)
    assert not judge.success
    judge.observe(_scene(0.06, 0.0), 0.2)
    assert judge.success


def test_a_flying_cube_is_not_lifted() -> None:
    judge = Judge(task_named("lift"))
    for _ in range(10):
        judge.observe(_scene(0.2, 0.1), 0.2)
    assert not judge.success


def test_a_pushed_cube_is_not_placed() -> None:
    judge = Judge(task_named("place"))
    judge.observe(_scene(0.0, 0.0), 0.1)
    assert not judge.success
    judge.observe(_scene(0.05, 0.0), 0.1)
    judge.observe(_scene(0.0, 0.0), 0.1)
    assert judge.success


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(InputError, match="juggle"):
        World("juggle")


def test_images_show_cube_and_goal_where_they_are() -> None:
    world = World("place")
    with Renderer(96, 96) as renderer:
        images = []
        for seed in (0, 1):
            world.reset(seed)
            state = world.snapshot()
            images.append(renderer.render(state.qpos, state.goal_position_m).copy())
            np.testing.assert_array_equal(images[-1], renderer.render(state.qpos, state.goal_position_m))
    for image in images:
        red, green, blue = image.astype(int).transpose(2, 0, 1)
        assert 30 < ((red - green > 40) & (blue - green > 20)).sum() < 600, "the cube is magenta"
        assert ((green - red > 60) & (green - blue > 60)).sum() > 10, "the goal marker is green"
    assert (images[0] != images[1]).any()


def test_drawn_meshes_are_thinned() -> None:
    assert build_drawing_model().nmeshface < 20_000


def test_a_machine_without_opengl_gets_an_install_hint(reach_engine: Path) -> None:
    command = [sys.executable, "-m", "sefa_edge", "eval", "--engine", str(reach_engine), "--seeds", "0:1"]
    without_drivers = {**os.environ, "MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere.json"}
    done = subprocess.run(command, env=without_drivers, capture_output=True, text=True)
    assert done.returncode == 4
    assert "cannot open OpenGL" in done.stderr
    assert "hint: apt-get install" in done.stderr


def test_the_physics_model_and_the_drawing_model_share_their_state() -> None:
    physics, drawing = build_physics_model(), build_drawing_model()
    assert [physics.joint(i).name for i in range(physics.njnt)] == [drawing.joint(i).name for i in range(drawing.njnt)]
    assert (physics.nq, physics.nmocap) == (drawing.nq, drawing.nmocap)
