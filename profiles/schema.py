"""What an arm is: joints, limits, calibration, poses. Loaded from `profiles/arms/*.yaml` or a user's file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.strict import StrictModel, parse_yaml
from sefa_edge.profiles.units import ms_to_ns

Ticks = Annotated[int, Field(ge=0, le=4095)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class JointProfile(StrictModel):
    """One joint. Positions are degrees, or 0..100 for a joint whose unit is `percent`."""

    name: str
    servo_id: Annotated[int, Field(ge=0, le=253)]
    unit: Literal["degrees", "percent"]
    min_deg: Finite
    max_deg: Finite
    max_velocity_deg_s: Positive
    max_acceleration_deg_s2: Positive
    range_min_ticks: Ticks
    range_max_ticks: Ticks
    """Nominal calibration; a LeRobot calibration file takes its place on a real arm."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_deg >= self.max_deg:
            raise ValueError(f"min_deg {self.min_deg} must be below max_deg {self.max_deg}")
        if self.range_min_ticks >= self.range_max_ticks:
            raise ValueError("range_min_ticks must be below range_max_ticks")
        return self


class ActionErrorBudget(StrictModel):
    """How far an exported engine may act from the network it was made of: 99th percentile of all joints and steps."""

    fp32_p99_deg: Positive = 0.005
    fp16_p99_deg: Positive = 0.05
    int8_p99_deg: Positive = 0.5
    success_points: Positive = 2.0
    """Percentage points of closed-loop success that may be lost, beyond what chance explains."""

    def p99_deg(self, precision: Literal["fp32", "fp16", "int8"]) -> float:
        return {"fp32": self.fp32_p99_deg, "fp16": self.fp16_p99_deg, "int8": self.int8_p99_deg}[precision]


class ArmProfile(StrictModel):
    """An arm: its bus, its joints in policy order, its poses and its timing."""

    schema_version: Literal[1]
    name: str
    bus: Literal["feetech"]
    baud: Annotated[int, Field(gt=0)]
    control_rate_hz: Annotated[float, Field(ge=20, le=500)]
    goal_timeout_ms: Positive
    """Age at which the newest action chunk no longer commands the arm (hold, then park)."""
    move_velocity_deg_s: Positive
    """Speed of planned moves: to the start pose and to the park pose."""
    tracking_error_deg: Positive
    """A planned move aborts into hold when a joint lags by more than this."""
    action_error_budget: ActionErrorBudget = ActionErrorBudget()
    start_pose_deg: list[Finite]
    park_pose_deg: list[Finite]
    joints: Annotated[list[JointProfile], Field(min_length=1, max_length=32)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field in ("start_pose_deg", "park_pose_deg"):
            pose = getattr(self, field)
            if len(pose) != len(self.joints):
                raise ValueError(f"{field} has {len(pose)} values for {len(self.joints)} joints")
            for joint, value in zip(self.joints, pose, strict=True):
                if not joint.min_deg <= value <= joint.max_deg:
                    raise ValueError(f"{field}: {joint.name} {value} is outside {joint.min_deg}..{joint.max_deg}")
        for field in ("name", "servo_id"):
            values = [getattr(joint, field) for joint in self.joints]
            if len(set(values)) != len(values):
                raise ValueError(f"two joints share the same {field}")
        return self

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    def limit_table(self) -> LimitTable:
        """The part of the profile that the safety layer enforces."""
        return LimitTable(
            joint_names=self.joint_names,
            min_deg=self._column("min_deg"),
            max_deg=self._column("max_deg"),
            max_velocity_deg_s=self._column("max_velocity_deg_s"),
            max_acceleration_deg_s2=self._column("max_acceleration_deg_s2"),
            goal_timeout_ns=ms_to_ns(self.goal_timeout_ms),
        )

    def _column(self, field: str) -> np.ndarray:
        column = np.array([getattr(joint, field) for joint in self.joints], np.float64)
        column.setflags(write=False)
        return column


@dataclass(frozen=True, slots=True, eq=False)
class LimitTable:
    """Per-joint limits [n], in the profile's joint order. Arrays are read-only float64."""

    joint_names: tuple[str, ...]
    min_deg: np.ndarray
    max_deg: np.ndarray
    max_velocity_deg_s: np.ndarray
    max_acceleration_deg_s2: np.ndarray
    goal_timeout_ns: int

    @property
    def hash(self) -> str:
        """Short fingerprint, so that two programs can tell that they enforce the same limits."""
        digest = hashlib.sha256(",".join(self.joint_names).encode())
        for column in (self.min_deg, self.max_deg, self.max_velocity_deg_s, self.max_acceleration_deg_s2):
            digest.update(column.tobytes())
        digest.update(str(self.goal_timeout_ns).encode())
        return digest.hexdigest()[:16]


def shipped_arms() -> list[str]:
    """Names of the arm profiles that come with the package."""
    folder = resources.files("sefa_edge.profiles").joinpath("arms")
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_arm_profile(name_or_path: str) -> ArmProfile:
    """An arm profile, shipped (`so101`) or a user's file (`my_arm.yaml`).

    Raises:
        InputError: unknown name, or a file that does not hold a valid profile.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return parse_yaml(Path(name_or_path), ArmProfile)
    if name_or_path not in shipped_arms():
        raise InputError(
            f"no arm is called '{name_or_path}'",
            f"known arms: {', '.join(shipped_arms())}; or give a .yaml file",
        )
    with resources.as_file(resources.files("sefa_edge.profiles") / "arms" / f"{name_or_path}.yaml") as path:
        return parse_yaml(path, ArmProfile)
