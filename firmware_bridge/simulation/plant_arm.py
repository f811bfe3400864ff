"""An arm without a bus: positions and goals directly from and to a plant. For lock-step simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity, nominal_identity
from sefa_edge.firmware_bridge.host.calibration import joint_scale, nominal_calibration
from sefa_edge.firmware_bridge.host.messages import (
    NOT_PREPARED,
    HeldCommand,
    JointGoal,
    JointState,
    Preparation,
    TorqueReading,
)
from sefa_edge.firmware_bridge.simulation.plant import Plant
from sefa_edge.profiles.schema import ArmProfile

SUPPLY_MV = 7400
ROOM_TEMPERATURE_C = 30


class PlantArm:
    """Implements `Arm` on a plant whose joint i is joint i of the profile; every joint always answers.

    Positions and goals are rounded to whole encoder ticks as on the wire, so that a policy gets the same numbers here
    and on a serial port.
    """

    def __init__(self, profile: ArmProfile, plant: Plant, clock_ns: Callable[[], int]) -> None:
        calibration = nominal_calibration(profile)
        self._names = profile.joint_names
        self._scales = [
            joint_scale(joint, entry) for joint, entry in zip(profile.joints, calibration.joints, strict=True)
        ]
        self._identity = nominal_identity(profile)
        self._plant = plant
        self._goal_ticks = [round(plant.position_ticks(i)) for i in range(len(self._scales))]
        self._torque = [False] * len(self._scales)
        self._clock_ns = clock_ns
        self._sequence = 0

    @property
    def joint_names(self) -> tuple[str, ...]:
        return self._names

    @property
    def identity(self) -> ArmIdentity:
        return self._identity

    def prepare(self) -> Preparation:
        """A plant has no settings."""
        return NOT_PREPARED

    def read_state(self) -> JointState:
        """Read every joint; the stamp is the present time."""
        self._sequence += 1
        plant, n = self._plant, len(self._scales)
        scales = list(enumerate(self._scales))
        return JointState(
            sequence=self._sequence,
            stamp_ns=self._clock_ns(),
            joint_deg=np.array([scale.to_joint(round(plant.position_ticks(i))) for i, scale in scales]),
            velocity_deg_s=np.array([plant.velocity_ticks_s(i) * scale.joint_per_tick for i, scale in scales]),
            load_pct=np.array([plant.load_fraction(i) * 100 for i in range(n)]),
            current_ma=np.zeros(n),
            temperature_c=np.full(n, ROOM_TEMPERATURE_C),
            supply_mv=SUPPLY_MV,
            status_bits=np.zeros(n, np.uint8),
            valid_mask=np.ones(n, bool),
            age_ns=np.zeros(n, np.int64),
        )

    def read_command(self) -> HeldCommand:
        """Its joints never lose their power."""
        n = len(self._scales)
        goal_deg = [scale.to_joint(ticks) for scale, ticks in zip(self._scales, self._goal_ticks, strict=True)]
        return HeldCommand(np.ones(n, bool), np.array(self._torque), np.ones(n, bool), np.array(goal_deg))

    def send(self, goal: JointGoal) -> None:
        """Set the goal of every joint not in `goal.left_out`."""
        for i, (scale, position) in enumerate(zip(self._scales, goal.joint_deg.tolist(), strict=True)):
            if not goal.left_out >> i & 1:
                self._set_goal(i, scale.to_ticks(position))

    def check_position_limits(self) -> None:
        """A plant has no position limits."""

    def read_torque(self) -> TorqueReading:
        """Joints whose motor is on."""
        return TorqueReading(tuple(name for name, on in zip(self._names, self._torque, strict=True) if on))

    def enable_torque(self) -> None:
        """Hold the present pose."""
        for i in range(len(self._scales)):
            self._set_goal(i, round(self._plant.position_ticks(i)))
            self._set_torque(i, on=True)

    def release_torque(self) -> None:
        """Torque off in every joint."""
        for i in range(len(self._scales)):
            self._set_torque(i, on=False)

    def close(self) -> None:
        """Nothing is open."""

    def _set_goal(self, index: int, ticks: int) -> None:
        self._goal_ticks[index] = ticks
        self._plant.set_goal_ticks(index, ticks)

    def _set_torque(self, index: int, *, on: bool) -> None:
        self._torque[index] = on
        self._plant.set_torque(index, on)
