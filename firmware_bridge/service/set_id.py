"""`sefa-edge arm set-id`: set the ids of a new arm, one servo at a time.

Guided, it goes from the gripper to the shoulder like LeRobot's setup-motors; with a JOINT it sets up the connected
servo without questions.
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
    """Run the verb; returns 0.

    Raises:
        InputError: writing was not allowed; no servo or more than one; no terminal for the guide.
        ArmFault: the servo did not confirm a write.
        MissingError: no such port, no permission, or another program uses it.
    """
    profile = profile_of(args)
    joint = None if args.joint is None else joint_named(args.joint, profile)
    _require_allowed(args, profile)
    require_usable(args.port)
    if joint is not None:
        print(_set_up(args.port, profile, joint, find_single_servo(args.port, profile.models_of(joint))))
        return 0
    Guide(args.port, profile).run()
    print(f"done. Connect the servos in a chain, then: sefa-edge arm scan --port {args.port}")
    return 0


def _require_allowed(args: argparse.Namespace, profile: ArmProfile) -> None:
    if not args.write_eeprom:
        raise InputError("set-id writes the EEPROM of a servo, which was not allowed", "add --write-eeprom")
    if args.joint is None and not sys.stdin.isatty():
        raise InputError(
            "set-id without a JOINT asks for one servo after the other, which needs a terminal",
            f"set up one joint at a time: sefa-edge arm set-id {profile.joints[-1].name} --write-eeprom …",
        )


class Guide:
    """Guides a person from servo to servo."""

    def __init__(self, port: str, profile: ArmProfile) -> None:
        self._port, self._profile = port, profile
        self._done: dict[int, str] = {}

    def run(self) -> None:
        """Gripper first. Raises InputError if the terminal is closed."""
        joints = list(reversed(self._profile.joints))
        for number, joint in enumerate(joints, 1):
            self._set_up_joint(joint, f"{number}/{len(joints)}")
            self._done[joint.servo_id] = joint.name

    def _set_up_joint(self, joint: JointProfile, count: str) -> None:
        """Repeat until it succeeds; a wrong connection is reported."""
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
        """If the previous servo was left connected, it would lose the id that it has just been given."""
        name = self._done.get(found.servo_id)
        if name is not None:
            raise InputError(f"{found} is the one of {name}, which is done", "connect the next one")


def _wait_for_person(request: str) -> None:
    print(request, end="", flush=True)
    if not sys.stdin.readline():
        raise InputError("the terminal was closed", "joints printed so far are done; continue with `set-id JOINT`")


def _set_up(port: str, profile: ArmProfile, joint: JointProfile, before: Address) -> str:
    """Set the servo up; returns a line that says what was done."""
    after = Address(joint.servo_id, profile.feetech.baud)
    if before == after:
        return f"{joint.name}: already {after}, nothing written"
    write_address(port, before, after)
    return f"{joint.name}: {before} is now {after}, read back and locked"
