"""The health of an arm at one moment: every joint's reading, judged by the limits of its profile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sefa_edge.edge.arm_service.servo_reading import ServoReading
from sefa_edge.edge.arm_service.servo_words import status_words
from sefa_edge.firmware_bridge.host.calibration import JointScale
from sefa_edge.profiles.schema import ArmProfile, JointProfile, LimitTable


@dataclass(frozen=True, slots=True)
class JointHealth:
    """One joint. `reading` None: its servo is silent. `scale` None: its zero is not known."""

    joint: JointProfile
    reading: ServoReading | None
    scale: JointScale | None
    trouble: tuple[str, ...]
    """Names of the columns whose value is beyond the profile's limits; `silent` stands alone."""
    warm: bool

    def in_joint_units(self, ticks: int) -> float | None:
        return None if self.scale is None else self.scale.to_joint(ticks)

    def as_plain(self) -> dict[str, object]:
        reading, joint = self.reading, self.joint
        plain: dict[str, object] = {
            "joint": joint.name,
            "servo_id": joint.servo_id,
            "unit": joint.unit,
            "answers": reading is not None,
            "trouble": list(self.trouble),
        }
        if reading is None:
            return plain
        return plain | {
            "torque": reading.torque,
            "position_ticks": reading.position_ticks,
            "position": _rounded(self.in_joint_units(reading.position_ticks)),
            "goal_ticks": reading.goal_ticks,
            "goal": _rounded(self.in_joint_units(reading.goal_ticks)),
            "temperature_c": reading.temperature_c,
            "supply_mv": reading.supply_mv,
            "load_pct": round(reading.load_pct, 1),
            "current_ma": round(reading.current_ma, 1),
            "status_bits": reading.status_bits,
            "status": status_words(reading.status_bits),
        }


@dataclass(frozen=True, slots=True)
class ArmHealth:
    """All joints of an arm, in the profile's order."""

    arm: str
    port: str
    joints: tuple[JointHealth, ...]

    @property
    def is_silent(self) -> bool:
        return all(joint.reading is None for joint in self.joints)

    @property
    def is_well(self) -> bool:
        return not any(joint.trouble for joint in self.joints)

    def as_json(self) -> str:
        joints = [joint.as_plain() for joint in self.joints]
        content = {"arm": self.arm, "port": self.port, "well": self.is_well, "joints": joints}
        return json.dumps(content, indent=2) + "\n"


def judge_health(
    profile: ArmProfile, port: str, readings: Sequence[ServoReading | None], scales: Sequence[JointScale | None]
) -> ArmHealth:
    """What the profile's limits say about one reading; the guard of a run waits for several in a row."""
    limits = profile.limit_table()
    joints = [
        _judge(joint, index, reading, scale, limits)
        for index, (joint, reading, scale) in enumerate(zip(profile.joints, readings, scales, strict=True))
    ]
    return ArmHealth(profile.name, port, tuple(joints))


def _judge(
    joint: JointProfile, index: int, reading: ServoReading | None, scale: JointScale | None, limits: LimitTable
) -> JointHealth:
    if reading is None:
        return JointHealth(joint, None, scale, ("silent",), warm=False)
    health = limits.health
    beyond = {
        "temperature": reading.temperature_c > health.max_temperature_c,
        "supply": not health.supply_min_mv <= reading.supply_mv <= health.supply_max_mv,
        "load": abs(reading.load_pct) > health.max_load_pct[index],
        "current": abs(reading.current_ma) > health.max_current_ma[index],
        "status": reading.status_bits != 0,
    }
    trouble = tuple(name for name, is_beyond in beyond.items() if is_beyond)
    return JointHealth(joint, reading, scale, trouble, warm=reading.temperature_c > health.warn_temperature_c)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
