"""`sefa-edge arm free`: torque off in every servo of the arm, each read back. The arm drops."""

from __future__ import annotations

import argparse
import sys

from sefa_edge.edge.arm_service.opening import open_bus, profile_of
from sefa_edge.firmware_bridge.host.errors import ArmTimeout, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech.registers import TORQUE_BLOCK, TORQUE_OFF
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile

ATTEMPTS = 5
WORDS_OF_CONSENT = ("y", "yes")


def main(args: argparse.Namespace) -> int:
    """Do it; 0, or 1 when a person said no.

    Raises:
        InputError: nobody there to ask, and no --yes.
        ArmTimeout: no servo answers.
        ArmUnconfirmed: a servo still holds, or is silent; the others are free.
        MissingError: no such port, no permission, or another program has it.
    """
    profile = profile_of(args)
    with open_bus(args.port, profile.baud) as bus:
        holding = _holding(bus, profile)
        if holding and not (args.yes or _consents(holding)):
            print("nothing done")
            return 1
        release(bus, profile)
    were = f"held before: {', '.join(holding)}" if holding else "none of them held"
    print(f"torque off, read back from all {len(profile.joints)} servos ({were})")
    return 0


def release(bus: ServoBus, profile: ArmProfile) -> None:
    """Torque off wherever it is heard, and read back. Raises ArmUnconfirmed, ArmDisconnected."""
    left = {joint.servo_id: joint.name for joint in profile.joints}
    for _ in range(ATTEMPTS):
        bus.sync_write(TORQUE_BLOCK.address, [(servo_id, bytes((TORQUE_OFF,))) for servo_id in left])
        for servo_id, answer in bus.sync_read(tuple(left), TORQUE_BLOCK).items():
            if servo_id in left and answer.parameters[0] == TORQUE_OFF:
                del left[servo_id]
        if not left:
            return
    raise ArmUnconfirmed(tuple(left.values()), "confirm that its torque is off; the others are free")


def _holding(bus: ServoBus, profile: ArmProfile) -> list[str]:
    """Joints whose torque is on, or who do not say."""
    servo_ids = [joint.servo_id for joint in profile.joints]
    answers = {}
    for _ in range(ATTEMPTS):
        answers |= bus.sync_read(servo_ids, TORQUE_BLOCK)
        if answers.keys() >= set(servo_ids):
            break
    if not answers:
        raise ArmTimeout(
            f"no servo of {profile.name} answers on {bus.link.port} at {bus.link.baud} baud",
            "is this the right port? an arm without supply is free already",
        )
    return [
        joint.name
        for joint in profile.joints
        if joint.servo_id not in answers or answers[joint.servo_id].parameters[0] != TORQUE_OFF
    ]


def _consents(holding: list[str]) -> bool:
    warning = f"{', '.join(holding)} will let go: THE ARM DROPS. Support it."
    if not sys.stdin.isatty():
        raise InputError(f"the arm would drop: {', '.join(holding)} let go", "support it, then add --yes")
    print(f"{warning} Let go? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in WORDS_OF_CONSENT
