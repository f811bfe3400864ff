"""Calibration of an arm: from encoder ticks to joint units and back, as LeRobot does it.

Facts of LeRobot (its SO-100/SO-101 followers, releases up to 0.6; the formulae are those of 0.4.4's
`SerialMotorsBus`): a calibration file is one JSON object keyed by joint name, five integers each. The same
numbers live in the servo: homing offset (31), minimum (9) and maximum position (11). The servo subtracts the
offset itself. Units, with `lo..hi` the calibrated range in ticks:

==============  ===================================  =====================  ================================
unit            joint value of a reading             drive_mode 1           LeRobot
==============  ===================================  =====================  ================================
degrees         (ticks - (lo + hi) / 2) * 360/4095   ignored                body joints, default since 0.4.4
range_percent   -100..100 over lo..hi                negated                body joints, default up to 0.4.3
percent         0..100 over lo..hi                   100 - value            gripper, always
==============  ===================================  =====================  ================================

Outside `lo..hi` the two percentages are clipped. Nothing in a calibration file, a dataset or a checkpoint says which of
the first two was meant: the arm profile and the policy card do.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from sefa_edge.firmware_bridge.host.calibration_format import FIELD_BOUNDS, arm_entries, require_json
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import read_bounded
from sefa_edge.profiles.json_text import JsonError, parse_json_text
from sefa_edge.profiles.schema import ArmProfile, JointProfile
from sefa_edge.profiles.units import LEROBOT_TICKS_PER_TURN

ENCODER_MAX_TICKS = 4095
MAX_HOMING_OFFSET = 2047
"""In both directions: register 31 holds a magnitude of 11 bits and a sign."""

SMALLEST_SHARE, SMALLEST_USUAL_SHARE, LARGEST_USUAL_SHARE = 0.6, 0.8, 1.3
"""Shares of a joint's nominal range. A range below the first means that the joint was not moved from end to end when it
was calibrated; real SO-100 and SO-101 arms lie between the other two."""


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

    def same_registers(self, other: Calibration) -> bool:
        """Whether both give the same servo registers. The direction (drive_mode) is not in a register."""
        return [replace(joint, drive_mode=0) for joint in self.joints] == [
            replace(joint, drive_mode=0) for joint in other.joints
        ]


@dataclass(frozen=True, slots=True)
class JointScale:
    """The linear map between ticks and joint units (see above) of one joint.

    `joint = (ticks - zero_ticks) * joint_per_tick`. Goals are clipped to `lowest..highest_ticks`, readings to
    `lowest..highest_reading`.
    """

    zero_ticks: float
    joint_per_tick: float
    lowest_ticks: int
    highest_ticks: int
    lowest_reading: float = -math.inf
    highest_reading: float = math.inf

    def to_joint(self, ticks: float) -> float:
        """Joint position of an encoder reading, as LeRobot computes it."""
        inside = min(max(ticks, self.lowest_reading), self.highest_reading)
        return (inside - self.zero_ticks) * self.joint_per_tick

    def to_ticks(self, joint: float) -> int:
        """Goal of a finite joint position, rounded to the nearest tick; LeRobot truncates, so it may differ by one."""
        ticks = round(joint / self.joint_per_tick + self.zero_ticks)
        return min(max(ticks, self.lowest_ticks), self.highest_ticks)


def joint_scale(joint: JointProfile, calibration: JointCalibration) -> JointScale:
    """The map between ticks and joint units of a calibrated joint."""
    low, high = calibration.range_min_ticks, calibration.range_max_ticks
    if joint.unit == "degrees":
        return JointScale((low + high) / 2, 360 / LEROBOT_TICKS_PER_TURN, 0, ENCODER_MAX_TICKS)
    direction = -1 if calibration.drive_mode else 1
    if joint.unit == "range_percent":
        return JointScale((low + high) / 2, direction * 200 / (high - low), low, high, low, high)
    return JointScale(high if calibration.drive_mode else low, direction * 100 / (high - low), low, high, low, high)


@dataclass(frozen=True, slots=True)
class CalibrationFile:
    """The calibration of an arm in a file, and notes for a person about the file."""

    calibration: Calibration
    notes: tuple[str, ...]


def load_calibration(path: Path, profile: ArmProfile) -> Calibration:
    """Read a LeRobot calibration file of the profile's arm. Raises InputError as `read_calibration` does."""
    return read_calibration(path, profile).calibration


