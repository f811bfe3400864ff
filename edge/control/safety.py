"""Limiter and guard. Two pure functions: `check` is the limiter, the only one that makes a JointGoal for a moving arm;
`judge` is the guard, and reports in every tick what is wrong with the arm, and which process is silent.

The limiter. Every command satisfies position, velocity and acceleration limits together, in every joint, at every tick.
The three can conflict: a joint that moves fast towards its end stop cannot be stopped there inside its
acceleration limit. So a joint never moves faster than it can still brake. Braking by `change` per tick from a
step `s` covers

    s + (s - change) + (s - 2 change) + ...  =  (m + 1) s - change m (m + 1) / 2        m = floor(s / change)

and a step is feasible when that distance fits between the joint and its limit. Its inverse is `fastest_step`: the
longest step that can still stop within a given room. It bounds the step at the limits, and it tracks the setpoint:
in a frame of reference that moves with the setpoint, the joint takes the longest step that can still stop there. So

- a setpoint inside the limits passes unchanged, and its clipped bits stay zero;
- one outside them is approached as fast as the limits allow, without overshoot when it is at rest;
- once feasible, always feasible: whatever the next setpoint is, there is a feasible step.

Time advances by one period per tick even when ticks were skipped: after a stall the arm continues without a
jump.

The guard. Servo readings become a fault when they are bad several times in a row, so that neither noise nor a stall of
the loop makes one; records of other processes are judged by their age. Comparisons test whether a value is inside its
limit, never whether it is outside, so that NaN counts as bad. The table in faults.py says what a fault leads to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.control.shaping import Setpoint
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.firmware_bridge.host.messages import JointGoal, JointState
from sefa_edge.profiles.safety_profile import STATUS_VOLTAGE
from sefa_edge.profiles.schema import HealthLimits, LimitTable
from sefa_edge.profiles.units import NS_PER_S

CLIP_TOLERANCE_DEG = 1e-6
"""A goal that differs from its setpoint by less than this was not clipped, only rounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """A LimitTable for one control period; arrays float64 [n]."""

    min_deg: np.ndarray
    max_deg: np.ndarray
    step_deg: np.ndarray
    """Longest step in one tick: the velocity limit."""
    change_deg: np.ndarray
    """Largest change of the step from one tick to the next: the acceleration limit."""
    period_s: float
    expiry_ns: int

    @classmethod
    def of(cls, limits: LimitTable, period_ns: int) -> Envelope:
        period_s = period_ns / NS_PER_S
        return cls(
            min_deg=limits.min_deg,
            max_deg=limits.max_deg,
            step_deg=limits.max_velocity_deg_s * period_s,
            change_deg=limits.max_acceleration_deg_s2 * period_s**2,
            period_s=period_s,
            expiry_ns=limits.goal_timeout_ns,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Commanded:
    """The last command: the position [n], and the step [n] that led there."""

    sequence: int
    joint_deg: np.ndarray
    step_deg: np.ndarray

    @classmethod
    def standing(cls, joint_deg: np.ndarray) -> Commanded:
        """An arm at rest at a measured pose, which may lie outside the limits."""
        return cls(0, joint_deg.astype(np.float64), np.zeros(len(joint_deg)))

    def after(self, goal: JointGoal, left_out: np.ndarray | np.bool_ = np.False_) -> Commanded:
        """The state once `goal` has been sent; joints that were left out, bool [n], stay as they are."""
        joint_deg = np.where(left_out, self.joint_deg, goal.joint_deg)
        step_deg = np.where(left_out, self.step_deg, goal.joint_deg - self.joint_deg)
        return Commanded(goal.sequence, joint_deg, step_deg)

    def continued(self, envelope: Envelope) -> Setpoint:
        """Position and velocity in this tick if the joints repeated their last step."""
        return Setpoint(self.joint_deg + self.step_deg, self.step_deg / envelope.period_s)

    def stopping_deg(self, envelope: Envelope) -> np.ndarray:
        """Where the joints [n] come to rest if they brake now; constant while they do."""
        first_step = np.maximum(np.abs(self.step_deg) - envelope.change_deg, 0.0)
        return self.joint_deg + np.sign(self.step_deg) * stopping_distance(first_step, envelope.change_deg)


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """A goal that may be sent, and the joints in which it was clipped; or a fault and no goal."""

    goal: JointGoal | None
    clipped_bits: int
    fault: Fault | None


def check(setpoint: Setpoint, commanded: Commanded, envelope: Envelope, now_ns: int) -> Verdict:
    """The feasible command nearest to the setpoint. NaN or infinity gives no goal (Fault.BAD_CHUNK)."""
    here_deg, change_deg = commanded.joint_deg, envelope.change_deg
    wanted_deg = np.clip(setpoint.joint_deg, envelope.min_deg, envelope.max_deg)
    drift_deg = np.clip(setpoint.velocity_deg_s * envelope.period_s, -envelope.step_deg, envelope.step_deg)
    drift_deg = np.where(wanted_deg == setpoint.joint_deg, drift_deg, 0.0)
    gap_deg = wanted_deg - drift_deg - here_deg
    step_deg = drift_deg + np.copysign(fastest_step(np.abs(gap_deg), change_deg), gap_deg)

    room_above, room_below = envelope.max_deg - here_deg, here_deg - envelope.min_deg
    highest = np.minimum(commanded.step_deg + change_deg, envelope.step_deg)
    lowest = np.maximum(commanded.step_deg - change_deg, -envelope.step_deg)
    step_deg = np.maximum(step_deg, np.maximum(lowest, -fastest_step(room_below, change_deg)))
    step_deg = np.minimum(step_deg, np.minimum(highest, fastest_step(room_above, change_deg)))

    # A joint found outside its limits may move back inside, never further out.
    floor_deg, ceiling_deg = np.minimum(envelope.min_deg, here_deg), np.maximum(envelope.max_deg, here_deg)
    goal_deg = np.clip(here_deg + step_deg, floor_deg, ceiling_deg)
    if not (np.isfinite(setpoint.joint_deg).all() and np.isfinite(goal_deg).all()):
        return Verdict(None, 0, Fault.BAD_CHUNK)
    clipped = bits(np.abs(goal_deg - setpoint.joint_deg) > CLIP_TOLERANCE_DEG)
    return Verdict(JointGoal(commanded.sequence + 1, now_ns, now_ns + envelope.expiry_ns, goal_deg), clipped, None)


def stopping_distance(step_deg: np.ndarray, change_deg: np.ndarray) -> np.ndarray:
    """Distance [n] covered by a step >= 0 and the shorter and shorter ones that follow until rest."""
    m = np.floor(step_deg / change_deg)
    return (m + 1) * step_deg - change_deg * m * (m + 1) / 2


def fastest_step(room_deg: np.ndarray, change_deg: np.ndarray) -> np.ndarray:
    """The inverse: the longest step [n] whose stopping distance fits into the room [n]; zero without room."""
    room_deg = np.maximum(room_deg, 0.0)
    m = np.floor((np.sqrt(1 + 8 * room_deg / change_deg) - 1) / 2)
    return (room_deg + change_deg * m * (m + 1) / 2) / (m + 1)


def bits(mask: np.ndarray) -> int:
    """A boolean array [n <= 32] as an integer: bit i is joint i."""
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")


FASTEST_DEG_S = 720.0
"""Faster than any joint moves: an STS3215 turns at 312 degrees per second without load (7.4 V), and a limp joint that
falls, held back by its gears, at less than that."""

READING_NOISE_DEG = 4.0
"""Allowance for encoder noise and for jitter of the time between two readings."""


def plausible(joint_deg: np.ndarray, before_deg: np.ndarray, elapsed_ns: np.ndarray) -> np.ndarray:
    """Boolean [n]: whether joints can be at `joint_deg` if they were at `before_deg` `elapsed_ns` ago."""
    farthest_deg = FASTEST_DEG_S * elapsed_ns / NS_PER_S + READING_NOISE_DEG
    return np.abs(joint_deg - before_deg) <= farthest_deg


READING_FAULTS = (
    Fault.OVERHEATED,
    Fault.OVERCURRENT,
    Fault.OVERLOADED,
    Fault.SUPPLY_VOLTAGE,
    Fault.SERVO_STATUS,
    Fault.FOLLOWING_ERROR,  # while a policy moves the arm
    Fault.FOLLOWING_ERROR,  # in a planned move
)
"""What each row of GuardState.bad_readings leads to."""


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """The health limits of a LimitTable for one control period."""

    health: HealthLimits
    command_timeout_ns: int
    patience: np.ndarray
    """int64 [rows, 1]: bad readings in a row that make a fault, in the order of READING_FAULTS."""

    @classmethod
    def of(cls, limits: LimitTable, period_ns: int) -> Guard:
        health = limits.health
        times_ns = (
            health.temperature_ns, health.current_ns, health.load_ns, health.supply_ns, health.status_ns,
            health.tracking_ns, health.planned_tracking_ns,
        )  # fmt: skip
        readings = [max(1, -(-time_ns // period_ns)) for time_ns in times_ns]
        return cls(health, limits.goal_timeout_ns, np.array(readings)[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class GuardState:
    """int64 [rows, n]: bad readings in a row since the mode began; the counts of a silent joint do not change."""

    mode: Mode
    bad_readings: np.ndarray

    @classmethod
    def fresh(cls, mode: Mode, joints: int) -> GuardState:
        return cls(mode, np.zeros((len(READING_FAULTS), joints), np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """The input of the guard in one tick."""

    mode: Mode
    reading: JointState
    answered: np.ndarray
    """Boolean [n]: the joints that answered in this very tick."""
    commanded_deg: np.ndarray
    fed_ns: int
    """When the setpoint source last had something to play, or when RUNNING began."""
    awaits_first_chunk: bool
    heartbeat_ns: int | None
    """When the supervisor last sent a heartbeat; None: it never has."""
    move_end_ns: int
    """When the planned move ends."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault, and the joints that it is about (bit i is joint i; 0: no joint)."""

    fault: Fault
    joints: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong now; a fault is reported in every tick for as long as it lasts. `warm`: bit i is joint i."""

    findings: tuple[Finding, ...]
    warm: int


def judge(state: GuardState, seen: Situation, guard: Guard, now_ns: int) -> tuple[GuardState, Judgement]:
    """Count the bad values of this reading, and find those that have been bad for too long."""
    before = state if state.mode is seen.mode else GuardState.fresh(seen.mode, len(seen.answered))
    counted = np.where(_inside_limits(seen, guard.health), 0, before.bad_readings + 1)
    bad_readings = np.where(seen.answered, counted, before.bad_readings)
    too_long = bad_readings >= guard.patience
    findings = [
        Finding(fault, 0 if fault is Fault.SUPPLY_VOLTAGE else bits(too_long[row]))  # all joints share one supply
        for row, fault in enumerate(READING_FAULTS)
        if too_long[row].any()
    ]
    findings += [Finding(fault) for fault, is_silent in _silences(seen, guard, now_ns).items() if is_silent]
    warm = bits(seen.reading.temperature_c > guard.health.warn_temperature_c)
    return GuardState(seen.mode, bad_readings), Judgement(tuple(findings), warm)


def _inside_limits(seen: Situation, health: HealthLimits) -> np.ndarray:
    """Boolean [rows, n]: whether a reading is inside its limits, in the order of READING_FAULTS."""
    reading, mode = seen.reading, seen.mode
    follows = np.abs(seen.commanded_deg - reading.joint_deg) <= health.max_lag_deg
    supplied = health.supply_min_mv <= reading.supply_mv <= health.supply_max_mv
    forgiven = health.forgiven_status_bits if supplied else health.forgiven_status_bits | STATUS_VOLTAGE
    return np.stack(
        (
            reading.temperature_c <= health.max_temperature_c,
            np.abs(reading.current_ma) <= health.max_current_ma,
            np.abs(reading.load_pct) <= health.max_load_pct,
            np.full(len(follows), supplied),
            reading.status_bits & ~forgiven == 0,  # one problem, one fault: the row of the supply reports it
            follows | (mode is not Mode.RUNNING),
            follows | (mode not in (Mode.ARMED, Mode.PARK)),
        )
    )


def _silences(seen: Situation, guard: Guard, now_ns: int) -> dict[Fault, bool]:
    """Per fault, whether the event that prevents it is overdue."""
    health = guard.health
    patience_ns = health.first_chunk_ns if seen.awaits_first_chunk else guard.command_timeout_ns
    beat_ns = seen.heartbeat_ns
    return {
        Fault.CHUNK_TIMEOUT: seen.mode is Mode.RUNNING and now_ns - seen.fed_ns > patience_ns,
        Fault.SUPERVISOR_SILENT: beat_ns is not None and now_ns - beat_ns > health.heartbeat_ns,
        Fault.PARK_TIMEOUT: seen.mode is Mode.PARK and now_ns - seen.move_end_ns > health.park_timeout_ns,
    }
