"""The health of an arm: one reading of every joint, checked against the limits of its profile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sefa_edge.firmware_bridge.host.calibration import JointScale
from sefa_edge.firmware_bridge.host.feetech.identity import model_hint
from sefa_edge.firmware_bridge.host.feetech.registers import MODE_POSITION, OPERATING_MODE, mode_name
from sefa_edge.firmware_bridge.host.status_text import status_text
from sefa_edge.firmware_bridge.service.servo_reading import ServoKind, ServoReading
from sefa_edge.profiles.schema import ArmProfile, JointProfile, LimitTable
from sefa_edge.profiles.servo_models import model_numbers, servo_model


@dataclass(frozen=True, slots=True)
class JointHealth:
    """One joint. `reading` None: its servo does not answer. `scale` None: its zero is unknown."""

    joint: JointProfile
    reading: ServoReading | None
    scale: JointScale | None
    kind: ServoKind | None
    """None: not read."""
    trouble: tuple[str, ...]
    """Names of the columns beyond the profile's limits, and `mode` (not position) or `model` (not allowed by the
    profile); or `silent` alone."""
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
        if self.kind is not None:
            plain |= {
                "model": self.kind.model,
                "model_name": servo_model(self.kind.model).name,
                "operating_mode": self.kind.operating_mode,
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
            "status": status_text(reading.status_bits),
        }

    @property
    def status(self) -> str:
        """The status column: status bits, and a mode or model that kinds the joint unusable."""
        if self.reading is None:
            return "SILENT"
        parts = [status_text(self.reading.status_bits)] if self.reading.status_bits else []
        if self.kind is not None and "mode" in self.trouble:
            parts.append(f"{mode_name(self.kind.operating_mode)} mode")
        if self.kind is not None and "model" in self.trouble:
            parts.append(f"{servo_model(self.kind.model).name}, not allowed")
        return ", ".join(parts) or "ok"


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
    def is_healthy(self) -> bool:
        return not any(joint.trouble for joint in self.joints)

    def remedies(self) -> list[str]:
        """One line for each unusable servo: what is wrong, and what to do."""
        lines = []
        for health in self.joints:
            kind, joint = health.kind, health.joint
            if kind is None:
                continue
            if "mode" in health.trouble:
                lines.append(
                    f"{joint.name}: {mode_name(kind.operating_mode)} mode (register {OPERATING_MODE.address} is "
                    f"{kind.operating_mode}, {MODE_POSITION} is position): sefa-edge arm configure --arm {self.arm} "
                    f"--port {self.port} --write-eeprom"
                )
            if "model" in health.trouble:
                lines.append(f"{joint.name}: {model_hint(kind.model, joint.name)}")
        return lines

    def as_json(self) -> str:
        joints = [joint.as_plain() for joint in self.joints]
        content = {"arm": self.arm, "port": self.port, "well": self.is_healthy, "joints": joints}
        return json.dumps(content, indent=2) + "\n"


def judge_health(
    profile: ArmProfile,
    port: str,
    readings: Sequence[ServoReading | None],
    scales: Sequence[JointScale | None],
    kinds: Sequence[ServoKind | None],
) -> ArmHealth:
    """Check one reading against the profile; the guard of a run waits for several consecutive ones."""
    limits = profile.limit_table()
    joints = []
    for index, (joint, reading, scale, kind) in enumerate(zip(profile.joints, readings, scales, kinds, strict=True)):
        unfit = _unfit(profile, joint, kind)
        joints.append(_judge(JointHealth(joint, reading, scale, kind, unfit, warm=False), index, limits))
    return ArmHealth(profile.name, port, tuple(joints))


def _judge(unjudged: JointHealth, index: int, limits: LimitTable) -> JointHealth:
    reading, health = unjudged.reading, limits.health
    if reading is None:
        return replace(unjudged, trouble=("silent",))
    beyond = {
        "temperature": reading.temperature_c > health.max_temperature_c,
        "supply": not health.supply_min_mv <= reading.supply_mv <= health.supply_max_mv,
        "load": abs(reading.load_pct) > health.max_load_pct[index],
        "current": abs(reading.current_ma) > health.max_current_ma[index],
        "status": reading.status_bits != 0,
    }
    trouble = tuple(name for name, is_beyond in beyond.items() if is_beyond)
    warm = reading.temperature_c > health.warn_temperature_c
    return replace(unjudged, trouble=trouble + unjudged.trouble, warm=warm)


def _unfit(profile: ArmProfile, joint: JointProfile, kind: ServoKind | None) -> tuple[str, ...]:
    if kind is None:
        return ()
    wrong = {
        "mode": kind.operating_mode != MODE_POSITION,
        "model": kind.model not in model_numbers(profile.models_of(joint)),
    }
    return tuple(name for name, is_wrong in wrong.items() if is_wrong)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
