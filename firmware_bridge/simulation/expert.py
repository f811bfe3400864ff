"""The scripted expert of `lerobot-env-so101`, giving joint targets instead of Cartesian steps.

The package's controller decides where the grasp point goes next; its inverse kinematics turns that into joint angles.
These angles are recorded: the command that a real SO-101 would get.
"""

# MuJoCo keeps its names in compiled modules without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco
import numpy as np
from lerobot_env_so101.ik_control import roll_to_align_axis, solve_ik
from lerobot_env_so101.mujoco_env import CARTESIAN_BOUNDS
from lerobot_env_so101.scripted.pick_place import Phase, PickPlaceController

from sefa_edge.firmware_bridge.simulation.tasks import CUBE_HALF_M
from sefa_edge.firmware_bridge.simulation.world import JOINTS, World

ACTION_SCALE_M = 0.025
ARM_JOINTS = JOINTS[:5]
ROLL_INDEX = ARM_JOINTS.index("wrist_roll")
APPROACH_AXIS, JAW_AXIS = 0, 2
JAW_DIRECTION = np.array([0.0, 1.0, 0.0])
CLEARANCE_M = 0.004
"""The cube is as wide as the grasp; without this gap the fixed jaw hits its edge at the slightest error."""
RESPONSE = 0.7
"""Share of the distance to its command that the arm covers in one 10 Hz step."""
LIFTING_PHASES = (Phase.HOVER, Phase.DESCEND, Phase.CLOSE, Phase.LIFT)
HELD_PHASES = (Phase.LIFT, Phase.TRAVERSE, Phase.LOWER)


class Expert:
    """One episode of the scripted expert at 10 Hz.

    The runtime interpolates commands, so the arm arrives later than the controller expects, which would make it
    overshoot. The controller therefore gets the point at which the arm will come to rest: the measured point plus the
    remaining motion of a model of the lag (a Smith predictor). It sees steady errors such as sag, but not the lag.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._scratch = mujoco.MjData(world.model)
        self._controller = PickPlaceController(ACTION_SCALE_M)
        self._arm = np.array([world.model.joint(name).id for name in ARM_JOINTS])
        self._offset_m = world.grasp_offset_m.copy()
        self._offset_m[JAW_AXIS] += CLEARANCE_M
        self._target_m = world.gripper_point_m(self._offset_m)
        self._expected_m = self._target_m
        self._lifted: np.ndarray | None = None

    def joint_target(self) -> np.ndarray:
        """Next command, radians [6], for the world as it is now."""
        if self._lifted is not None:
            return self._lifted
        scene = self._world.scene()
        has_goal = self._world.task.has_goal
        self._expected_m = self._expected_m + RESPONSE * (self._target_m - self._expected_m)
        under_way_m = self._target_m - self._expected_m
        held_m = under_way_m if self._controller.phase in HELD_PHASES else 0.0
        destination = (scene.goal_position_m if has_goal else scene.cube_position_m)[:2]
        action = self._controller.act(
            self._world.gripper_point_m(self._offset_m) + under_way_m,
            scene.cube_position_m + held_m,
            np.array([*destination, CUBE_HALF_M]),
        )
        self._target_m = np.clip(self._target_m + action[:3] * ACTION_SCALE_M, *CARTESIAN_BOUNDS)
        command = np.append(self._solve(self._target_m), self._jaw(float(action[3])))
        if not has_goal and self._controller.phase not in LIFTING_PHASES:
            self._lifted = command
        return command

    def _solve(self, point_m: np.ndarray) -> np.ndarray:
        """Arm angles [5] that bring the grasp point to `point_m`, gripper straight down, jaws along y."""
        model, scratch, site = self._world.model, self._scratch, self._world.grasp_site
        scratch.qpos[:] = self._world.data.qpos
        mujoco.mj_forward(model, scratch)
        seed = scratch.qpos[self._arm].copy()
        seed[ROLL_INDEX] += roll_to_align_axis(scratch, site, int(self._arm[ROLL_INDEX]), JAW_AXIS, JAW_DIRECTION)
        low, high = model.jnt_range[self._arm].T
        angles = solve_ik(
            model=model,
            data=scratch,
            site_id=site,
            dof_ids=self._arm,
            target_pos=point_m,
            seed_q=np.clip(seed, low, high),
            point_offset=self._offset_m,
            approach_axis=APPROACH_AXIS,
        )
        return np.clip(angles, low, high)

    def _jaw(self, opening: float) -> float:
        low, high = self._world.model.actuator("gripper").ctrlrange
        return float(low + opening * (high - low))
