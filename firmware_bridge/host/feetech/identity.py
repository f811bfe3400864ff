"""Which servos are on the bus: is this the arm of the profile, and does it have the calibration of the file?"""

from __future__ import annotations

from dataclasses import dataclass

from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity, JointIdentity
from sefa_edge.firmware_bridge.host.calibration import (
    ENCODER_MAX_TICKS,
    Calibration,
    JointCalibration,
    require_plausible_ranges,
)
from sefa_edge.firmware_bridge.host.errors import ArmFault, ArmTimeout
from sefa_edge.firmware_bridge.host.feetech.protocol import Packet
from sefa_edge.firmware_bridge.host.feetech.registers import (
    COARSE_SPEED_TICKS_S,
    HOMING_OFFSET,
    IDENTITY_BLOCK,
    MAX_POSITION,
    MIN_POSITION,
    MODE_POSITION,
    OPERATING_MODE,
    PHASE_FINE_SPEED,
    RESPONSE_DELAY_NS,
    Register,
    decode_sign_magnitude,
    mode_name,
)
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile, JointProfile
from sefa_edge.profiles.servo_models import model_numbers, servo_model

ATTEMPTS = 5
"""How often a servo is read, outside the loop, before it counts as silent."""

REGISTER_OF_FIELD = {
    "homing_offset": HOMING_OFFSET,
    "range_min_ticks": MIN_POSITION,
    "range_max_ticks": MAX_POSITION,
}
"""Where a servo keeps the numbers of a `JointCalibration`."""


@dataclass(frozen=True, slots=True)
class ServoIdentity:
    """What a servo reports about itself: model, mode, unit of speed, return delay, and its calibration."""

    model: int
    firmware: tuple[int, int]
    """Major and minor number."""
    operating_mode: int
    ticks_s_per_speed_count: int
    return_delay_ns: int
    """Valid if register 7 is a return delay, on which sources disagree."""
    calibration: JointCalibration


def read_identities(bus: ServoBus, profile: ArmProfile) -> tuple[ServoIdentity, ...]:
    """Read the identity of every servo of the profile twice, and check that it can serve as that joint.

    Raises:
        ArmTimeout: a servo does not answer.
        ArmFault: two readings of a servo differ.
        InputError: another model of servo, or one that is not in position mode.
        ArmDisconnected: the port is gone.
    """
    answers = _read_twice(bus, profile)
    servo_ids = [joint.servo_id for joint in profile.joints]
    identities = tuple(_identity(answers[servo_id].parameters) for servo_id in servo_ids)
    for joint, identity in zip(profile.joints, identities, strict=True):
        require_model(joint, profile.models_of(joint), identity.model)
        _require_position_mode(bus.link.port, profile, joint, identity)
    return identities


def arm_identity(identities: tuple[ServoIdentity, ...]) -> ArmIdentity:
    """The numbers that distinguish this arm from any other."""
    return ArmIdentity(
        tuple(
            JointIdentity(
                identity.calibration.servo_id,
                identity.model,
                identity.firmware,
                identity.calibration.homing_offset,
                identity.calibration.range_min_ticks,
                identity.calibration.range_max_ticks,
            )
            for identity in identities
        )
    )


def calibration_of(profile: ArmProfile, identities: tuple[ServoIdentity, ...]) -> Calibration:
    """The calibration in the servos' own registers.

    Raises:
        InputError: the arm was never calibrated, or has an implausible range.
    """
    for joint, identity in zip(profile.joints, identities, strict=True):
        carried = identity.calibration
        full_turn = (carried.range_min_ticks, carried.range_max_ticks) == (0, ENCODER_MAX_TICKS)
        if carried.range_min_ticks >= carried.range_max_ticks or (full_turn and not joint.turns_freely):
            raise InputError(
                f"servo {joint.servo_id} ({joint.name}) is not calibrated: its position limits are "
                f"{carried.range_min_ticks}..{carried.range_max_ticks} (registers 9 and 11)",
                f"calibrate it: sefa-edge calibrate --arm {profile.name} --port PORT; or write a LeRobot file to its "
                "servos: the same with --restore FILE --write-eeprom",
            )
    found = Calibration(tuple(identity.calibration for identity in identities))
    require_plausible_ranges(profile, found, "position limits in the servos (registers 9 and 11)")
    return found


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One number that differs between a calibration and a servo."""

    joint: str
    register: Register
    in_calibration: int
    in_servo: int


def mismatches(profile: ArmProfile, calibration: Calibration, carried: Calibration) -> list[Mismatch]:
    """Every number that differs between a calibration and the servos' registers, joint by joint."""
    return [
        Mismatch(joint.name, register, getattr(wanted, field), getattr(found, field))
        for joint, wanted, found in zip(profile.joints, calibration.joints, carried.joints, strict=True)
        for field, register in REGISTER_OF_FIELD.items()
        if getattr(wanted, field) != getattr(found, field)
    ]


