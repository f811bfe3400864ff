"""`sefa-edge arm set-id`: the ids of a new arm, one servo at a time.

Guided, it goes from the gripper to the shoulder, as LeRobot's setup-motors does; with a JOINT it sets up the servo
that is connected and asks nothing.
"""

from __future__ import annotations

import argparse
import sys

from sefa_edge.firmware_bridge.host.errors import ArmTimeout
from sefa_edge.firmware_bridge.service.opening import joint_named, profile_of, require_usable
from sefa_edge.firmware_bridge.service.single_servo import Address, find_single_servo, write_address
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile, JointProfile


def main(args: argparse.Namespace) -> int:
    """Do it; returns 0.

    Raises:
        InputError: not allowed to write; no or more than one servo; no terminal to guide anybody on.
        ArmFault: the servo did not confirm a write.
        MissingError: no such port, no permission, or another program has it.
    """
    profile = profile_of(args)
    joint = None if args.joint is None else joint_named(args.joint, profile)
    _require_allowed(args, profile)
    require_usable(args.port)
    if joint is not None:
        print(_set_up(args.port, profile, joint, find_single_servo(args.port, profile.models_of(joint))))
        return 0
    Guide(args.port, profile).lead()
    print(f"all set. Connect the servos in a chain, then: sefa-edge arm scan --port {args.port}")
    return 0


def _require_allowed(args: argparse.Namespace, profile: ArmProfile) -> None:
    if not args.write_eeprom:
        raise InputError("set-id writes the EEPROM of a servo, and was not allowed to", "add --write-eeprom")
    if args.joint is None and not sys.stdin.isatty():
        raise InputError(
            "there is no terminal to guide anybody on",
            f"set up one joint at a time: sefa-edge arm set-id {profile.joints[-1].name} --write-eeprom …",
        )


class Guide:
    """Leads a person from servo to servo."""

    def __init__(self, port: str, profile: ArmProfile) -> None:
        self._port, self._profile = port, profile
        self._done: dict[int, str] = {}

    def lead(self) -> None:
        """Gripper first. Raises InputError when the terminal is closed."""
        joints = list(reversed(self._profile.joints))
        for number, joint in enumerate(joints, 1):
            self._lead_to(joint, f"{number}/{len(joints)}")
            self._done[joint.servo_id] = joint.name

    def _lead_to(self, joint: JointProfile, count: str) -> None:
        """Ask until it has succeeded; a wrong connection is told and asked again."""
        while True:
            _wait_for_person(f"{count}: connect the servo of {joint.name} alone, supply on, then press Enter ")
            try:
                before = find_single_servo(self._port, self._profile.models_of(joint))
                self._require_next(before)
                print(_set_up(self._port, self._profile, joint, before))
                return
            except (InputError, ArmTimeout) as error:
                print(f"{error}\n  {error.hint}")

    def _require_next(self, found: Address) -> None:
        """The servo before this one is easily left connected; it would lose the id that it has just been given."""
        name = self._done.get(found.servo_id)
        if name is not None:
            raise InputError(f"{found} is the one of {name}, which is done", "connect the next one")


def _wait_for_person(request: str) -> None:
    print(request, end="", flush=True)
    if not sys.stdin.readline():
        raise InputError("the terminal was closed", "joints that were told as done are done; go on with `set-id JOINT`")


def _set_up(port: str, profile: ArmProfile, joint: JointProfile, before: Address) -> str:
    """The words for what was done."""
    after = Address(joint.servo_id, profile.feetech.baud)
    if before == after:
        return f"{joint.name}: is {after} already, nothing written"
    write_address(port, before, after)
    return f"{joint.name}: {before} is now {after}, read back and locked"
