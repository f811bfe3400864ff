"""From joints moved by hand to a calibration, as LeRobot computes it. Pure: readings in, findings and numbers out.

Nothing is written to a servo meanwhile. LeRobot (0.4.4) first clears the old offset in the servos and reads their
positions again; here the old offset is added to the positions that they report, which gives the same encoder ticks.

    readings of the middle pose -> `begin` -> readings of the sweep -> `observe` … -> `findings` -> `result`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sefa_edge.firmware_bridge.host.calibration import (
    ENCODER_MAX_TICKS,
    MAX_HOMING_OFFSET,
    SMALLEST_SHARE,
    Calibration,
    JointCalibration,
)
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.schema import ArmProfile, JointProfile
from sefa_edge.profiles.units import SERVO_TICKS_PER_TURN

MIDDLE_TICKS = ENCODER_MAX_TICKS // 2
"""Position that a calibrated servo reports in the middle pose: 2047, as after LeRobot's half-turn homing."""

JUMP_TICKS = 1024
"""A quarter turn between two readings is not a hand's motion, but the encoder's end (0/4095) or missing readings."""

EDGE_TICKS = 16
"""A range that ends this close to the encoder's end has most likely crossed it."""


@dataclass(frozen=True, slots=True)
class JointSweep:
    """The motion of one joint since the middle pose, in ticks as its servo will report them with the new offset."""

    homing_offset: int
    position_ticks: int
    lowest_ticks: int
    highest_ticks: int
    jumped: bool = False
    """It crossed the encoder's end, or did not answer for too long: its range is invalid."""

    def at(self, encoder_ticks: int) -> JointSweep:
        """The sweep after one more reading."""
        position = (encoder_ticks - self.homing_offset) % SERVO_TICKS_PER_TURN
        if self.jumped or abs(position - self.position_ticks) > JUMP_TICKS:
            return replace(self, position_ticks=position, jumped=True)
        return replace(
            self,
            position_ticks=position,
            lowest_ticks=min(self.lowest_ticks, position),
            highest_ticks=max(self.highest_ticks, position),
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What is still missing or wrong for one joint, and what to do."""

    joint: str
    problem: str
    advice: str
    restart: bool
    """Continuing the sweep does not help: the middle pose must be taken again."""


Sweep = tuple[JointSweep, ...]


def homing_offset_of(encoder_ticks: int) -> int:
    """Offset that makes the servo report 2047 here.

    The encoder's last tick, 4095, would need 2048, which the register cannot hold: there it reports 2048. LeRobot
    stops with an error.
    """
    return min(encoder_ticks - MIDDLE_TICKS, MAX_HOMING_OFFSET)


def begin(encoder_ticks: Sequence[int]) -> Sweep:
    """Start a sweep with this reading of all joints as the middle pose."""
    return tuple(_still(homing_offset_of(ticks), ticks) for ticks in encoder_ticks)


def observe(sweep: Sweep, encoder_ticks: Sequence[int | None]) -> Sweep:
    """Add one reading of all joints; None: that servo did not answer."""
    return tuple(joint if ticks is None else joint.at(ticks) for joint, ticks in zip(sweep, encoder_ticks, strict=True))


def findings(profile: ArmProfile, sweep: Sweep) -> tuple[Finding, ...]:
    """What is missing before this sweep makes a calibration; empty: nothing."""
    found = (_finding(joint, seen) for joint, seen in zip(profile.joints, sweep, strict=True) if not joint.turns_freely)
    return tuple(finding for finding in found if finding is not None)


def result(profile: ArmProfile, sweep: Sweep) -> Calibration:
    """The calibration from a complete sweep. Raises InputError if the sweep is not complete."""
    wrong = findings(profile, sweep)
    if wrong:
        problems = "; ".join(f"{finding.joint} {finding.problem}" for finding in wrong)
        raise InputError(f"no calibration: {problems}", wrong[0].advice, exit_code=ExitCode.FAILED)
    return Calibration(
        tuple(_calibrated(joint, seen) for joint, seen in zip(profile.joints, sweep, strict=True)),
    )


def _still(homing_offset: int, encoder_ticks: int) -> JointSweep:
    position = encoder_ticks - homing_offset
    return JointSweep(homing_offset, position, position, position)


def _finding(joint: JointProfile, seen: JointSweep) -> Finding | None:
    if seen.jumped or seen.lowest_ticks < EDGE_TICKS or seen.highest_ticks > ENCODER_MAX_TICKS - EDGE_TICKS:
        return Finding(
            joint.name,
            "crossed its encoder's end (0/4095), or jumped while its servo did not answer",
            "bring every joint closer to the middle of its travel, take the middle pose again, and move slowly",
            restart=True,
        )
    swept = seen.highest_ticks - seen.lowest_ticks
    usual = joint.range_max_ticks - joint.range_min_ticks
    if swept < SMALLEST_SHARE * usual:
        return Finding(
            joint.name,
            f"was moved over {swept} of about {usual} ticks",
            "move every joint from one end to the other",
            restart=False,
        )
    return None


def _calibrated(joint: JointProfile, seen: JointSweep) -> JointCalibration:
    low, high = (0, ENCODER_MAX_TICKS) if joint.turns_freely else (seen.lowest_ticks, seen.highest_ticks)
    return JointCalibration(joint.servo_id, 0, seen.homing_offset, low, high)