def require_same_calibration(
    profile: ArmProfile, calibration: Calibration, identities: tuple[ServoIdentity, ...]
) -> None:
    """Refuse a calibration that is not the one in the servos: every position would be wrong.

    Raises:
        InputError: names the joint, the register, both values, and both ways to resolve it.
    """
    wrong = mismatches(profile, calibration, Calibration(tuple(identity.calibration for identity in identities)))
    if not wrong:
        return
    first, others = wrong[0], len(wrong) - 1
    more = f"; {others} more {'number differs' if others == 1 else 'numbers differ'}" if others else ""
    is_other = ": is it another arm's file?" if len({entry.joint for entry in wrong}) > 2 else ""
    raise InputError(
        f"the calibration says {first.register.name} {first.in_calibration} for {first.joint}, "
        f"its servo says {first.in_servo} (register {first.register.address}){more}{is_other}",
        f"without --calibration the servos' own numbers are used; to write the file's to the servos: "
        f"sefa-edge calibrate --arm {profile.name} --port PORT --restore FILE --write-eeprom",
    )


def _read_twice(bus: ServoBus, profile: ArmProfile) -> dict[int, Packet]:
    """Answers of all servos by id, each received twice in a row with the same registers."""
    servo_ids = [joint.servo_id for joint in profile.joints]
    newest: dict[int, Packet] = {}
    agreed: dict[int, Packet] = {}
    for _ in range(ATTEMPTS):
        for servo_id, answer in bus.sync_read([i for i in servo_ids if i not in agreed], IDENTITY_BLOCK).items():
            before, newest[servo_id] = newest.get(servo_id), answer
            if before is not None and before.parameters == answer.parameters:
                agreed[servo_id] = answer
        if len(agreed) == len(servo_ids):
            return agreed
    _require_all(bus, profile, newest)
    changing = ", ".join(f"{joint.servo_id} ({joint.name})" for joint in profile.joints if joint.servo_id not in agreed)
    raise ArmFault(
        f"servo {changing} reports other registers each time it is read",
        "do two servos have the same id, or is the cable loose? `sefa-edge arm scan` shows it",
    )


def _require_all(bus: ServoBus, profile: ArmProfile, answers: dict[int, Packet]) -> None:
    silent = [joint for joint in profile.joints if joint.servo_id not in answers]
    if len(silent) == len(profile.joints):
        raise ArmTimeout(
            f"no servo answers on {bus.link.port} at {bus.link.baud} baud",
            "is the arm's power supply on, and is this the right port?",
        )
    if silent:
        names = ", ".join(f"{joint.servo_id} ({joint.name})" for joint in silent)
        raise ArmTimeout(
            f"servo {names} does not answer on {bus.link.port}",
            "check its cable; after an overload a servo may need the supply switched off and on",
        )


def _identity(registers: bytes) -> ServoIdentity:
    major, minor, model, servo_id, _, return_delay, _, low, high, phase, offset, mode = IDENTITY_BLOCK.layout.unpack(
        registers
    )
    return ServoIdentity(
        model=model,
        firmware=(major, minor),
        operating_mode=mode,
        ticks_s_per_speed_count=1 if phase & PHASE_FINE_SPEED else COARSE_SPEED_TICKS_S,
        return_delay_ns=return_delay * RESPONSE_DELAY_NS,
        calibration=JointCalibration(servo_id, 0, decode_sign_magnitude(offset, HOMING_OFFSET.sign_bit), low, high),
    )


def require_model(joint: JointProfile, allowed: tuple[str, ...], number: int) -> None:
    """Refuse a servo whose model the profile does not allow for this joint. Raises InputError."""
    if number in model_numbers(allowed):
        return
    model = servo_model(number)
    raise InputError(
        f"servo {joint.servo_id} ({joint.name}) is {model.full_name}, the arm profile allows {' or '.join(allowed)}",
        model_hint(number, joint.name),
    )


def model_hint(number: int, where: str) -> str:
    """What to do about a servo whose model is not allowed: allow it in a profile, or install another one."""
    model = servo_model(number)
    if model.is_usable:
        return (
            f"{model.name}: {model.facts}. If it belongs there, write `servo_models: [{model.name}]` for {where} in an "
            "arm profile of your own (--arm my_arm.yaml), with `supply` and limits that fit it"
        )
    return (
        f"{model.name}: {model.facts}; it cannot be used, install an STS3215" if model.facts else "install an STS3215"
    )


def _require_position_mode(port: str, profile: ArmProfile, joint: JointProfile, identity: ServoIdentity) -> None:
    if identity.operating_mode != MODE_POSITION:
        raise InputError(
            f"servo {joint.servo_id} ({joint.name}) is in {mode_name(identity.operating_mode)} mode "
            f"(register {OPERATING_MODE.address} is {identity.operating_mode}, {MODE_POSITION} is position)",
            f"set it back: sefa-edge arm configure --arm {profile.name} --port {port} --write-eeprom",
        )
