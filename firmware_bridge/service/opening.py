"""From the arguments of a command to an arm: its profile, its port, its bus. Nothing here writes to a servo."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.calibration import Calibration, read_calibration
from sefa_edge.firmware_bridge.host.calibration_files import find_calibration
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.open_arm import open_arm
from sefa_edge.firmware_bridge.host.port_access import require_access
from sefa_edge.firmware_bridge.host.port_choice import require_identified_arm
from sefa_edge.firmware_bridge.host.port_lock import require_free
from sefa_edge.firmware_bridge.host.same_arm import SameArm
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.console import printable
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile, JointProfile
from sefa_edge.profiles.simulated_arm import arm_profile_name


def profile_of(args: argparse.Namespace) -> ArmProfile:
    """The arm that `--arm` names. Raises InputError."""
    return load_arm_profile(arm_profile_name(args.arm))


def calibration_of(args: argparse.Namespace, profile: ArmProfile) -> Calibration | None:
    """The calibration of `--calibration`; None: the one in the servos is used. Raises InputError."""
    if args.calibration is None:
        return None
    return load_with_notes(find_calibration(args.calibration, profile), profile)


def load_with_notes(path: Path, profile: ArmProfile) -> Calibration:
    """The calibration in a file; prints notes about the file to standard error. Raises InputError."""
    found = read_calibration(path, profile)
    for note in found.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    return found.calibration


def joint_named(name: str, profile: ArmProfile) -> JointProfile:
    """A joint of the arm. Raises InputError, which lists the joints."""
    for joint in profile.joints:
        if joint.name == name:
            return joint
    raise InputError(f"the arm {profile.name} has no joint '{name}'", f"its joints: {', '.join(profile.joint_names)}")


def require_usable(port: str) -> None:
    """Refuse a port that another program uses, or that this user may not open. Raises MissingError."""
    require_free(Path(port))
    require_access(port)


@contextmanager
def open_bus(port: str, baud: int) -> Iterator[ServoBus]:
    """The servos on a port; the port is open and locked inside the block.

    Raises:
        MissingError: no such port, no permission, or another program uses it.
        ArmDisconnected: the port vanished.
    """
    require_usable(port)
    link = Link.open(port, baud)
    try:
        yield ServoBus(link)
    finally:
        link.close()


def arm_opener(args: argparse.Namespace, profile: ArmProfile, emergency: Emergency | None = None) -> Callable[[], Arm]:
    """A function that opens the arm again each time its port comes back, and refuses any arm but the first.

    Raises:
        InputError: the calibration does not fit the profile, or is needed to identify the arm.
    """
    calibration = calibration_of(args, profile)
    if calibration is None:
        require_identified_arm(args.port)

    def open_again() -> Arm:
        require_usable(args.port)
        return open_arm(profile, args.port, calibration, emergency)

    return SameArm(open_again)
