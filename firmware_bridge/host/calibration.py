"""Where zero is: from encoder ticks to joint units and back, as LeRobot calibrates.

Facts of LeRobot (its SO-100/SO-101 followers, releases up to 0.6): a calibration file is one JSON object
keyed by joint name, five integers each. The same numbers live in the servo: homing offset (31), minimum (9)
and maximum position (11). The servo subtracts the offset itself. Body joints have two unit modes: degrees
around the middle of the range with 4095 (not 4096) ticks per turn, the default since 0.4.4 and the one used
here, or -100..100 over the range before that. Nothing in a file tells which; the gripper is 0..100 in both.
LeRobot ignores drive_mode in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, create_model, model_validator
from typing_extensions import Self

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile, JointProfile
from sefa_edge.profiles.strict import StrictModel, parse_json
from sefa_edge.profiles.units import LEROBOT_TICKS_PER_TURN

ENCODER_MAX_TICKS = 4095

EncoderTicks = Annotated[int, Field(ge=0, le=ENCODER_MAX_TICKS)]


@dataclass(frozen=True, slots=True)
class JointCalibration:
    """One joint of one particular arm, in ticks as the servo reports them (offset already subtracted)."""

    servo_id: int
    drive_mode: int
    homing_offset: int
    range_min_ticks: int
    range_max_ticks: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """All joints of one particular arm, in the profile's order."""

    joints: tuple[JointCalibration, ...]


@dataclass(frozen=True, slots=True)
class JointScale:
    """The straight line between ticks and joint units (degrees, or percent) of one joint.

    `joint = (ticks - zero_ticks) * joint_per_tick`, kept inside `lowest..highest` on the way to the servo.
    """

    zero_ticks: float
    joint_per_tick: float
    lowest_ticks: int
    highest_ticks: int

    def to_joint(self, ticks: float) -> float:
        """Joint position of an encoder reading."""
        return (ticks - self.zero_ticks) * self.joint_per_tick

    def to_ticks(self, joint: float) -> int:
        """Goal of a finite joint position, rounded to the nearest tick (LeRobot truncates)."""
        ticks = round(joint / self.joint_per_tick + self.zero_ticks)
        return min(max(ticks, self.lowest_ticks), self.highest_ticks)


def joint_scale(joint: JointProfile, calibration: JointCalibration) -> JointScale:
    """How ticks and joint units of a calibrated joint belong together."""
    low, high = calibration.range_min_ticks, calibration.range_max_ticks
    if joint.unit == "degrees":
        return JointScale((low + high) / 2, 360 / LEROBOT_TICKS_PER_TURN, 0, ENCODER_MAX_TICKS)
    if calibration.drive_mode:
        return JointScale(high, -100 / (high - low), low, high)
    return JointScale(low, 100 / (high - low), low, high)


class _LeRobotJoint(StrictModel):
    """One joint as LeRobot writes it."""

    id: Annotated[int, Field(ge=0, le=253)]
    drive_mode: Literal[0, 1]
    homing_offset: Annotated[int, Field(ge=-2047, le=2047)]
    range_min: EncoderTicks
    range_max: EncoderTicks

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.range_min >= self.range_max:
            raise ValueError(f"range_min {self.range_min} must be below range_max {self.range_max}")
        return self


def load_calibration(path: Path, profile: ArmProfile) -> Calibration:
    """Read a LeRobot calibration file of the profile's arm.

    Raises:
        InputError: absent or broken file, wrong joint names, values out of range, or the ids of another arm.
    """
    fields = {joint.name: (_LeRobotJoint, ...) for joint in profile.joints}
    file_model = create_model("LeRobotCalibration", __base__=StrictModel, **fields)  # pyright: ignore
    content = parse_json(path, file_model)
    return Calibration(tuple(_from_lerobot(path, joint, getattr(content, joint.name)) for joint in profile.joints))


def nominal_calibration(profile: ArmProfile) -> Calibration:
    """The calibration that the profile describes: no offset, ranges as drawn. True for the simulated arm
    only."""
    return Calibration(
        tuple(
            JointCalibration(joint.servo_id, 0, 0, joint.range_min_ticks, joint.range_max_ticks)
            for joint in profile.joints
        )
    )


def _from_lerobot(path: Path, joint: JointProfile, entry: _LeRobotJoint) -> JointCalibration:
    if entry.id != joint.servo_id:
        raise InputError(
            f"{path}: {joint.name} is servo {entry.id}, but servo {joint.servo_id} in the arm profile",
            "is this the calibration of another arm? otherwise correct servo_id in the profile",
        )
    return JointCalibration(entry.id, entry.drive_mode, entry.homing_offset, entry.range_min, entry.range_max)
