"""Which arm this is: the identity that its servos report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from sefa_edge.firmware_bridge.host.calibration import Calibration, JointCalibration, nominal_calibration
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.wire_types import I16, U8, U16, Many

NOMINAL_MODEL = 777
"""STS3215."""


@dataclass(frozen=True, slots=True)
class JointIdentity:
    """One servo: its id, model, firmware, and the calibration that its registers 31, 9 and 11 hold."""

    servo_id: Annotated[int, U8]
    model: Annotated[int, U16]
    firmware: Annotated[tuple[int, int], U8[2]]
    """Major and minor number."""
    homing_offset: Annotated[int, I16]
    range_min_ticks: Annotated[int, U16]
    range_max_ticks: Annotated[int, U16]


FIELD_NAMES = {
    "servo_id": "servo id",
    "model": "model",
    "firmware": "firmware",
    "homing_offset": "homing offset",
    "range_min_ticks": "lowest position",
    "range_max_ticks": "highest position",
}


@dataclass(frozen=True, slots=True)
class ArmIdentity:
    """All servos, in the profile's order. Two calibrated arms never agree in all of these numbers."""

    joints: Annotated[tuple[JointIdentity, ...], Many(32)]

    @property
    def calibration(self) -> Calibration:
        """The calibration in the servos' registers. They do not hold the direction (drive_mode): it is 0 here."""
        return Calibration(
            tuple(
                JointCalibration(joint.servo_id, 0, joint.homing_offset, joint.range_min_ticks, joint.range_max_ticks)
                for joint in self.joints
            )
        )

    def difference(self, other: ArmIdentity, names: Sequence[str]) -> str:
        """The first number in which `other` differs, as text for a person; empty when it is the same arm."""
        for name, mine, others in zip(names, self.joints, other.joints, strict=True):
            for field, field_name in FIELD_NAMES.items():
                was, found = getattr(mine, field), getattr(others, field)
                if was != found:
                    return f"{field_name} of {name} is {_shown(found)}, was {_shown(was)}"
        return ""


def nominal_identity(profile: ArmProfile) -> ArmIdentity:
    """The arm that the profile describes, with STS3215 servos without offsets: valid for the simulated arm only."""
    return ArmIdentity(
        tuple(
            JointIdentity(entry.servo_id, NOMINAL_MODEL, (0, 0), 0, entry.range_min_ticks, entry.range_max_ticks)
            for entry in nominal_calibration(profile).joints
        )
    )


def _shown(value: int | tuple[int, int]) -> str:
    return f"{value[0]}.{value[1]}" if isinstance(value, tuple) else str(value)
