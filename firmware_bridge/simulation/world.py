"""The simulated world: MuJoCo physics of an SO-101 and a cube, driven by the goals that its servos receive."""

# MuJoCo keeps its names in compiled modules without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from sefa_edge.firmware_bridge.simulation.scene import JAW_PADS, build_physics_model
from sefa_edge.firmware_bridge.simulation.tasks import CUBE_HALF_M, Judge, Layout, Scene, task_named
from sefa_edge.profiles.units import SERVO_TICKS_PER_TURN

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
PHYSICS_STEP_S = 0.002
JUDGE_EVERY_STEPS = 5
TICKS_PER_RADIAN = SERVO_TICKS_PER_TURN / math.tau
CENTRE_TICKS = 2048
GRASP_JAW_RADIANS = 0.46
"""Jaw angle at which the two pads are parallel, 40 mm apart (from the model's notes)."""
MAX_TORQUE_NM = 3.35


@dataclass(frozen=True, slots=True, eq=False)
class WorldState:
    """The state that a camera needs to draw the world, and the result of the episode."""

    time_s: float
    qpos: np.ndarray
    goal_position_m: np.ndarray
    success: bool
    lost: bool


class World:
    """Physics of one arm and one cube. Also the plant of the simulated servos: joint i is servo i + 1."""

    def __init__(self, task: str, seed: int = 0) -> None:
        """Raises InputError for an unknown task, MissingError without the SO-101 model."""
        self.task = task_named(task)
        self.model = build_physics_model()
        self.data = mujoco.MjData(self.model)
        self._joint_qpos = np.array([self.model.joint(name).qposadr[0] for name in JOINTS])
        self._joint_dof = np.array([self.model.joint(name).dofadr[0] for name in JOINTS])
        self._cube_qpos = int(self.model.joint("block").qposadr[0])
        self._cube_dof = int(self.model.joint("block").dofadr[0])
        self._gripper_range = self.model.actuator("gripper").ctrlrange.copy()
        self._gain = self.model.actuator_gainprm.copy()
        self._bias = self.model.actuator_biasprm.copy()
        self.grasp_site = int(self.model.site("gripperframe").id)
        self.grasp_offset_m = self._measure_grasp_offset()
        self._steps = 0
        self.reset(seed)

    # -- episodes -------------------------------------------------------------------------------------------------

    def reset(self, seed: int, joint_radians: np.ndarray | None = None) -> None:
        """Start the episode `seed` with the arm at `joint_radians` [6] (default: zero), holding."""
        mujoco.mj_resetData(self.model, self.data)
        joints = np.zeros(len(JOINTS)) if joint_radians is None else joint_radians
        self.data.qpos[self._joint_qpos] = joints
        self.data.ctrl[:] = joints
        for index in range(len(JOINTS)):
            self.set_torque(index, on=True)
        self.place(seed)

    def place(self, seed: int) -> None:
        """Place cube and goal of the episode `seed`; the arm stays where it is."""
        self._lay_out(self.task.layout(seed))

    def _lay_out(self, layout: Layout) -> None:
        cube = self._cube_qpos
        self.data.qpos[cube : cube + 7] = [*layout.cube_xy_m, CUBE_HALF_M, 1, 0, 0, 0]
        self.data.qvel[self._cube_dof : self._cube_dof + 6] = 0
        self.data.mocap_pos[0] = layout.goal_position_m
        self._judge = Judge(self.task)
        mujoco.mj_forward(self.model, self.data)

    def step(self, count: int = 1) -> None:
        """Advance by `count` physics steps of 2 ms."""
        for _ in range(count):
            mujoco.mj_step(self.model, self.data)
            self._steps += 1
            if self._steps % JUDGE_EVERY_STEPS == 0:
                self._judge.observe(self.scene(), JUDGE_EVERY_STEPS * PHYSICS_STEP_S)

    @property
    def time_s(self) -> float:
        return float(self.data.time)

    @property
    def success(self) -> bool:
        return self._judge.success

    @property
    def lost(self) -> bool:
        return self._judge.lost

    def snapshot(self) -> WorldState:
        return WorldState(
            self.time_s,
            self.data.qpos.copy(),
            self.data.mocap_pos[0].copy(),
            self._judge.success,
            self._judge.lost,
        )

    def scene(self) -> Scene:
        """The state that the judge and the scripted expert use."""
        cube, dof = self._cube_qpos, self._cube_dof
        return Scene(
            cube_position_m=self.data.qpos[cube : cube + 3].copy(),
            cube_speed_m_s=float(np.linalg.norm(self.data.qvel[dof : dof + 3])),
            grasp_position_m=self.grasp_position_m(),
            goal_position_m=self.data.mocap_pos[0].copy(),
            jaw_percent=self._jaw_percent(),
        )

    def grasp_position_m(self) -> np.ndarray:
        """Point between the fingertip pads, world coordinates [3]."""
        return self.gripper_point_m(self.grasp_offset_m)

    def gripper_point_m(self, offset_m: np.ndarray) -> np.ndarray:
        """A point given in the frame of the gripper [3], in world coordinates [3]."""
        rotation = self.data.site_xmat[self.grasp_site].reshape(3, 3)
        return self.data.site_xpos[self.grasp_site] + rotation @ offset_m

    def joint_radians(self) -> np.ndarray:
        return self.data.qpos[self._joint_qpos].copy()

    def _jaw_percent(self) -> float:
        low, high = self._gripper_range
        return float((self.data.qpos[self._joint_qpos[-1]] - low) / (high - low) * 100.0)

    def _measure_grasp_offset(self) -> np.ndarray:
        scratch = mujoco.MjData(self.model)
        scratch.qpos[self._joint_qpos[-1]] = GRASP_JAW_RADIANS
        mujoco.mj_forward(self.model, scratch)
        middle = np.mean([scratch.geom_xpos[self.model.geom(name).id] for name in JAW_PADS], axis=0)
        rotation = scratch.site_xmat[self.grasp_site].reshape(3, 3)
        return rotation.T @ (middle - scratch.site_xpos[self.grasp_site])

    # -- plant of the simulated servos ----------------------------------------------------------------------------

    def set_goal_ticks(self, index: int, ticks: float) -> None:
        low, high = self.model.actuator_ctrlrange[index]
        self.data.ctrl[index] = min(max((ticks - CENTRE_TICKS) / TICKS_PER_RADIAN, low), high)

    def set_torque(self, index: int, on: bool) -> None:
        """Torque off lets the joint fall against its friction, as on the arm."""
        self.model.actuator_gainprm[index] = self._gain[index] if on else 0
        self.model.actuator_biasprm[index] = self._bias[index] if on else 0

    def set_torque_limit(self, index: int, fraction: float) -> None:
        self.model.actuator_forcerange[index] = (-fraction * MAX_TORQUE_NM, fraction * MAX_TORQUE_NM)

    def position_ticks(self, index: int) -> float:
        return float(self.data.qpos[self._joint_qpos[index]] * TICKS_PER_RADIAN + CENTRE_TICKS)

    def velocity_ticks_s(self, index: int) -> float:
        return float(self.data.qvel[self._joint_dof[index]] * TICKS_PER_RADIAN)

    def load_fraction(self, index: int) -> float:
        """Share of the stall torque, -1..1."""
        return float(self.data.actuator_force[index] / MAX_TORQUE_NM)
