"""The arm profile: joints, limits, calibration, poses. Loaded from `profiles/arms/*.yaml` or a user's file."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from typing_extensions import Self

from sefa_edge.profiles.ceilings import above, ceilings_of, milliseconds
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.problems import TAG_MARK
from sefa_edge.profiles.quantities import ControlRateHz, Int64, PositionDeg, Real, Whole
from sefa_edge.profiles.safety_profile import STATUS_OVERLOAD, SUPPLY_RANGES_MV, PlannedVelocity, SafetyProfile
from sefa_edge.profiles.servo_models import STS3215, USABLE_NAMES
from sefa_edge.profiles.servo_settings import ServoSettings
from sefa_edge.profiles.strict import StrictModel
from sefa_edge.profiles.units import LEROBOT_TICKS_PER_TURN, SERVO_TICKS_PER_TURN, ms_to_ns

Ticks = Annotated[int, Whole("a position", 0, 4095, "ticks")]
Velocity = Annotated[float, Real("a velocity", 0.0, 10_000.0, "units/s", above_lowest=True)]
Acceleration = Annotated[float, Real("an acceleration", 0.0, 1_000_000.0, "units/s2", above_lowest=True)]
Milliamperes = Annotated[float, Real("a current", 0.0, 100_000.0, "mA", above_lowest=True)]
ErrorBudget = Annotated[float, Real("an error", 0.0, 5.0, "degrees", above_lowest=True)]
SuccessPoints = Annotated[float, Real("a loss of success", 0.0, 20.0, "percentage points", above_lowest=True)]
TrackingError = Annotated[float, Real("an error", 0.0, 45.0, "degrees", above_lowest=True)]


JointUnit = Literal["degrees", "range_percent", "percent"]
"""Unit of a joint: degrees around the middle of its calibrated range; -100..100 over that range (what LeRobot calls
`use_degrees` False, its default up to 0.4.3); 0..100 over it (grippers)."""

WHOLE_TURN_DEG = 360.0

UNIT_BOUNDS: dict[JointUnit, tuple[float, float]] = {"range_percent": (-100.0, 100.0), "percent": (0.0, 100.0)}
"""Bounds of a joint in percent."""

Baud = Literal[1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400]
"""The speeds of an STS servo (register 6)."""


def _usable_model(name: str) -> str:
    if name not in USABLE_NAMES:
        raise ValueError(f"'{name}' is not a usable servo model; expected {', '.join(USABLE_NAMES)}")
    return name


ServoModels = Annotated[tuple[Annotated[str, AfterValidator(_usable_model)], ...], Field(min_length=1, max_length=8)]
"""Names of servo models, see `profiles/servo_models.py`."""


class JointProfile(StrictModel):
    """One joint. Fields named `_deg` are in the joint's own unit, which may be percent."""

    name: str
    servo_id: Annotated[int, Whole("an id", 0, 253)]
    unit: JointUnit
    min_deg: PositionDeg
    max_deg: PositionDeg
    max_velocity_deg_s: Velocity
    max_acceleration_deg_s2: Acceleration
    max_current_ma: Milliamperes = 2000.0
    """More than this for longer than `safety.current_ms` is a fault. An STS3215 stalls at about 2400 mA at 7.4 V."""
    range_min_ticks: Ticks
    range_max_ticks: Ticks
    """Nominal calibration; on a real arm it is replaced by the calibration file or the servos' registers."""
    servo: ServoSettings = ServoSettings()
    """Settings of this servo that differ from the arm's `servo`."""
    servo_models: ServoModels | None = None
    """Servo models allowed in this joint; None: those of the arm."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_deg >= self.max_deg:
            raise ValueError(f"min_deg {self.min_deg} must be below max_deg {self.max_deg}")
        if self.range_min_ticks >= self.range_max_ticks:
            raise ValueError("range_min_ticks must be below range_max_ticks")
        if self.max_deg - self.min_deg > WHOLE_TURN_DEG:
            raise ValueError(
                f"{self.min_deg}..{self.max_deg} is more than a whole turn, which no servo of an arm can make"
            )
        lowest, highest = UNIT_BOUNDS.get(self.unit, (-math.inf, math.inf))
        if not lowest <= self.min_deg < self.max_deg <= highest:
            raise ValueError(
                f"{self.min_deg}..{self.max_deg} is not inside {lowest:g}..{highest:g}, "
                f"the range of a joint in {self.unit.replace('_', ' ')}"
            )
        return self

    @property
    def ticks_per_unit(self) -> float:
        """Servo ticks per degree, as LeRobot counts them, or per percent of the nominal range."""
        if self.unit == "degrees":
            return LEROBOT_TICKS_PER_TURN / WHOLE_TURN_DEG
        lowest, highest = UNIT_BOUNDS[self.unit]
        return (self.range_max_ticks - self.range_min_ticks) / (highest - lowest)

    @property
    def degrees_per_unit(self) -> float:
        """Degrees that the servo turns per unit of the joint, by the nominal calibration."""
        return 1.0 if self.unit == "degrees" else self.ticks_per_unit * WHOLE_TURN_DEG / SERVO_TICKS_PER_TURN

    @property
    def turns_freely(self) -> bool:
        """A joint without ends (the wrist's roll): its range is the whole turn."""
        return (self.range_min_ticks, self.range_max_ticks) == (0, 4095)


class ActionErrorBudget(StrictModel):
    """How far an exported engine's actions may be from the network's: 99th percentile over all joints and steps."""

    fp32_p99_deg: ErrorBudget = 0.005
    fp16_p99_deg: ErrorBudget = 0.05
    int8_p99_deg: ErrorBudget = 0.5
    success_points: SuccessPoints = 2.0
    """Percentage points of closed-loop success that may be lost, in addition to chance."""

    def p99_deg(self, precision: Literal["fp32", "fp16", "int8"]) -> float:
        return {"fp32": self.fp32_p99_deg, "fp16": self.fp16_p99_deg, "int8": self.int8_p99_deg}[precision]


class FeetechBus(StrictModel):
    """Feetech servos on a serial line."""

    kind: Literal["feetech"]
    baud: Baud
    register_7: Literal["return_delay", "reserved"] = "return_delay"
    """Sources disagree on it: a delay of 2 us per count before every answer (LeRobot), for which a state read waits
    longer, or reserved (Feetech's memory table of STS servos)."""


Setting = bool | Int64 | Annotated[float, Real("a setting", -1e12, 1e12)] | Annotated[str, Field(max_length=256)]


class OtherBus(StrictModel):
    """A bus that another distribution provides (`firmware_bridge/host/open_arm.py`); it checks its own settings."""

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    settings: dict[str, Setting] = Field(default_factory=dict, max_length=32)


FEETECH_TAG, OTHER_TAG = f"{TAG_MARK}feetech", f"{TAG_MARK}other"


def _bus_tag(bus: object) -> str:
    kind = bus.get("kind") if isinstance(bus, dict) else getattr(bus, "kind", None)
    return FEETECH_TAG if kind == "feetech" else OTHER_TAG


Bus = Annotated[
    Annotated[FeetechBus, Tag(FEETECH_TAG)] | Annotated[OtherBus, Tag(OTHER_TAG)],
    Discriminator(_bus_tag),
]


class ArmProfile(StrictModel):
    """An arm: its bus, its joints in policy order, its poses and its timing."""

    schema_version: Literal[1]
    name: str
    bus: Bus
    """The bus that connects the arm."""
    control_rate_hz: ControlRateHz
    goal_timeout_ms: Annotated[float, milliseconds(5000.0)]
    """Age at which the newest action chunk is no longer executed (hold, then park)."""
    move_velocity_deg_s: PlannedVelocity
    """Speed of the planned move to the start pose."""
    tracking_error_deg: TrackingError
    """A joint that lags by more than this for longer than `safety` allows is obstructed."""
    safety: SafetyProfile = SafetyProfile()
    action_error_budget: ActionErrorBudget = ActionErrorBudget()
    servo: ServoSettings = ServoSettings()
    """Settings of every servo; a joint's own `servo` takes precedence."""
    servo_models: ServoModels = (STS3215.name,)
    """Servo models that the arm may have; another one is refused before anything is written."""
    start_pose_deg: list[PositionDeg]
    park_pose_deg: list[PositionDeg]
    joints: Annotated[list[JointProfile], Field(min_length=1, max_length=32)]

    @classmethod
    def from_older(cls, content: object) -> object:
        """Converts `bus: feetech` with `baud` and `register_7` at the top level to one object."""
        if isinstance(content, dict) and content.get("bus") == "feetech":
            settings = {key: content[key] for key in ("baud", "register_7") if key in content}
            rest = {key: value for key, value in content.items() if key not in settings}
            return rest | {"bus": {"kind": "feetech"} | settings}
        return content

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
                raise ValueError(f"two joints have the same {field}")
        for joint in self.joints:
            if excess := self._above_ceiling(joint):
                raise ValueError(f"{joint.name}: {excess}")
        for joint, settings in zip(self.joints, self.servo_settings(), strict=True):
            if contradiction := settings.contradiction():
                raise ValueError(f"servo of {joint.name}: {contradiction}")
        return self

    def _above_ceiling(self, joint: JointProfile) -> str:
        """What exceeds the ceilings of the joint's servos, as text; empty: nothing does."""
        ceilings, scale = ceilings_of(self.models_of(joint)), joint.degrees_per_unit
        velocity, acceleration = joint.max_velocity_deg_s * scale, joint.max_acceleration_deg_s2 * scale
        return (
            above("max_velocity_deg_s", velocity, ceilings.velocity_deg_s, "deg/s")
            or above("max_acceleration_deg_s2", acceleration, ceilings.acceleration_deg_s2, "deg/s2")
            or above("max_current_ma", joint.max_current_ma, ceilings.current_ma, "mA")
            or above("max_temperature_c", self.safety.max_temperature_c, ceilings.temperature_c, "degrees Celsius")
        )

    @property
    def feetech(self) -> FeetechBus:
        """The settings of its Feetech bus. Raises InputError for an arm on another one."""
        if isinstance(self.bus, FeetechBus):
            return self.bus
        raise InputError(
            f"the arm {self.name} is on a bus of kind '{self.bus.kind}', not on Feetech servos",
            "this command works on the servos directly; use an arm whose profile says `kind: feetech`",
        )

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    def models_of(self, joint: JointProfile) -> tuple[str, ...]:
        """Names of the servo models allowed in a joint."""
        return self.servo_models if joint.servo_models is None else joint.servo_models

    def servo_settings(self) -> tuple[ServoSettings, ...]:
        """The settings of each joint's servo."""
        return tuple(joint.servo.over(self.servo) for joint in self.joints)

    def limit_table(self) -> LimitTable:
        """The part of the profile that the safety layer enforces."""
        return LimitTable(
            joint_names=self.joint_names,
            min_deg=self._column("min_deg"),
            max_deg=self._column("max_deg"),
            max_velocity_deg_s=self._column("max_velocity_deg_s"),
            max_acceleration_deg_s2=self._column("max_acceleration_deg_s2"),
            goal_timeout_ns=ms_to_ns(self.goal_timeout_ms),
            health=self._health_limits(),
        )

    def _health_limits(self) -> HealthLimits:
        safety = self.safety
        supply_min_mv, supply_max_mv = SUPPLY_RANGES_MV[safety.supply]
        return HealthLimits(
            max_lag_deg=self._except_grippers(self.tracking_error_deg),
            max_load_pct=self._except_grippers(safety.max_load_pct),
            max_current_ma=self._column("max_current_ma"),
            warn_temperature_c=safety.warn_temperature_c,
            max_temperature_c=safety.max_temperature_c,
            supply_min_mv=supply_min_mv,
            supply_max_mv=supply_max_mv,
            temperature_ns=ms_to_ns(safety.temperature_ms),
            current_ns=ms_to_ns(safety.current_ms),
            load_ns=ms_to_ns(safety.load_ms),
            supply_ns=ms_to_ns(safety.supply_ms),
            status_ns=ms_to_ns(safety.status_ms),
            forgiven_status_bits=_read_only(
                [STATUS_OVERLOAD if joint.unit == "percent" else 0 for joint in self.joints], np.uint8
            ),
            tracking_ns=ms_to_ns(safety.tracking_ms),
            planned_tracking_ns=ms_to_ns(safety.planned_tracking_ms),
            first_chunk_ns=ms_to_ns(safety.first_chunk_ms),
            heartbeat_ns=ms_to_ns(safety.heartbeat_ms),
            park_timeout_ns=ms_to_ns(safety.park_timeout_ms),
        )

    def _column(self, field: str) -> np.ndarray:
        return _read_only([getattr(joint, field) for joint in self.joints])

    def _except_grippers(self, limit: float) -> np.ndarray:
        """The limit, infinite for a gripper, which is meant to be stopped by an object."""
        return _read_only([limit if joint.unit != "percent" else np.inf for joint in self.joints])


def _read_only(values: list[float], dtype: type[np.generic] = np.float64) -> np.ndarray:
    column = np.array(values, dtype)
    column.setflags(write=False)
    return column


@dataclass(frozen=True, slots=True, eq=False)
class HealthLimits:
    """Limits of servo readings and missing answers that end a run; see SafetyProfile. Arrays [n] are read-only."""

    max_lag_deg: np.ndarray
    """Infinite where a joint need not follow."""
    max_load_pct: np.ndarray
    max_current_ma: np.ndarray
    warn_temperature_c: float
    max_temperature_c: float
    supply_min_mv: int
    supply_max_mv: int
    temperature_ns: int
    current_ns: int
    load_ns: int
    supply_ns: int
    status_ns: int
    forgiven_status_bits: np.ndarray
    """uint8: status bits that are not a fault in this joint."""
    tracking_ns: int
    planned_tracking_ns: int
    first_chunk_ns: int
    heartbeat_ns: int
    park_timeout_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class LimitTable:
    """Per-joint limits [n], in the profile's joint order. Arrays are read-only float64."""

    joint_names: tuple[str, ...]
    min_deg: np.ndarray
    max_deg: np.ndarray
    max_velocity_deg_s: np.ndarray
    max_acceleration_deg_s2: np.ndarray
    goal_timeout_ns: int
    health: HealthLimits

    @property
    def hash(self) -> str:
        """Short hash with which two programs check that they enforce the same limits."""
        digest = hashlib.sha256(",".join(self.joint_names).encode())
        for table in (self, self.health):
            for field in fields(table):
                value = getattr(table, field.name)
                if isinstance(value, np.ndarray):
                    digest.update(value.tobytes())
                elif isinstance(value, (int, float)):
                    digest.update(f"{field.name}={value};".encode())
        return digest.hexdigest()[:16]
