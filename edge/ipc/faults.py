"""The fault table: each fault with its outcome, message and hint."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Fault(IntEnum):
    """Codes are part of the record format: never reuse one."""

    NONE = 0
    SUPERVISOR_LOST = 1
    POLICY_LOST = 2
    CHUNK_TIMEOUT = 3
    BAD_CHUNK = 4
    ARM_TIMEOUT = 5
    ARM_DISCONNECTED = 6
    FOLLOWING_ERROR = 7
    SERVO_STATUS = 8
    LOOP_OVERRUN = 9
    TORQUE_REFUSED = 10
    CAMERA_STALE = 11
    CAMERA_FROZEN = 12
    CAMERA_DARK = 13
    CAMERA_SKEW = 14
    ENGINE_FAILED = 15
    OVERHEATED = 16
    OVERCURRENT = 17
    OVERLOADED = 18
    SUPPLY_VOLTAGE = 19
    SUPERVISOR_SILENT = 20
    PARK_TIMEOUT = 21
    EMERGENCY_STOP = 22
    POWER_LOST = 23
    ENCODER = 24
    OTHER_ARM = 25
    OUTSIDE_RANGE = 26
    POSITION_UNSURE = 27


class Outcome(IntEnum):
    """What a fault leads to. Deadlines: the acceleration limit for hold; for the rest `safety` of the arm's profile."""

    PARK = 1  # hold, park, release, exit; left holding when the park pose is blocked
    AWAIT_ARM = 2  # hold; if the arm is back within the recovery time, as PARK, otherwise as LEAVE
    LEAVE = 3  # send nothing more, leave the torque as it is, exit
    RELEASE = 4  # torque off at once, read back, repeated until every servo confirms it, exit
    HOLD = 5  # stop, leave the torque as it is, exit


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One row of the fault table: the outcome, the message, and what the user can do."""

    outcome: Outcome
    message: str
    hint: str


FAULTS = {
    Fault.SUPERVISOR_LOST: FaultRow(
        Outcome.PARK,
        "the supervisor process is gone",
        "it was killed or it crashed, see its own output. Start the run again",
    ),
    Fault.POLICY_LOST: FaultRow(
        Outcome.PARK,
        "the policy process is gone",
        "see its output above; out of memory is the usual reason",
    ),
    Fault.CHUNK_TIMEOUT: FaultRow(
        Outcome.PARK,
        "the policy sent no usable action chunk in time",
        "does the camera deliver, and is inference fast enough? `sefa-edge profile` measures both",
    ),
    Fault.BAD_CHUNK: FaultRow(
        Outcome.PARK,
        "the policy sent an invalid chunk: not finite, or of the wrong shape",
        "the engine and its card do not fit each other, or its weights are broken; export again",
    ),
    Fault.ARM_TIMEOUT: FaultRow(
        Outcome.AWAIT_ARM,
        "servos do not answer",
        "check the arm's power supply and the servo cables, also between the joints",
    ),
    Fault.ARM_DISCONNECTED: FaultRow(
        Outcome.AWAIT_ARM,
        "the arm's port disappeared",
        "check the USB cable and the adapter's power",
    ),
    Fault.FOLLOWING_ERROR: FaultRow(
        Outcome.PARK,
        "the arm does not follow its goal",
        "something is in its way, or a joint is overloaded; clear it and start again",
    ),
    Fault.SERVO_STATUS: FaultRow(
        Outcome.PARK,
        "a servo reports a fault",
        "let it cool down and check the load and the power supply; switching the supply off and on ends an overload",
    ),
    Fault.LOOP_OVERRUN: FaultRow(
        Outcome.PARK,
        "the control loop lost its rate",
        "`sefa-edge bench-loop` checks whether this machine can keep it; or give another --cpu, or a lower --rate",
    ),
    Fault.TORQUE_REFUSED: FaultRow(
        Outcome.LEAVE,
        "a servo did not confirm its torque setting",
        "check cables and power",
    ),
    Fault.CAMERA_STALE: FaultRow(
        Outcome.PARK,
        "a camera gives no fresh picture",
        "check its cable, or try another USB port; `sefa-edge profile` measures the age of pictures",
    ),
    Fault.CAMERA_FROZEN: FaultRow(
        Outcome.PARK,
        "a camera repeats the same picture",
        "its driver hangs: unplug it and plug it in again",
    ),
    Fault.CAMERA_DARK: FaultRow(
        Outcome.PARK,
        "a camera sees nothing",
        "take its cap off, switch the light on, and check its exposure",
    ),
    Fault.CAMERA_SKEW: FaultRow(
        Outcome.PARK,
        "the pictures of the cameras are too far apart in time",
        "give each camera a USB port of its own, or ask for a lower rate",
    ),
    Fault.ENGINE_FAILED: FaultRow(
        Outcome.PARK,
        "the engine failed while it ran",
        "the GPU or its memory may be faulty; `sefa-edge inspect` checks the file, `dmesg` the device",
    ),
    Fault.OVERHEATED: FaultRow(
        Outcome.PARK,
        "a servo is too hot",
        "let it cool down; a pose that holds less weight, or pauses between runs, keep it cooler",
    ),
    Fault.OVERCURRENT: FaultRow(
        Outcome.PARK,
        "a servo draws too much current",
        "something blocks it, or its load is too heavy; `max_current_ma` in the arm's profile is the limit",
    ),
    Fault.OVERLOADED: FaultRow(
        Outcome.PARK,
        "a joint pushes with nearly all its torque and gets nowhere",
        "clear its way, or lighten its load; a grinding gear looks the same",
    ),
    Fault.SUPPLY_VOLTAGE: FaultRow(
        Outcome.PARK,
        "the servos' supply voltage is out of range",
        "is it the power supply of this arm (`supply` in its profile), strong enough, and its plug tight?",
    ),
    Fault.SUPERVISOR_SILENT: FaultRow(
        Outcome.PARK,
        "the supervisor process does not answer",
        "was it stopped (Ctrl-Z, a debugger), or is this machine overloaded?",
    ),
    Fault.PARK_TIMEOUT: FaultRow(
        Outcome.PARK,
        "the arm does not reach its park pose in time",
        "check the cables of its servos; clear its way and start again",
    ),
    Fault.EMERGENCY_STOP: FaultRow(
        Outcome.RELEASE,
        "emergency stop",
        "find out what made it necessary before you start again",
    ),
    Fault.POWER_LOST: FaultRow(
        Outcome.HOLD,
        "a servo lost its power and was not switched on again",
        "check the power supply and the servo cables; then start again",
    ),
    Fault.ENCODER: FaultRow(
        Outcome.HOLD,
        "a servo reports positions that its joint cannot have reached",
        "its encoder or the encoder's magnet is faulty: replace the servo",
    ),
    Fault.OTHER_ARM: FaultRow(
        Outcome.LEAVE,
        "another arm answers on this port, nothing was sent to it",
        "the first arm was left as it was: support it. To use the other one, start a new run",
    ),
    Fault.OUTSIDE_RANGE: FaultRow(
        Outcome.PARK,
        "a joint would jump if it were switched on",
        "move it inside by hand, then start again; or calibrate the arm, if it may stand there",
    ),
    Fault.POSITION_UNSURE: FaultRow(
        Outcome.PARK,
        "a joint gives another position each time it is read",
        "keep the arm still while it is switched on; if it was still, check the cable and the magnet of that servo",
    ),
}
"""The fault table. Every fault ends with exit code 3."""

OBSTRUCTIONS = frozenset({Fault.FOLLOWING_ERROR, Fault.OVERCURRENT, Fault.OVERLOADED, Fault.PARK_TIMEOUT})
"""Faults caused by an obstacle: yield, and do not try again while parking."""


class ArmLeft(IntEnum):
    """How the arm is left at the end of a run."""

    NOT_TOUCHED = 0
    PARKED = 1  # torque off at the park pose
    STAYS_PARKED = 2  # at the park pose, torque on, as the profile says
    RELEASED = 3  # torque off where it stood
    HOLDING = 4
    UNCONFIRMED = 5  # a servo did not confirm its torque setting
    NOT_RELEASED = 6  # an emergency stop that a servo did not confirm
    WITHOUT_POWER = 7  # every joint has lost its power
    LIMP = 8  # no servo holds, for another reason
    UNKNOWN = 9


ARM_LEFT = {
    ArmLeft.NOT_TOUCHED: "arm not touched",
    ArmLeft.PARKED: "arm parked and released",
    ArmLeft.STAYS_PARKED: "arm parked, torque still on",
    ArmLeft.RELEASED: "arm released where it stood",
    ArmLeft.HOLDING: "arm left holding its last goal, torque still on",
    ArmLeft.UNCONFIRMED: "arm left as it is, its torque may be on or off",
    ArmLeft.NOT_RELEASED: "TORQUE NOT CONFIRMED OFF",
    ArmLeft.WITHOUT_POWER: "the arm lost its power and is limp",
    ArmLeft.LIMP: "no servo holds, the arm is limp",
    ArmLeft.UNKNOWN: "the arm may still hold: nothing is known about its torque",
}
"""The text of each."""