def read_calibration(path: Path, profile: ArmProfile) -> CalibrationFile:
    """Read a LeRobot calibration file of the profile's arm, with notes about it.

    Raises:
        InputError: absent or broken file, another format (see `calibration_format`), wrong joint names, values out of
            range, a range that cannot be true, or the ids of another arm.
    """
    text = read_bounded(path)
    require_json(path, text)
    try:
        content = parse_json_text(text)
    except JsonError as error:
        raise InputError(f"{path} is not valid JSON: {error}", "was it written completely?") from None
    found = arm_entries(path, content, profile)
    joints = tuple(JointCalibration(*(entry[field] for field in FIELD_BOUNDS)) for entry in found.entries)
    for joint, entry in zip(profile.joints, joints, strict=True):
        if entry.range_min_ticks >= entry.range_max_ticks:
            raise InputError(
                f"{path}: {joint.name}: range_min {entry.range_min_ticks} must be below range_max "
                f"{entry.range_max_ticks}",
                "calibrate again and move every joint from end to end",
            )
    calibration = Calibration(joints)
    require_plausible_ranges(profile, calibration, str(path))
    return CalibrationFile(calibration, found.notes)


def require_plausible_ranges(profile: ArmProfile, calibration: Calibration, source: str) -> None:
    """Refuse ranges that cannot belong to this arm: beyond the encoder, or far too narrow.

    Args:
        source: where the numbers come from, for the message.

    Raises:
        InputError: names the joint, the range, and what to do.
    """
    for joint, entry in zip(profile.joints, calibration.joints, strict=True):
        low, high = entry.range_min_ticks, entry.range_max_ticks
        problem = ""
        if not 0 <= low < high <= ENCODER_MAX_TICKS:
            problem = f"is not inside the encoder's 0..{ENCODER_MAX_TICKS}, lowest first"
        elif range_share(joint, entry) < SMALLEST_SHARE:
            usual = joint.range_max_ticks - joint.range_min_ticks
            problem = f"is {high - low} ticks wide, less than {SMALLEST_SHARE:g} of the usual {usual}"
        if problem:
            raise InputError(
                f"{source}: the range of {joint.name}, {low}..{high}, {problem}",
                f"calibrate again and move every joint from end to end: sefa-edge calibrate --arm {profile.name} "
                "--port PORT",
            )


def unusual_ranges(profile: ArmProfile, calibration: Calibration) -> tuple[str, ...]:
    """One sentence for each joint whose range is plausible, but much narrower or wider than usual."""
    shares = [range_share(*pair) for pair in zip(profile.joints, calibration.joints, strict=True)]
    return tuple(
        f"the calibrated range of {joint.name}, {entry.range_min_ticks}..{entry.range_max_ticks}, is {share:.2f} of "
        "the usual; was the joint moved from end to end?"
        for joint, entry, share in zip(profile.joints, calibration.joints, shares, strict=True)
        if not SMALLEST_USUAL_SHARE <= share <= LARGEST_USUAL_SHARE
    )


def range_share(joint: JointProfile, entry: JointCalibration) -> float:
    """Width of a calibrated range as a share of the profile's nominal one."""
    return (entry.range_max_ticks - entry.range_min_ticks) / (joint.range_max_ticks - joint.range_min_ticks)


def lerobot_entries(profile: ArmProfile, calibration: Calibration) -> dict[str, dict[str, int]]:
    """A calibration as LeRobot names it: joint name to its five integers, in LeRobot's order."""
    return {
        joint.name: {
            "id": entry.servo_id,
            "drive_mode": entry.drive_mode,
            "homing_offset": entry.homing_offset,
            "range_min": entry.range_min_ticks,
            "range_max": entry.range_max_ticks,
        }
        for joint, entry in zip(profile.joints, calibration.joints, strict=True)
    }


def lerobot_text(profile: ArmProfile, calibration: Calibration) -> str:
    """The file that LeRobot 0.4.4 writes for this calibration, byte for byte: four spaces, no newline at the end."""
    return json.dumps(lerobot_entries(profile, calibration), indent=4)


def nominal_calibration(profile: ArmProfile) -> Calibration:
    """The profile's nominal ranges without offsets: valid for the simulated arm only."""
    return Calibration(
        tuple(
            JointCalibration(joint.servo_id, 0, 0, joint.range_min_ticks, joint.range_max_ticks)
            for joint in profile.joints
        )
    )
